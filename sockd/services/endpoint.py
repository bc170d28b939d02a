"""One endpoint running: its protocol's service first, then its listeners, each supervised alone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, ensureDeferred, maybeDeferred
from twisted.logger import Logger

from sockd.plan import EndpointPlan
from sockd.protocols.contract import Host
from sockd.services.connections import Connections
from sockd.services.listener import Listener
from sockd.services.refusals import Refusals
from sockd.services.required import GiveUp
from sockd.services.states import Cause, State, effect
from sockd.services.supervisor import Supervisor
from sockd.transports.turn import Turn


@dataclass(frozen=True)
class Surroundings:
    """What all endpoints of one daemon share. `random()` gives numbers from 0 up to 1."""

    reactor: Any
    turn: Turn
    log: Logger
    udp_ports: set[int]  # that are open
    random: Callable[[], float]
    gave_up: Callable[["Endpoint"], None]  # a required endpoint did not run for too long


class Engine:
    """The protocol as a supervised child: built once, its service (if it has one) started and stopped."""

    def __init__(self, plan: EndpointPlan, host: Host[Any]) -> None:
        self._specification = plan.specification
        self._host = host
        self._built = False
        self.factory: Any = None

    def start(self) -> Any:
        """Build what isn't built yet; start the service."""
        if not self._built:
            if self._specification.service is not None and self._host.service is None:
                self._host.service = self._specification.service(self._host)
            if self._specification.stream is not None:
                self.factory = self._specification.stream(self._host)
                if getattr(self.factory, "noisy", False):
                    self.factory.noisy = False
                self.factory.doStart()
            self._built = True
        return None if self._host.service is None else self._host.service.startService()

    async def stop(self) -> None:
        """Stop the service; that may be cancelled."""
        try:
            if self._host.service is not None:
                await maybeDeferred(self._host.service.stopService)
        finally:
            if self.factory is not None:
                self.factory.doStop()


class Endpoint:
    """`bind` opens the listeners, `start` lets them serve once the protocol's service runs."""

    def __init__(self, plan: EndpointPlan, surroundings: Surroundings) -> None:
        self.plan = plan
        self.name = plan.name
        self._around = surroundings
        self._log = surroundings.log
        self._reactor = surroundings.reactor
        self._draining = False
        self._started = False
        self.host: Host[Any] = Host(
            endpoint=plan.name,
            options=plan.options,
            reactor=self._reactor,
            log=self._log,
            fail=self._service_failed,
            udp_ports=surroundings.udp_ports,
        )
        self.connections = Connections(
            plan.name, plan.limits, self._reactor, self._log, self.host.counters, self._update
        )
        self._engine = Engine(plan, self.host)
        self.service = self._supervise("service", self._engine)
        self.listeners: list[Listener] = []
        self.supervisors: list[Supervisor] = []
        for listener_plan in plan.listeners:
            listener = Listener(
                listener_plan,
                plan.limits,
                self.connections,
                surroundings.turn,
                self._log,
                surroundings.udp_ports,
                self._make_datagram_protocol,
                self._listener_failed(len(self.listeners)),
            )
            self.listeners.append(listener)
            self.supervisors.append(self._supervise(str(listener_plan.address), listener))
        self._refusals = Refusals(
            plan.name, (self.host.counters, *(each.counters for each in self.listeners)), self._log
        )
        self._give_up = (
            None
            if plan.give_up_after is None
            else GiveUp(plan.give_up_after, plan.restart.max_delay, self._reactor, self._gave_up)
        )

    def _supervise(self, name: str, child: Any) -> Supervisor:
        around = self._around
        return Supervisor(
            self.name, name, child, self.plan.restart, self._reactor, around.random, self._log, self._update
        )

    def _listener_failed(self, index: int) -> Callable[[BaseException], None]:
        # The supervisor is made after its listener.
        def failed(error: BaseException) -> None:
            self.supervisors[index].failed(error)

        return failed

    def _service_failed(self, error: BaseException) -> None:
        self.service.failed(error)

    # -- start

    def bind(self) -> None:
        """Open every address; what can't be opened is tried again later."""
        for supervisor in self.supervisors:
            supervisor.start()

    def start(self) -> Deferred[Any]:
        """Start the protocol; fires when it and all listeners were tried."""
        self._started = True
        self.service.start()
        self._update()
        return DeferredList([s.tried for s in (self.service, *self.supervisors)])

    @property
    def running(self) -> bool:
        """Its protocol's service is up and it can be reached by at least one address."""
        return self.service.state is State.RUNNING and any(
            supervisor.state is State.RUNNING for supervisor in self.supervisors
        )

    @property
    def causes(self) -> frozenset[Cause]:
        """Why its open listeners don't accept, if they don't."""
        causes = set()
        if self.service.state is not State.RUNNING:
            causes.add(Cause.SERVICE_DOWN)
        if self.connections.room() <= 0:
            causes.add(Cause.AT_LIMIT)
        if self._draining:
            causes.add(Cause.DRAINING)
        return frozenset(causes)

    def _update(self) -> None:
        """Something changed: have the listeners, the connections and the give-up timer follow."""
        if not self._started:
            return
        allowed = effect(self.causes)
        self.connections.hold(not allowed.reads)
        for listener in self.listeners:
            listener.factory = self._engine.factory
            listener.serve(allowed)
        if self._give_up is not None and not self._draining:
            self._give_up.update(running=self.running)

    def _make_datagram_protocol(self) -> Any:
        assert self.plan.specification.datagram is not None  # noqa: S101 - else the file was refused
        return self.plan.specification.datagram(self.host)

    def _gave_up(self) -> None:
        self._around.gave_up(self)

    # -- stop

    async def drain(self) -> None:
        """Close the listeners, having taken in who was queued; returns when the last connection has ended."""
        self._draining = True
        if self._give_up is not None:
            self._give_up.cancel()
        self._update()
        self._tell_service("drain")
        for listener in self.listeners:
            listener.drain()
        await DeferredList([ensureDeferred(supervisor.stop()) for supervisor in self.supervisors])
        await self.connections.drain()

    def cut(self) -> None:
        """End the connections that are left."""
        self.connections.cut()

    async def stop(self) -> None:
        """Stop the protocol's service, when the connections are gone. Cancelling cuts that short."""
        self.connections.close()
        try:
            await self.service.stop()
        finally:
            self.tell_refusals()

    def tell_refusals(self) -> None:
        """Log what was refused since the last time, if anything was."""
        for listener in self.listeners:
            listener.count_drops()
        self._refusals.tell()

    def reopen(self) -> None:
        """Have the service open its files anew, if it has any."""
        self._tell_service("reopen")

    def _tell_service(self, what: str) -> None:
        method = getattr(self.host.service, what, None)
        if method is not None:
            try:
                method()
            except BaseException:  # noqa: BLE001
                self.connections.protocol_failed(what)
