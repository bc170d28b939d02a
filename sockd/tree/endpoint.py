"""One endpoint running: its protocol's service first, then its listeners, each supervised alone."""

from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count

from twisted.internet.defer import CancelledError, Deferred, DeferredList, ensureDeferred, maybeDeferred
from twisted.internet.defer import TimeoutError as TookTooLongError
from twisted.logger import Logger
from twisted.python.failure import Failure

from sockd.base.addresses import Kind
from sockd.base.hosted import method_of
from sockd.base.metrics import Counters
from sockd.base.reactor import TwistedReactor
from sockd.plan.changes import Part
from sockd.plan.plan import EndpointPlan, ListenerPlan
from sockd.protocols.contract import AnyHost, DatagramProtocol, Host, Member, StreamFactory
from sockd.transports.datagrams.hosted import served
from sockd.transports.flush import Flusher
from sockd.tree.admission import Admission
from sockd.tree.connections import Connections
from sockd.tree.datagrams import DatagramListener
from sockd.tree.draining import Drain
from sockd.tree.listener import Common, Listener
from sockd.tree.protocol import Engine
from sockd.tree.required import GiveUp
from sockd.tree.sockets import Sockets, UdpPorts
from sockd.tree.states import UP, Cause, State, effect
from sockd.tree.streams import StreamListener
from sockd.tree.supervisor import Child, Supervisor, cancellable

# Seconds that a restart by hand waits for the service's own stop.
SERVICE_STOP_TIME = 5.0


@dataclass(frozen=True)
class Surroundings:
    """What all endpoints of one daemon share. `random()` gives numbers from 0 up to 1."""

    reactor: TwistedReactor  # a Reactor, too
    flusher: Flusher
    log: Logger
    random: Callable[[], float]
    gave_up: Callable[["Endpoint"], None]  # a required endpoint did not run for too long
    udp_ports: UdpPorts = field(default_factory=UdpPorts)  # that are open
    changed: Callable[[], None] = lambda: None  # a state or a cause has
    sockets: Sockets = field(default_factory=Sockets)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))  # of connections


@dataclass(eq=False)
class Watched:
    """A listener, and the supervisor that keeps it running."""

    listener: Listener
    supervisor: Supervisor


class Endpoint:
    """`bind` opens the listeners, `start` lets them serve once the protocol's service runs."""

    def __init__(self, plan: EndpointPlan, surroundings: Surroundings) -> None:
        self.plan = plan
        self.name = plan.name
        self.around = surroundings
        self._log = surroundings.log
        self._reactor = surroundings.reactor
        self._draining = False
        self.restarting = False
        self._also_restart: list[Deferred[None]] = []  # of callers that asked while one was under way
        self._started = False
        self.suspended = False  # by hand
        self._drain_by_hand: Drain | None = None  # the last one, which has all connections of those before
        self.upgrading = False  # the program is about to be replaced
        self.parting = False  # it will be, once some connections have finished
        counters = Counters()
        self.connections = Connections(
            plan.name,
            plan.limits,
            surroundings.flusher,
            self._log,
            counters,
            self.update,
            surroundings.numbers,
            Admission(plan),
        )
        host: AnyHost = Host(
            endpoint=plan.name,
            options=plan.options,
            reactor=self._reactor,
            log=Logger(self._log.namespace, source=self, observer=self._log.observer),
            fail=self._service_failed,
            hangs=self._service_hangs,
            counters=counters,
            tls=self.startable_tls(plan),
            udp_ports=surroundings.udp_ports,
            later=self.connections.later,
        )
        self.connections.log_share(plan.log.connections)
        self.engine = Engine(plan.specification, host)
        self.service = self._supervise("service", self.engine)
        self.watched: list[Watched] = []
        for listener_plan in plan.listeners:
            self.watched += self.make_listeners(listener_plan)
        self._give_up: GiveUp | None = None
        self._require()

    @property
    def host(self) -> AnyHost:
        return self.engine.host

    @property
    def listeners(self) -> list[Listener]:
        return [each.listener for each in self.watched]

    @property
    def datagram_listeners(self) -> list[DatagramListener]:
        return [one for one in self.listeners if isinstance(one, DatagramListener)]

    def members(self) -> Iterator[tuple[int, DatagramListener, Member]]:
        """The peers that its datagram protocols keep something for, each with its number."""
        for listener in self.datagram_listeners:
            for number, member in listener.members():
                yield number, listener, member

    @property
    def supervisors(self) -> list[Supervisor]:
        return [each.supervisor for each in self.watched]

    def make_listeners(self, plan: ListenerPlan) -> list[Watched]:
        """One for an address, one for each socket that systemd passed under a name; none is started."""
        if plan.address.kind is not Kind.SYSTEMD:
            return [self._make_listener(plan, 0)]
        passed = self.around.sockets.how_many(plan.address.path)
        return [self._make_listener(plan, number) for number in range(max(1, passed))]

    def _make_listener(self, plan: ListenerPlan, number: int) -> Watched:
        def failed(error: BaseException) -> None:
            watched.supervisor.failed(error)

        around = self.around
        common = Common(self.plan.specification, self.connections, around.flusher, self._log, around.sockets)
        listener: Listener
        if around.sockets.kind(plan.address, number).stream:
            listener = StreamListener(plan, number, common, failed, lambda: self.engine.factory)
        else:
            make, limits = self._make_datagram_protocol, self.plan.limits
            listener = DatagramListener(plan, number, common, failed, limits, around.udp_ports, make)
        watched = Watched(listener, self._supervise(str(plan.address), listener))
        return watched

    def _supervise(self, name: str, child: Child) -> Supervisor:
        around = self.around
        return Supervisor(
            self.name, name, child, self.plan.restart, self._reactor, around.random, self._log, self.update
        )

    def _service_failed(self, error: BaseException) -> None:
        self.service.failed(error)

    def _service_hangs(self, why: str) -> None:
        if why:
            self.service.hangs(why)
        else:
            self.service.responds()

    def _make_datagram_protocol(self) -> DatagramProtocol:
        assert self.plan.specification.datagram is not None  # noqa: S101 - else the file was refused
        return served(self.plan.specification.datagram(self.host))

    # -- start

    def startable_tls(self, plan: EndpointPlan) -> object:
        """What the protocol may start TLS with on a plain connection; None where it may not."""
        if plan.tls is None or not plan.specification.starts_tls:
            return None
        from sockd.tree.starting import EndpointTls  # noqa: PLC0415 - OpenSSL only where it is used

        return EndpointTls(self.connections, lambda: self.engine.factory)

    def bind(self) -> None:
        """Open every address; one that can't be opened is tried again later."""
        for supervisor in self.supervisors:
            supervisor.start()

    def start(self) -> Deferred[list[tuple[bool, None]]]:
        """Start the protocol; fires when it and all listeners have been tried (Supervisor.tried)."""
        self._started = True
        self.service.start()
        self.update()
        return DeferredList([s.tried for s in (self.service, *self.supervisors)])

    def serve(self) -> None:
        """Its protocol's service and its listeners have been started: let them serve."""
        self._started = True
        self.update()

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
        if self.service.state not in UP:
            causes.add(Cause.SERVICE_DOWN)
        if self.suspended:
            causes.add(Cause.BY_HAND)
            # Only while it is suspended: after `resume` it accepts again, though connections still finish.
            if self._drain_by_hand is not None and self._drain_by_hand.connections:
                causes.add(Cause.DRAINING)
        if self.connections.room() <= 0:
            causes.add(Cause.AT_LIMIT)
        if self._draining or self.restarting or self.parting:
            causes.add(Cause.DRAINING)
        if self.upgrading:
            causes.add(Cause.UPGRADING)
        return frozenset(causes)

    def update(self) -> None:
        """Something changed: have the listeners, the connections and the give-up timer follow."""
        if not self._started:
            return
        allowed = effect(self.causes)
        self.connections.hold(not allowed.reads, at_once=self.upgrading)
        for listener in self.listeners:
            listener.serve(allowed)
        if self._give_up is not None and not self._draining:
            self._give_up.update(running=self.running)
        self.around.changed()

    def _require(self) -> None:
        if self._give_up is not None:
            self._give_up.cancel()
            self._give_up = None
        after = self.plan.give_up_after
        if after is not None:
            self._give_up = GiveUp(after, self.plan.restart.max_delay, self._reactor, self._gave_up)

    def _gave_up(self) -> None:
        self.around.gave_up(self)

    # -- reload

    def adopt(
        self, plan: EndpointPlan, parts: Collection[Part], host: AnyHost, factory: StreamFactory | None
    ) -> None:
        """Follow a plan of the same protocol that differs in these parts. Listeners are the caller's."""
        self.plan = plan
        replaced = self.engine.adopt(host, factory)
        if replaced is not None:
            try:
                replaced.doStop()
            except BaseException:  # noqa: BLE001
                self.connections.protocol_failed("doStop")
        if Part.RESTART in parts:
            for supervisor in (self.service, *self.supervisors):
                supervisor.restart(plan.restart)
        if Part.REQUIRED in parts or Part.RESTART in parts:
            self._require()
        if Part.LOG in parts:
            self.connections.log_share(plan.log.connections)
        if Part.LIMITS in parts:
            self.connections.limit(plan.limits)
            for listener in self.datagram_listeners:
                listener.limit(plan.limits)

    def admit_anew(self, admission: Admission) -> None:
        """From now on this says who may connect, also for the connections that there are."""
        self.connections.admit_anew(admission)
        for listener in self.datagram_listeners:
            listener.admit_anew()

    def watch(self, wanted: list[Watched], without: list[Watched]) -> None:
        """Have these listeners, in this order; what the others have refused stays counted."""
        stay = {each.listener.listening for each in wanted}
        for each in without:
            if isinstance(each.listener, DatagramListener):
                each.listener.count_drops()
            if each.listener.listening not in stay:
                self.connections.refusals.keep(each.listener.counters)
        self.watched = wanted

    # -- upgrade

    def part(self, parting: bool) -> None:
        """Accept nothing new while connections finish that would not survive the upgrade."""
        self.parting = parting
        self.update()

    def hold(self, held: bool) -> None:
        """Neither accept nor read anything: the state is about to be handed to the new program."""
        self.upgrading = held
        self.update()

    # -- by hand

    def suspend(self, suspended: bool) -> None:
        """Accept nothing new, or do so again; connections live on."""
        self.suspended = suspended
        self.update()

    def drain_by_hand(self, within: float) -> Drain:
        """Suspend it, and let its connections finish `within` this many seconds."""
        self.suspend(True)
        drain = self._drain_by_hand = self.connections.drain_some(self.connections, within)
        return drain

    async def restart(self, within: float) -> None:
        """Let the connections finish `within` this many seconds, then start the protocol and what failed."""
        if self.restarting:
            restarted: Deferred[None] = Deferred()
            self._also_restart.append(restarted)
            await restarted
            return
        try:
            await self._restart(within)
        finally:
            also, self._also_restart = self._also_restart, []
            for each in also:
                each.callback(None)

    async def _restart(self, within: float) -> None:
        self.restarting = True
        self.update()
        try:
            await self.connections.drain_some(self.connections, within).done
            for listener in self.datagram_listeners:
                listener.end_protocol()
            # A third party's stop may never come to an end.
            stopping = cancellable(ensureDeferred(self.service.stop()))
            with suppress(TookTooLongError, CancelledError):
                await stopping.addTimeout(SERVICE_STOP_TIME, self._reactor)
        finally:
            self.restarting = False
            self.update()
        if self._draining:
            return  # it was removed, or the daemon stops
        self.engine = Engine(self.plan.specification, replace(self.host, service=None))
        self.service = self._supervise("service", self.engine)
        self.suspended = False
        self.service.start()
        for supervisor in self.supervisors:
            supervisor.retry()
        self.update()

    # -- stop

    async def drain(self) -> None:
        """Close the listeners, taking in what is queued; returns when the last connection has ended."""
        self._draining = True
        if self._give_up is not None:
            self._give_up.cancel()
        self.update()
        self._call_service("drain")
        for listener in self.listeners:
            listener.drain()
        await DeferredList([ensureDeferred(supervisor.stop()) for supervisor in self.supervisors])
        await self.connections.drain()

    def cut(self) -> None:
        """End the connections that are left."""
        self.connections.cut()

    async def stop(self) -> None:
        """Stop the protocol's service once the connections are gone. Cancelling cuts that short."""
        self.connections.close()
        try:
            await self.service.stop()
        finally:
            self.log_refusals()

    def log_refusals(self) -> None:
        """Log what was refused since the last time, if anything was."""
        self.connections.admission.forget(self._reactor.seconds())
        self.connections.log_unlogged()
        for listener in self.datagram_listeners:
            listener.forget()
            listener.count_drops()
        self.connections.refusals.log(self.host.counters, *(listener.counters for listener in self.listeners))

    def log_lost(self, log: Logger) -> None:
        """Log what the service has accepted and not written; from any thread, as the process is ending."""
        lost = getattr(self.host.service, "unwritten", 0)
        if isinstance(lost, int) and lost > 0:
            log.error(
                "{endpoint}: {unwritten} bytes that were accepted are lost: they were not written yet",
                endpoint=self.name, unwritten=lost, event="lost",
            )  # fmt: skip

    def reopen(self) -> None:
        """Have the service open its files anew, if it has any."""
        self._call_service("reopen")

    def _call_service(self, what: str) -> None:
        """Call a method that the service may have; a Deferred or a coroutine isn't waited for."""
        try:
            method = method_of(self.host.service, what)
        except BaseException:  # noqa: BLE001
            self.connections.protocol_failed(what)
            return
        if method is not None:
            maybeDeferred(method).addErrback(self._service_raised, what)

    def _service_raised(self, failure: Failure, what: str) -> None:
        try:
            failure.raiseException()
        except BaseException:  # noqa: BLE001 - whatever a third party raises
            self.connections.protocol_failed(what)


def log_listening(log: Callable[..., None], endpoint: Endpoint, listener: Listener) -> None:
    """Log where an endpoint can be reached; `log` is a Logger's method of the wanted level."""
    log(
        "{endpoint}: listening on {address}",
        endpoint=endpoint.name, address=str(listener.address), protocol=endpoint.plan.protocol,
        event="listening",
    )  # fmt: skip
