"""Finds the endpoint that an object or a frame of Python's belongs to, as far as that can be seen.

Nothing notes at an event whose it is: that would cost every echo something. Instead the objects are looked at
that the frames of a call have: sockd's own, such as a connection, are known, and a protocol's lead to them.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from types import FrameType

from sockd.plan.plan import EndpointPlan
from sockd.protocols.contract import Host
from sockd.transports.connection import Connection
from sockd.tree.connections import Connections
from sockd.tree.endpoint import Endpoint
from sockd.tree.supervisor import Supervisor

OURS = "sockd"
_WRAPPERS = 4  # of Twisted's policies around one transport, at most


class Owners:
    """The endpoints at this moment, and what belongs to them."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self._endpoints = list(endpoints)

    @cached_property
    def _names(self) -> dict[int, str]:
        """Their names, by the identity of what belongs to them. With 100 endpoints it takes 0.3 ms."""
        names: dict[int, str] = {}
        for endpoint in self._endpoints:
            connections = endpoint.connections
            things = (endpoint, connections, connections.work, endpoint.engine, *endpoint.listeners)
            hosted = (endpoint.host.service, endpoint.engine.factory)
            ports = (listener.descriptor for listener in endpoint.listeners)
            protocols = (listener.protocol for listener in endpoint.datagram_listeners)
            for thing in (*things, *hosted, *ports, *protocols):
                if thing is not None:
                    names[id(thing)] = endpoint.name
        return names

    def of(self, thing: object) -> str:
        """The endpoint of an object that sockd has or knows; "" for any other, or one of all endpoints'."""
        return _of_known(thing) or self._names.get(id(thing), "")

    def of_hosted(self, thing: object) -> str:
        """The same for a third party's object too, by what it refers to, such as its transport."""
        for _ in range(_WRAPPERS):
            if thing is None:
                break
            with suppress(BaseException):  # of a third party's `__dict__`
                around = tuple(vars(thing).values())
                found = next(filter(None, map(_of_known, around)), "")
                found = found or self.of(thing) or next(filter(None, map(self.of, around)), "")
                if found:
                    return found
            following = None
            with suppress(BaseException):  # of its `__getattr__`
                following = getattr(thing, "transport", None)
            thing = following
            found = self.of(thing)
            if found:
                return found
        return ""

    def of_frames(self, frames: Iterable[FrameType]) -> str:
        """The endpoint of the first of these frames, innermost first, that shows one."""
        for frame in frames:
            found = self._of_frame(frame)
            if found:
                return found
        return ""

    def _of_frame(self, frame: FrameType) -> str:
        local = frame.f_locals
        package = package_of(frame)
        if package == OURS:
            return self.of(local.get("self")) or self.of(local.get("endpoint"))
        found = self.of_hosted(local.get("self"))
        if found or package == "twisted":
            return found
        # A function of the protocol's, which may have the host, or a connection, in its closure.
        for each in tuple(local.values()):
            found = self.of(each)
            if found:
                return found
        return ""

    def by_module(self, frames: Iterable[FrameType]) -> tuple[str, ...]:
        """The endpoints whose protocol's package has the first of these frames that is any protocol's."""
        packages: dict[str, list[str]] = {}
        for endpoint in self._endpoints:
            for package in packages_of(endpoint.plan):
                packages.setdefault(package, []).append(endpoint.name)
        for frame in frames:
            names = packages.get(package_of(frame))
            if names:
                return tuple(dict.fromkeys(names))
        return ()


def _of_known(thing: object) -> str:
    if isinstance(thing, Host | Supervisor):
        return thing.endpoint
    if isinstance(thing, Connection) and isinstance(thing.owner, Connections):
        return thing.owner.endpoint
    return ""


def packages_of(plan: EndpointPlan) -> set[str]:
    """The packages of a protocol that isn't sockd's own; empty for one that is."""
    parts = (plan.specification.stream, plan.specification.datagram, plan.specification.service)
    modules = [str(getattr(part, "__module__", "")) for part in parts if part is not None]
    return {
        module.partition(":")[0].partition(".")[0] for module in (*modules, *plan.options.hosted().names)
    } - {OURS}


def package_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def callers(frame: FrameType | None) -> Sequence[FrameType]:
    """The frame and those that called it, innermost first."""
    found = []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    return found
