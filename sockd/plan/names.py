"""Looks up what the file names: protocols and their options, users, groups."""

import grp
import pwd
from collections.abc import Iterable, Mapping

from pydantic import ValidationError

from sockd.base.errors import Problem, ProtocolUnavailableError
from sockd.base.spelling import offer
from sockd.config import keys, problems
from sockd.config.load import Written
from sockd.protocols.contract import Options, Specification
from sockd.protocols.registry import Registry


def specification(written: Written, registry: Registry, found: list[Problem]) -> Specification | None:
    """The protocol of an endpoint, or None, with the problem in `found`."""
    name = written.endpoint.protocol
    if not name:  # it could not be read, which is a problem already
        if "protocol" in written.value and written.value["protocol"] == "":
            found.append(written.problem("the name of a protocol is expected here", "protocol"))
        return None
    try:
        return registry.get(name)
    except ProtocolUnavailableError as error:
        found.append(written.problem(str(error), "protocol"))
        return None


def options_of(name: str, registry: Registry) -> list[str]:
    """The names of a protocol's options; none where it can't be had, which is a problem of its own."""
    try:
        return keys.of_model(registry.get(name).options)
    except ProtocolUnavailableError:
        return []


def options(
    written: Written, model: type[Options], context: Mapping[str, object], found: list[Problem]
) -> Options | None:
    """The options of an endpoint as its protocol reads them, or None, with the problems in `found`."""
    steps = (*written.steps, "options")
    value = written.value.get("options", {})
    if not isinstance(value, dict):
        return None  # which is a problem already
    try:
        return model.model_validate(value, context=dict(context))
    except ValidationError as error:
        found += problems.of_model(error, model, written.root, steps)
    except Exception as error:  # noqa: BLE001 - whatever a third party's validator does
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        text = f"the protocol {written.endpoint.protocol!r} failed to read its options: {reason[:300]}"
        found.append(written.problem(text, "options"))
    return None


def user(account: str | int | None) -> int | None:
    """The number of a user; ValueError where there is none of this name."""
    if not isinstance(account, str):
        return account
    try:
        return pwd.getpwnam(account).pw_uid
    except KeyError:
        known = (entry.pw_name for entry in pwd.getpwall())
        raise ValueError(f"there is no user {account!r} on this machine{_near(account, known)}") from None


def group(account: str | int | None) -> int | None:
    """The number of a group; ValueError where there is none of this name."""
    if not isinstance(account, str):
        return account
    try:
        return grp.getgrnam(account).gr_gid
    except KeyError:
        known = (entry.gr_name for entry in grp.getgrall())
        raise ValueError(f"there is no group {account!r} on this machine{_near(account, known)}") from None


def _near(account: str, known: Iterable[str]) -> str:
    text = offer(account, known)
    return text if text.startswith(",") else ""  # else it is a list of all of them
