"""What another plan asks of a running tree: which listeners stay, come and go, and whose sockets go over."""

import os
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sockd.base.addresses import Address, Kind, overlap
from sockd.plan.plan import EndpointPlan, ListenerPlan, Plan
from sockd.protocols.contract import DatagramProtocol, Host
from sockd.transports.sockets.opened import retunable
from sockd.tree.admission import Admission, admission_part
from sockd.tree.endpoint import Endpoint, Surroundings, Watched
from sockd.tree.protocol import Engine
from sockd.tree.states import State


@dataclass(eq=False)
class Retune:
    """An endpoint that goes over to another plan of the same protocol."""

    endpoint: Endpoint
    plan: EndpointPlan
    watched: dict[Watched, ListenerPlan] = field(default_factory=dict)  # as it shall be
    leaving: list[Watched] = field(default_factory=list)
    host: Host[Any] | None = None
    factory: Any = None
    engine: Engine = field(init=False)
    # Datagram protocols that have the new options: those made anew, and those that took them.
    made: dict[Watched, DatagramProtocol] = field(default_factory=dict)
    reloaded: dict[Watched, DatagramProtocol] = field(default_factory=dict)
    admission: Admission | None = None
    retry_service: bool = False
    retry_listeners: bool = False

    def __post_init__(self) -> None:
        self.engine = self.endpoint.engine

    @property
    def options_changed(self) -> bool:
        return self.endpoint.plan.options != self.plan.options

    @property
    def admission_changed(self) -> bool:
        return admission_part(self.endpoint.plan) != admission_part(self.plan)


@dataclass(eq=False)
class Leaving:
    """A listener that the new plan doesn't have."""

    endpoint: Endpoint
    watched: Watched
    taken: bool = False  # its socket goes to another listener
    parked: bool = False  # closed, to make room
    protocol: DatagramProtocol | None = None
    where: Address = field(init=False)

    def __post_init__(self) -> None:
        self.where = _real(self.watched.listener.plan.address)

    @property
    def open(self) -> bool:
        return self.watched.supervisor.state is State.RUNNING and self.watched.listener.opened is not None


@dataclass(eq=False)
class Wanted:
    """A listener that the new plan has in addition."""

    endpoint: Endpoint
    plan: ListenerPlan
    watched: Watched
    heir_of: Leaving | None = None
    after: list[Leaving] = field(default_factory=list)  # those that must be closed first
    tolerant: bool = False  # it wasn't open before either


class Moves:
    """Decided, and nothing done: `endpoints` is what shall run, and `gone` is what shall not any more."""

    def __init__(self, running: Mapping[str, Endpoint], plan: Plan, around: Surroundings) -> None:
        self._around = around
        self.fresh: dict[Endpoint, Endpoint | None] = {}  # and the endpoint that each one replaces
        self.retunes: list[Retune] = []
        self.leaving: list[Leaving] = []
        self.wanted: list[Wanted] = []
        self.gone: list[Endpoint] = []
        self.endpoints: dict[str, Endpoint] = {}
        for new in plan.endpoints:
            self._place(running.get(new.name), new)
        self.gone += [endpoint for name, endpoint in running.items() if name not in self.endpoints]
        for endpoint in self.gone:
            self.leaving += [Leaving(endpoint, watched) for watched in endpoint.watched]
        by_place: dict[Hashable, list[Leaving]] = {}
        for leaving in self.leaving:
            by_place.setdefault(_place_of(leaving.where), []).append(leaving)
        for wanted in self.wanted:
            where = _real(wanted.plan.address)
            self._find_predecessor(wanted, where, by_place.get(_place_of(where), []))

    def _place(self, old: Endpoint | None, new: EndpointPlan) -> None:
        if old is not None and old.plan == new:
            self.endpoints[new.name] = old
        elif old is None or _replaces(old, new):
            fresh = Endpoint(new, self._around)
            self.fresh[fresh] = old
            self.wanted += [Wanted(fresh, each.listener.plan, each) for each in fresh.watched]
            self.endpoints[new.name] = fresh
            if old is not None:
                self.gone.append(old)
        else:
            retune = Retune(old, new)
            left = list(old.watched)
            for plan in new.listeners:
                same = [each for each in left if _stays(each.listener.plan, plan)]
                if same and plan.address.kind is not Kind.SYSTEMD:
                    same = same[:1]
                if not same:
                    same = old.make_listeners(plan)
                    self.wanted += [Wanted(old, plan, each) for each in same]
                left = [each for each in left if each not in same]
                retune.watched |= dict.fromkeys(same, plan)
            retune.leaving = left
            _keep_counters(retune)
            self.leaving += [Leaving(old, each) for each in left]
            self.retunes.append(retune)
            self.endpoints[new.name] = old

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


def _replaces(old: Endpoint, new: EndpointPlan) -> bool:
    """Whether the new plan takes a new protocol, or a new service of the same."""
    if (old.plan.protocol, old.plan.specification) != (new.protocol, new.specification):
        return True
    service = old.host.service
    return old.plan.options != new.options and service is not None and not hasattr(service, "reload")


def _stays(old: ListenerPlan, new: ListenerPlan) -> bool:
    return (old.address, old.tls) == (new.address, new.tls) and retunable(old.socket, new.socket)


def _real(address: Address) -> Address:
    """Two names may lead to one file."""
    if not address.kind.local or address.abstract:
        return address
    return replace(address, path=os.path.realpath(address.path))


def _place_of(address: Address) -> Hashable:
    """The same for all addresses that may overlap."""
    return (address.kind.ports, address.port) if address.kind.inet else (address.kind.local, address.path)


def _keep_counters(retune: Retune) -> None:
    """A listener whose address stays, and is only opened anew, goes on counting; its connections live on."""
    left = list(retune.leaving)
    for watched in retune.watched:
        if watched not in retune.endpoint.watched:
            listener = watched.listener
            for each in left:
                before = each.listener
                if (before.plan.address, before.number) == (listener.plan.address, listener.number):
                    listener.listening = before.listening
                    left.remove(each)
                    break
