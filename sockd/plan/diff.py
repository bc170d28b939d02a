"""What a reload would change: two plans compared, endpoint by endpoint, in the file's words."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any

from sockd.base.addresses import Address
from sockd.config.types import OFF
from sockd.plan import applies
from sockd.plan.plan import CertificatePlan, EndpointPlan, Limits, Plan, TlsPlan
from sockd.plan.show import (
    daemon_tree,
    guards_tree,
    in_line,
    limits_tree,
    required_tree,
    restart_tree,
    socket_tree,
    tls_tree,
)
from sockd.protocols.contract import Options
from sockd.transports.sockets.options import SocketOptions

_UNSET = object()


_LONGEST_SHOWN = 100  # characters of a value


def lines(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """A line about each key below which the trees differ."""
    return [f"{key}: {how}" for key, how in differences(old, new)]


def differences(old: dict[str, Any], new: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """The keys below which the trees differ, as `limits.idle`, and how they do."""
    for key in old | new:
        one, other = old.get(key, _UNSET), new.get(key, _UNSET)
        if one == other and type(one) is type(other):
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            yield from differences(one, other, f"{above}{key}.")
        else:
            before, after = _shown(one), _shown(other)
            yield f"{above}{key}", "changed" if before == after else f"{before} -> {after}"


def _shown(value: Any) -> str:
    text = "unset" if value is _UNSET else in_line(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."


_Socket = tuple[SocketOptions, bool]  # and whether TLS is spoken


class Kind(StrEnum):
    ADDED = "added"
    REMOVED = "removed"
    RE_BOUND = "re-bound"  # other listeners, or another protocol; perhaps more
    RE_TUNED = "re-tuned"  # the same listeners and protocol, something else differs
    UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Change:
    """What becomes of one endpoint; `details` are empty for an unchanged one, and for no other."""

    name: str
    kind: Kind
    old: EndpointPlan | None
    new: EndpointPlan | None
    details: tuple[str, ...]


@dataclass(frozen=True)
class Changes:
    """All endpoints, in the order of the new file, then those that it lacks; and the daemon's settings."""

    endpoints: tuple[Change, ...]
    daemon: tuple[str, ...]

    def of(self, kind: Kind) -> tuple[Change, ...]:
        return tuple(change for change in self.endpoints if change.kind is kind)

    @property
    def none(self) -> bool:
        """Whether the plans are the same."""
        return not self.daemon and all(change.kind is Kind.UNCHANGED for change in self.endpoints)

    def as_json(self) -> dict[str, Any]:
        """As the control socket tells it."""
        tree: dict[str, Any] = {
            kind: [{"name": change.name, "details": list(change.details)} for change in self.of(kind)]
            for kind in Kind
        }
        tree[Kind.UNCHANGED] = [change.name for change in self.of(Kind.UNCHANGED)]
        return {str(kind): changes for kind, changes in tree.items()} | {"daemon": list(self.daemon)}

    def summary(self) -> str:
        """How many of each kind, in one line."""
        counts = Counter(change.kind for change in self.endpoints)
        parts = [f"{counts[kind]} {kind}" for kind in Kind if counts[kind]] or ["no endpoints"]
        return ", ".join([*parts, "the daemon's settings changed"] if self.daemon else parts)


def diff(old: Plan, new: Plan) -> Changes:
    """What makes the one plan the other."""
    before = {endpoint.name: endpoint for endpoint in old.endpoints}
    after = {endpoint.name: endpoint for endpoint in new.endpoints}
    was_off = {endpoint.name for endpoint in old.disabled}
    is_off = {endpoint.name for endpoint in new.disabled}
    changes = []
    for endpoint in new.endpoints:
        known = before.get(endpoint.name)
        if known is not None:
            changes.append(_change(known, endpoint))
        else:
            turned = ["enabled: false -> true"] if endpoint.name in was_off else []
            details = (*turned, *_addresses(endpoint))
            changes.append(Change(endpoint.name, Kind.ADDED, None, endpoint, details))
    for endpoint in old.endpoints:
        if endpoint.name not in after:
            turned = ["enabled: true -> false"] if endpoint.name in is_off else []
            details = (*turned, *_addresses(endpoint))
            changes.append(Change(endpoint.name, Kind.REMOVED, endpoint, None, details))
    unset = {"control": OFF, "control_group": OFF}
    daemon = lines(unset | daemon_tree(old), unset | daemon_tree(new))
    return Changes(tuple(changes), tuple(daemon))


def _addresses(endpoint: EndpointPlan) -> tuple[str, ...]:
    return tuple(str(listener.address) for listener in endpoint.listeners)


def _change(old: EndpointPlan, new: EndpointPlan) -> Change:
    if old == new:
        return Change(new.name, Kind.UNCHANGED, old, new, ())
    bound = [*_protocol(old, new), *_listeners(old, new)]
    tuned = list(_tuning(old, new))
    kind = Kind.RE_BOUND if bound else Kind.RE_TUNED if tuned else Kind.UNCHANGED
    return Change(new.name, kind, old, new, (*bound, *tuned))


# -- protocol and listeners --------------------------------------------------------------------------------


def _protocol(old: EndpointPlan, new: EndpointPlan) -> Iterator[str]:
    if old.protocol != new.protocol:
        yield f"protocol: {old.protocol} -> {new.protocol}"
    elif old.specification != new.specification:
        yield f"protocol: {new.protocol} of another package"


def _listeners(old: EndpointPlan, new: EndpointPlan) -> Iterator[str]:
    """Their order is no difference; an address may stand there several times, as a shared port does."""
    before, after = _sockets(old), _sockets(new)
    less, more, sockets = [], [], []
    for address in before | after:
        gone = _without(before.get(address, []), after.get(address, []))
        come = _without(after.get(address, []), before.get(address, []))
        both = min(len(gone), len(come))
        less += [f"- {address}"] * (len(gone) - both)
        more += [f"+ {address}"] * (len(come) - both)
        sockets += [f"socket of {address}: {_words(*pair)}" for pair in zip(gone, come, strict=False)]
    yield from (*more, *less, *sockets)


@lru_cache(maxsize=64)  # a change in `defaults` is the same change many times
def _words(old: _Socket, new: _Socket) -> str:
    before, after = ({"tls": tls} | socket_tree(options) for options, tls in (old, new))
    return ", ".join(f"{key} {how}" for key, how in differences(before, after))


def _sockets(endpoint: EndpointPlan) -> dict[Address, list[_Socket]]:
    sockets: dict[Address, list[_Socket]] = {}
    for listener in endpoint.listeners:
        sockets.setdefault(listener.address, []).append((listener.socket, listener.tls))
    return sockets


def _without(some: list[_Socket], others: list[_Socket]) -> list[_Socket]:
    return list((Counter(some) - Counter(others)).elements())


# -- what can change while it runs -------------------------------------------------------------------------


def _tuning(old: EndpointPlan, new: EndpointPlan) -> Iterator[str]:
    """What is no matter of listeners."""
    yield from _options(old.options, new.options)
    means_something = [
        {key for key in _LIMITS if applies.limit(key, (one.address for one in endpoint.listeners))}
        for endpoint in (old, new)
    ]
    for key, line in _limits(old.limits, new.limits):
        if all(key in keys for keys in means_something):
            yield line
    yield from _tls(old.tls, new.tls)
    if (old.access, old.proxy_from) != (new.access, new.proxy_from):
        trees = [guards_tree(replace(one, tls=None)) for one in (old, new)]
        for section in trees[0] | trees[1]:
            yield from _in_section(section, *(tree.get(section, {}) for tree in trees))
    if old.restart != new.restart:
        yield from lines({"restart": restart_tree(old.restart)}, {"restart": restart_tree(new.restart)})
    if old.give_up_after != new.give_up_after:
        required = [{"required": required_tree(one.give_up_after)} for one in (old, new)]
        yield from lines(*required)


def _in_section(section: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    """What differs in a section whose keys are all off by default."""
    unset = dict.fromkeys(old | new, OFF)
    yield from lines({section: unset | old}, {section: unset | new})


def _tls(old: TlsPlan | None, new: TlsPlan | None) -> Iterator[str]:
    """Of keys nothing is told: there is no other key for the same certificate."""
    if old == new:
        return
    before, after = _tls_tree(old), _tls_tree(new)
    yield from _in_section("tls", before, after)
    if old is None or new is None:
        return
    for key in ("certificates", "client_ca"):
        if before.get(key) == after.get(key) and getattr(old, key) != getattr(new, key):
            yield f"tls.{key}: changed"


def _tls_tree(tls: TlsPlan | None) -> dict[str, Any]:
    if tls is None:
        return {}
    tree = {key: value for key, value in tls_tree(tls).items() if key not in ("certificate", "key", "names")}
    return tree | {"certificates": [_until(one) for one in tls.certificates]}


def _until(certificate: CertificatePlan) -> str:
    return f"{certificate.file.name} until {datetime.fromtimestamp(certificate.not_after, UTC):%Y-%m-%d}"


_LIMITS = tuple(field.name for field in fields(Limits))


@lru_cache(maxsize=64)  # as with sockets
def _limits(old: Limits, new: Limits) -> tuple[tuple[str, str], ...]:
    """Keys that differ, and the line about each."""
    words = differences(limits_tree(old), limits_tree(new))
    return tuple((key, f"limits.{key}: {how}") for key, how in words)


def _options(old: Options, new: Options) -> Iterator[str]:
    alike = type(old) is type(
        new
    )  # else what they don't have in common is told only as far as it was written
    if alike and old == new:
        return
    before, after = _options_tree(old, whole=alike), _options_tree(new, whole=alike)
    yield from lines({"options": before}, {"options": after})
    for name, field in type(new).model_fields.items() if alike else ():
        key = field.alias or name
        # Secrets, and what has no form as text, look the same.
        if before.get(key) == after.get(key) and getattr(old, name) != getattr(new, name):
            yield f"options.{key}: changed"


def _options_tree(options: Options, *, whole: bool) -> dict[str, Any]:
    try:
        return options.model_dump(mode="json", by_alias=True, exclude_defaults=not whole)
    except Exception:  # noqa: BLE001 - a third party's types
        return {}
