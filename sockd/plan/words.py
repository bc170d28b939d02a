"""Changes in the file's words: for `sockd diff` and `sockd reload`, for programs, and for the log."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache

from sockd.config.form import OFF
from sockd.plan import applies
from sockd.plan.changes import (
    Action,
    Changes,
    EndpointChange,
    Kind,
    Part,
    ProtocolChange,
)
from sockd.plan.plan import CertificatePlan, EndpointPlan, Limits, TlsPlan
from sockd.plan.show import (
    Tree,
    daemon_tree,
    guards_tree,
    in_line,
    limits_tree,
    options_tree,
    required_tree,
    socket_tree,
    tls_tree,
)
from sockd.protocols.contract import Options
from sockd.transports.sockets.options import SocketOptions

_UNSET = object()
_MAX_VALUE = 100  # characters that are shown of a value


def as_json(changes: Changes) -> Tree:
    """The changes as the control socket reports them."""
    tree: Tree = {
        kind: [{"name": change.name, "details": list(details(change))} for change in changes.of(kind)]
        for kind in Kind
    }
    tree[Kind.UNCHANGED] = [change.name for change in changes.of(Kind.UNCHANGED)]
    return {str(kind): found for kind, found in tree.items()} | {"daemon": settings(changes)}


def counts(changes: Changes) -> dict[str, int]:
    """How many endpoints there are of each kind: `{"updated": 1}`."""
    found = Counter(change.kind for change in changes.endpoints)
    return {str(kind): found[kind] for kind in Kind if found[kind]}


def summary(changes: Changes) -> str:
    """The same in one line."""
    parts = [f"{count} {kind}" for kind, count in counts(changes).items()] or ["no endpoints"]
    return ", ".join([*parts, "the daemon's settings changed"] if changes.settings else parts)


def settings(changes: Changes) -> list[str]:
    """A line about each of the daemon's own settings that differs."""
    unset = {"control": OFF, "control_group": OFF}
    return _lines(unset | daemon_tree(changes.old), unset | daemon_tree(changes.new))


def details(change: EndpointChange) -> tuple[str, ...]:
    """A line about each difference of an endpoint; an unchanged one has none, and no other is without."""
    old, new = change.old, change.new
    if old is None or new is None:
        return (*_addresses(change), *change.notes)
    lines = [*_protocol(change, old, new), *_listeners(change), *_parts(change.parts, old, new)]
    # A value may differ though nothing that is shown of it does.
    lines = lines or [f"{part}: changed" for part in sorted(change.parts)]
    return (*lines, *change.notes)


def _addresses(change: EndpointChange) -> Iterator[str]:
    plan = change.new or change.old
    assert plan is not None  # noqa: S101 - there is one of the two
    if change.switched:
        yield "enabled: false -> true" if change.old is None else "enabled: true -> false"
    for listener in plan.listeners:
        yield str(listener.address)


# -- protocol and listeners --------------------------------------------------------------------------------


def _protocol(change: EndpointChange, old: EndpointPlan, new: EndpointPlan) -> Iterator[str]:
    match change.protocol:
        case ProtocolChange.OTHER:
            yield f"protocol: {old.protocol} -> {new.protocol}"
        case ProtocolChange.OTHER_PACKAGE:
            yield f"protocol: {new.protocol} of another package"
        case ProtocolChange.STARTED_ANEW:
            yield f"protocol: {new.protocol} started anew, which can't take options while it runs"


def _listeners(change: EndpointChange) -> Iterator[str]:
    """What is opened comes first, then what is closed, then sockets that change."""
    for listener in change.listeners:
        if listener.action is Action.OPENED and listener.new is not None:
            yield f"+ {listener.new.address}"
    for listener in change.listeners:
        if listener.action is Action.CLOSED and listener.old is not None:
            yield f"- {listener.old.address}"
    for listener in change.listeners:
        if listener.old is not None and listener.new is not None and listener.action is not Action.KEPT:
            if listener.waits:
                what = "future socket of"
            else:
                what = "new socket of" if listener.action is Action.REBOUND else "socket of"
            sockets = [(one.socket, one.tls) for one in (listener.old, listener.new)]
            words = _socket_words(*sockets)
            yield f"{what} {listener.new.address}" + (f": {words}" if words else "")


_Socket = tuple[SocketOptions, bool]  # and whether TLS is spoken


@lru_cache(maxsize=64)  # a change in `defaults` is the same change many times
def _socket_words(old: _Socket, new: _Socket) -> str:
    before, after = ({"tls": tls} | socket_tree(options) for options, tls in (old, new))
    return ", ".join(f"{key} {how}" for key, how in _differences(before, after))


# -- what is set anew while it runs ------------------------------------------------------------------------


def _parts(parts: frozenset[Part], old: EndpointPlan, new: EndpointPlan) -> Iterator[str]:
    if Part.OPTIONS in parts:
        yield from _options(old.options, new.options)
    if Part.LIMITS in parts:
        yield from _limits(old, new)
    if Part.TLS in parts:
        yield from _tls(old.tls, new.tls)
    if parts & {Part.ACCESS, Part.PROXIES}:
        trees = [guards_tree(replace(one, tls=None)) for one in (old, new)]
        for section in trees[0] | trees[1]:
            yield from _in_section(section, *(tree.get(section, {}) for tree in trees))
    if Part.RESTART in parts:
        before, after = ({"restart": one.restart.model_dump(mode="json")} for one in (old, new))
        yield from _lines(before, after)
    if Part.LOG in parts:
        before, after = ({"log": one.log.model_dump(mode="json")} for one in (old, new))
        yield from _lines(before, after)
    if Part.REQUIRED in parts:
        before, after = ({"required": required_tree(one.give_up_after)} for one in (old, new))
        yield from _lines(before, after)


def _limits(old: EndpointPlan, new: EndpointPlan) -> Iterator[str]:
    """Those that mean something for the addresses before and after: the others come and go with theirs."""
    before, after = ([listener.address for listener in one.listeners] for one in (old, new))
    for key, line in _limit_lines(old.limits, new.limits):
        if applies.limit(key, before) and applies.limit(key, after):
            yield line


@lru_cache(maxsize=64)  # as with sockets
def _limit_lines(old: Limits, new: Limits) -> tuple[tuple[str, str], ...]:
    """Keys that differ, and the line about each."""
    words = _differences(limits_tree(old), limits_tree(new))
    return tuple((key, f"limits.{key}: {how}") for key, how in words)


def _in_section(section: str, old: Tree, new: Tree) -> Iterator[str]:
    """What differs in a section whose keys are all off by default."""
    unset = dict.fromkeys(old | new, OFF)
    yield from _lines({section: unset | old}, {section: unset | new})


def _tls(old: TlsPlan | None, new: TlsPlan | None) -> Iterator[str]:
    """Of a certificate's key there is nothing to say: only that key fits the certificate."""
    before, after = _tls_tree(old), _tls_tree(new)
    yield from _in_section("tls", before, after)
    if old is None or new is None:
        return
    for key in ("certificates", "client_ca"):
        if before.get(key) == after.get(key) and getattr(old, key) != getattr(new, key):
            yield f"tls.{key}: changed"


def _tls_tree(tls: TlsPlan | None) -> Tree:
    if tls is None:
        return {}
    tree = {key: value for key, value in tls_tree(tls).items() if key not in ("certificate", "key", "names")}
    return tree | {"certificates": [_until(one) for one in tls.certificates]}


def _until(certificate: CertificatePlan) -> str:
    return f"{certificate.file.name} until {datetime.fromtimestamp(certificate.not_after, UTC):%Y-%m-%d}"


def _options(old: Options, new: Options) -> Iterator[str]:
    # Of two protocols, only what was written is compared.
    alike = type(old) is type(new)
    before, after = options_tree(old, whole=alike), options_tree(new, whole=alike)
    yield from _lines({"options": before}, {"options": after})
    for name, field in type(new).model_fields.items() if alike else ():
        key = field.alias or name
        # Secrets look the same as text, and so does what has no form as text.
        if before.get(key) == after.get(key) and getattr(old, name) != getattr(new, name):
            yield f"options.{key}: changed"


# -- trees -------------------------------------------------------------------------------------------------


def _lines(old: Tree, new: Tree) -> list[str]:
    """A line about each key below which the trees differ."""
    return [f"{key}: {how}" for key, how in _differences(old, new)]


def _differences(old: Tree, new: Tree, above: str = "") -> Iterator[tuple[str, str]]:
    """The keys below which the trees differ, as `limits.idle`, and how they do."""
    for key in old | new:
        one, other = old.get(key, _UNSET), new.get(key, _UNSET)
        if one == other and type(one) is type(other):
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _differences(one, other, f"{above}{key}.")
        else:
            before, after = _shown(one), _shown(other)
            yield f"{above}{key}", "changed" if before == after else f"{before} -> {after}"


def _shown(value: object) -> str:
    text = "unset" if value is _UNSET else in_line(value)
    return text if len(text) <= _MAX_VALUE else f"{text[: _MAX_VALUE - 3]}..."
