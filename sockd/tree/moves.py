"""What changes mean for a running tree: which listeners stay, come and go, and which sockets pass on.

Nothing is done here yet. The changes say which listeners are opened and closed. What only the running tree
shows is found here: the listeners that they mean, whether those are open at present, and which of the sockets
that are no longer wanted is good for a listener that is. Such a socket stays open while it passes on, so that
no peer is refused. A socket that is in the way, and can't pass on, is to be closed first.
"""

import os
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sockd.base.addresses import Address, Kind, overlap
from sockd.base.hosted import offers
from sockd.plan.changes import Action, Changes, EndpointChange
from sockd.plan.plan import EndpointPlan, ListenerPlan
from sockd.protocols.contract import AnyHost, DatagramProtocol
from sockd.transports.sockets.opening import retunable
from sockd.transports.sockets.options import SocketOptions
from sockd.tree.admission import Admission
from sockd.tree.endpoint import Endpoint, Surroundings, Watched
from sockd.tree.protocol import Engine
from sockd.tree.states import State

_STAYS = frozenset({Action.KEPT, Action.TUNED})
_SOCKET_STAYS = _STAYS | {Action.PASSED}


def without_reload(running: Mapping[str, Endpoint]) -> frozenset[str]:
    """The endpoints whose service runs and can't take other options, for `sockd.plan.diff`."""
    return frozenset(
        name
        for name, endpoint in running.items()
        if endpoint.host.service is not None and not offers(endpoint.host.service, "reload")
    )


@dataclass(eq=False)
class Update:
    """An endpoint that gets another plan of the same protocol, and what `prepare` has made for it."""

    endpoint: Endpoint
    change: EndpointChange
    plan: EndpointPlan
    watched: dict[Watched, ListenerPlan] = field(default_factory=dict)  # the listeners that it will have
    tuned: dict[Watched, SocketOptions] = field(default_factory=dict)  # and their options now
    leaving: list[Watched] = field(default_factory=list)
    host: AnyHost | None = None
    factory: Any = None  # Any: Twisted's IProtocolFactory is an interface of zope's, which is no type
    engine: Engine = field(init=False)
    # Datagram protocols that have the new options: those made anew, and those that took them.
    made: dict[Watched, DatagramProtocol] = field(default_factory=dict)
    reloaded: dict[Watched, DatagramProtocol] = field(default_factory=dict)
    admission: Admission | None = None
    restarted: bool = False  # the commit restarts it: by hand it was restarted with the old options

    def __post_init__(self) -> None:
        self.engine = self.endpoint.engine


@dataclass(eq=False)
class Leaving:
    """A listener that the new plan lacks."""

    endpoint: Endpoint
    watched: Watched
    taken: bool = False  # its socket passes to another listener
    parked: bool = False  # its socket was closed to make room for another one
    protocol: DatagramProtocol | None = None
    where: Address = field(init=False)

    def __post_init__(self) -> None:
        self.where = _real(self.watched.listener.plan.address)

    @property
    def open(self) -> bool:
        return is_open(self.watched)


@dataclass(eq=False)
class Wanted:
    """A listener that is opened for the new plan."""

    endpoint: Endpoint
    watched: Watched
    heir_of: Leaving | None = None
    after: list[Leaving] = field(default_factory=list)  # they are in the way, and closed first
    tolerant: bool = False  # its address wasn't open before, so it may fail

    @property
    def plan(self) -> ListenerPlan:
        return self.watched.listener.plan


@dataclass(frozen=True)
class Followed:
    """The running listeners that one listener of the new plan comes to, and whether it was open before."""

    watched: tuple[Watched, ...]
    was_open: bool


class Moves:
    """What is to be done: `endpoints` will run, and those in `gone` will be drained and stopped."""

    def __init__(self, running: Mapping[str, Endpoint], changes: Changes, around: Surroundings) -> None:
        self._around = around
        self.fresh: dict[Endpoint, Endpoint | None] = {}  # new ones, and the endpoint that each replaces
        self.updates: list[Update] = []
        self.leaving: list[Leaving] = []
        self.wanted: list[Wanted] = []
        self.gone: list[Endpoint] = []
        self.endpoints: dict[str, Endpoint] = {}
        # By the name of the endpoint, in the order of its listeners' changes; none of those that are closed.
        self.followed: dict[str, list[Followed]] = {}
        for change in changes.endpoints:
            self._place(running.get(change.name), change)
        by_place: dict[Hashable, list[Leaving]] = {}
        for leaving in self.leaving:
            by_place.setdefault(_place_of(leaving.where), []).append(leaving)
        for wanted in self.wanted:
            if wanted.heir_of is None:
                where = _real(wanted.plan.address)
                self._find_predecessor(wanted, where, by_place.get(_place_of(where), []))

    def _place(self, old: Endpoint | None, change: EndpointChange) -> None:
        if change.new is None:
            if old is not None:
                self._remove(old)
        elif old is None or change.replaced:
            self._begin(old, change, change.new)
        elif change.equal:
            self.endpoints[change.name] = old
        else:
            self._update(old, change, change.new)

    def _remove(self, old: Endpoint) -> dict[Watched, Leaving]:
        self.gone.append(old)
        return self._leave(old, old.watched)

    def _begin(self, old: Endpoint | None, change: EndpointChange, plan: EndpointPlan) -> None:
        """Make an endpoint; the sockets of the one that it replaces pass to it."""
        fresh = Endpoint(plan, self._around)
        self.fresh[fresh] = old
        self.endpoints[change.name] = fresh
        leaving = {} if old is None else self._remove(old)
        before = [] if old is None else _by_listener(old)
        followed = self.followed[change.name] = []
        for listener, successors in zip(change.listeners, _by_listener(fresh), strict=False):
            predecessors = [] if listener.position is None else before[listener.position]
            followed.append(Followed(tuple(successors), any(map(is_open, predecessors))))
            wanted = self._want(fresh, successors)
            if listener.action in _SOCKET_STAYS:
                _pass_on([leaving[each] for each in predecessors], wanted)

    def _update(self, old: Endpoint, change: EndpointChange, plan: EndpointPlan) -> None:
        update = Update(old, change, plan)
        before = _by_listener(old)
        followed = self.followed[change.name] = []
        passed: list[tuple[list[Watched], list[Wanted]]] = []
        for listener in change.listeners:
            if listener.new is None:
                continue
            predecessors = [] if listener.position is None else before[listener.position]
            was_open = any(map(is_open, predecessors))
            if listener.action in _STAYS:
                successors = predecessors
                if listener.action is Action.TUNED and listener.old is not None:
                    update.tuned |= dict.fromkeys(predecessors, listener.old.socket)
            else:
                successors = old.make_listeners(listener.new)
                wanted = self._want(old, successors)
                for each, successor in zip(predecessors, successors, strict=False):
                    # It goes on counting, and so its connections live on.
                    successor.listener.listening = each.listener.listening
                if listener.action is Action.PASSED:
                    passed.append((predecessors, wanted))
            update.watched |= dict.fromkeys(successors, listener.new)
            followed.append(Followed(tuple(successors), was_open))
        update.leaving = [each for each in old.watched if each not in update.watched]
        leaving = self._leave(old, update.leaving)
        for predecessors, wanted in passed:
            _pass_on([leaving[each] for each in predecessors], wanted)
        self.updates.append(update)
        self.endpoints[change.name] = old

    def _leave(self, endpoint: Endpoint, watched: list[Watched]) -> dict[Watched, Leaving]:
        leaving = {each: Leaving(endpoint, each) for each in watched}
        self.leaving += leaving.values()
        return leaving

    def _want(self, endpoint: Endpoint, watched: list[Watched]) -> list[Wanted]:
        wanted = [Wanted(endpoint, each) for each in watched]
        self.wanted += wanted
        return wanted

    def _find_predecessor(self, wanted: Wanted, where: Address, there: list[Leaving]) -> None:
        address = wanted.plan.address
        for leaving in there:
            plan = leaving.watched.listener.plan
            if leaving.taken or not overlap(leaving.where, where):
                continue
            if leaving.watched.listener.number != wanted.watched.listener.number:
                continue  # another socket of the same name
            if plan.address.socket == address.socket and not leaving.open:
                wanted.tolerant = True
            elif not leaving.open or (plan.socket.reuse_port and wanted.plan.socket.reuse_port):
                continue
            elif plan.address.socket == address.socket and retunable(plan.socket, wanted.plan.socket):
                wanted.heir_of = leaving
                wanted.tolerant = False
                leaving.taken = True
                return
            else:
                wanted.after.append(leaving)


def _pass_on(leaving: list[Leaving], wanted: list[Wanted]) -> None:
    """Have these sockets pass to these listeners, as far as they are open."""
    for each, successor in zip(leaving, wanted, strict=False):
        if each.open:
            successor.heir_of = each
            each.taken = True


def is_open(watched: Watched) -> bool:
    """Whether the listener has a socket at present."""
    return watched.supervisor.state is State.RUNNING and watched.listener.opened is not None


def _by_listener(endpoint: Endpoint) -> list[list[Watched]]:
    """The running listeners of each listener of the plan: systemd may have passed several sockets for one."""
    left = list(reversed(endpoint.watched))
    groups = []
    for plan in endpoint.plan.listeners:
        group = [left.pop()]
        if plan.address.kind is Kind.SYSTEMD:
            while left and left[-1].listener.plan.address == plan.address:
                group.append(left.pop())
        groups.append(group)
    return groups


def _real(address: Address) -> Address:
    """Two names may lead to one file."""
    if not address.kind.local or address.abstract:
        return address
    return replace(address, path=os.path.realpath(address.path))


def _place_of(address: Address) -> Hashable:
    """The same for all addresses that may overlap."""
    return (address.kind.ports, address.port) if address.kind.inet else (address.kind.local, address.path)
