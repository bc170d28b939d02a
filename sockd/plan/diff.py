"""Compares two plans, endpoint by endpoint and listener by listener. Pure.

The listeners of an endpoint are paired by their addresses, of which one may stand there several times, as a
shared port does. A pair costs the less the more alike it is: equal listeners first, then those whose socket
can stay open, then the rest, where a socket is closed and another one opened. Among those whose socket can
stay, the listener with the fewest old ones to choose from chooses first: whether a socket can stay depends on
two options alone (`sockets.opening.retunable`), so that each choice of such a listener is one that the others
have too, and no order leaves more sockets open.
"""

from collections.abc import Container, Iterator
from dataclasses import fields

from sockd.base.addresses import Address
from sockd.plan import applies
from sockd.plan.changes import (
    Action,
    Changes,
    EndpointChange,
    ListenerChange,
    Part,
    ProtocolChange,
    Setting,
)
from sockd.plan.plan import EndpointPlan, Limits, ListenerPlan, Plan
from sockd.transports.sockets.opening import retunable


def diff(old: Plan, new: Plan, without_reload: Container[str] = ()) -> Changes:
    """What makes the one plan the other.

    `without_reload` are the names of endpoints whose running service can't take other options: the plans
    don't know it, and the service is replaced then.
    """
    before = {endpoint.name: endpoint for endpoint in old.endpoints}
    after = {endpoint.name for endpoint in new.endpoints}
    was_disabled = {endpoint.name for endpoint in old.disabled}
    is_disabled = {endpoint.name for endpoint in new.disabled}
    changes = []
    for endpoint in new.endpoints:
        known = before.get(endpoint.name)
        if known is None:
            changes.append(_added(endpoint, switched=endpoint.name in was_disabled))
        else:
            changes.append(_changed(known, endpoint, can_reload=endpoint.name not in without_reload))
    changes += [
        _removed(endpoint, switched=endpoint.name in is_disabled)
        for endpoint in old.endpoints
        if endpoint.name not in after
    ]
    return Changes(old, new, tuple(changes), frozenset(_settings(old, new)))


def _settings(old: Plan, new: Plan) -> Iterator[Setting]:
    if old.drain != new.drain:
        yield Setting.DRAIN
    if old.log != new.log:
        yield Setting.LOG
    if old.control != new.control:
        yield Setting.CONTROL
    if (old.control_user, old.control_group) != (new.control_user, new.control_group):
        yield Setting.CONTROL_ACCESS


def _added(endpoint: EndpointPlan, *, switched: bool) -> EndpointChange:
    opened = tuple(ListenerChange(Action.OPENED, new=each) for each in endpoint.listeners)
    return EndpointChange(endpoint.name, None, endpoint, opened, switched=switched)


def _removed(endpoint: EndpointPlan, *, switched: bool) -> EndpointChange:
    closed = tuple(_closed(endpoint.listeners, range(len(endpoint.listeners))))
    return EndpointChange(endpoint.name, endpoint, None, closed, switched=switched)


def _closed(listeners: tuple[ListenerPlan, ...], positions: range | list[int]) -> Iterator[ListenerChange]:
    for position in positions:
        yield ListenerChange(Action.CLOSED, old=listeners[position], position=position)


def _changed(old: EndpointPlan, new: EndpointPlan, *, can_reload: bool) -> EndpointChange:
    if old == new:
        return EndpointChange(new.name, old, new, equal=True)
    parts = frozenset(_parts(old, new))
    return EndpointChange(
        new.name,
        old,
        new,
        tuple(_listeners(old.listeners, new.listeners)),
        _protocol(old, new, options=Part.OPTIONS in parts, can_reload=can_reload),
        parts,
    )


# -- protocol, and what is set anew while it runs ----------------------------------------------------------


def _protocol(old: EndpointPlan, new: EndpointPlan, *, options: bool, can_reload: bool) -> ProtocolChange:
    if old.protocol != new.protocol:
        return ProtocolChange.OTHER
    if old.specification != new.specification:
        return ProtocolChange.OTHER_PACKAGE
    return ProtocolChange.STARTED_ANEW if options and not can_reload else ProtocolChange.NONE


def _host_differs(old: EndpointPlan, new: EndpointPlan) -> bool:
    """Whether the protocol's factory is to have another host: with TLS that it may start, or without."""
    return new.specification.starts_tls and (old.tls is None) != (new.tls is None)


def _parts(old: EndpointPlan, new: EndpointPlan) -> Iterator[Part]:
    if type(old.options) is not type(new.options) or old.options != new.options or _host_differs(old, new):
        yield Part.OPTIONS
    if _limits_differ(old, new):
        yield Part.LIMITS
        if any(getattr(old.limits, key) != getattr(new.limits, key) for key in _LIMITS_OF_A_SOURCE):
            yield Part.SOURCES
    if old.tls != new.tls:
        yield Part.TLS
    if old.access != new.access:
        yield Part.ACCESS
    if old.proxy_from != new.proxy_from:
        yield Part.PROXIES
    if old.restart != new.restart:
        yield Part.RESTART
    if old.give_up_after != new.give_up_after:
        yield Part.REQUIRED
    if old.log != new.log:
        yield Part.LOG


_LIMITS = tuple(field.name for field in fields(Limits))
_LIMITS_OF_A_SOURCE = ("connections_per_source", "connect_rate", "exempt")


def _limits_differ(old: EndpointPlan, new: EndpointPlan) -> bool:
    """Whether a limit differs that means something for an address of either plan."""
    if old.limits == new.limits:
        return False
    addresses = [listener.address for listener in (*old.listeners, *new.listeners)]
    return any(
        getattr(old.limits, key) != getattr(new.limits, key) and applies.limit(key, addresses)
        for key in _LIMITS
    )


# -- listeners ---------------------------------------------------------------------------------------------


def _listeners(before: tuple[ListenerPlan, ...], after: tuple[ListenerPlan, ...]) -> Iterator[ListenerChange]:
    """Their order is no difference."""
    pairs = _pairs(before, after)
    for number, new in enumerate(after):
        position = pairs.get(number)
        if position is None:
            yield ListenerChange(Action.OPENED, new=new)
        else:
            old = before[position]
            yield ListenerChange(_action(old, new), old, new, position)
    paired = set(pairs.values())
    yield from _closed(before, [position for position in range(len(before)) if position not in paired])


def _action(old: ListenerPlan, new: ListenerPlan) -> Action:
    if old == new:
        return Action.KEPT
    if not retunable(old.socket, new.socket):
        return Action.REBOUND
    return Action.TUNED if old.tls == new.tls else Action.PASSED


def _pairs(before: tuple[ListenerPlan, ...], after: tuple[ListenerPlan, ...]) -> dict[int, int]:
    """For each new listener that an old one becomes, the positions of both."""
    if before == after:
        return {position: position for position in range(len(after))}
    there: dict[Address, list[int]] = {}
    wanted: dict[Address, list[int]] = {}
    for position, old in enumerate(before):
        there.setdefault(old.address, []).append(position)
    for number, new in enumerate(after):
        wanted.setdefault(new.address, []).append(number)
    pairs: dict[int, int] = {}
    for address, numbers in wanted.items():
        left = there.get(address, [])
        for suits in (_equal, _tunable, _passable, _any):
            choices = {
                number: [position for position in left if suits(before[position], after[number])]
                for number in numbers
                if number not in pairs
            }
            for number in sorted(choices, key=lambda each: len(choices[each])):
                free = [position for position in choices[number] if position in left]
                if free:
                    pairs[number] = free[0]
                    left.remove(free[0])
    return pairs


def _equal(old: ListenerPlan, new: ListenerPlan) -> bool:
    return old == new


def _tunable(old: ListenerPlan, new: ListenerPlan) -> bool:
    return _passable(old, new) and old.tls == new.tls


def _passable(old: ListenerPlan, new: ListenerPlan) -> bool:
    return retunable(old.socket, new.socket)


def _any(_old: ListenerPlan, _new: ListenerPlan) -> bool:
    return True
