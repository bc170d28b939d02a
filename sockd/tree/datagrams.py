"""A listener for datagrams: their port, and the protocol that lives as long as the port is open."""

from collections.abc import Callable, Iterator
from typing import TypeVar, cast

from sockd.base.addresses import Kind
from sockd.base.frozen import State
from sockd.base.hosted import awaited_nowhere, made, method_of
from sockd.base.metrics import End
from sockd.base.peers import Peer
from sockd.limits.sources import source
from sockd.plan.plan import Limits, ListenerPlan
from sockd.protocols.contract import DatagramProtocol, Member, Surviving
from sockd.transports.datagrams.port import DatagramPort
from sockd.transports.sockets.inet import OpenError
from sockd.transports.sockets.opening import Opened
from sockd.tree.listener import Common, Listener
from sockd.tree.members import Members
from sockd.tree.sockets import UdpPorts
from sockd.tree.states import EFFECTS, Cause, Effect

Make = Callable[[], DatagramProtocol]
Result = TypeVar("Result")
# Methods of a datagram protocol that nobody awaits.
_IMMEDIATE = (
    "start", "datagrams", "datagram", "members", "end_member", "drain", "stop", "freeze", "thaw"
)  # fmt: skip


class DatagramListener(Listener):
    """Gives datagrams to a protocol that `make()` returns, one for each time that the address is opened.

    The protocol is made when datagrams may be received for the first time, not when the address opens: its
    service may have to start before. A reload that changes its options makes another one while the first one
    serves (`new_protocol`) and exchanges them once everything else has gone well (`swap_protocol`).
    """

    def __init__(
        self,
        plan: ListenerPlan,
        number: int,
        common: Common,
        failed: Callable[[BaseException], None],
        limits: Limits,
        udp_ports: UdpPorts,
        make: Make,
    ) -> None:
        super().__init__(plan, number, common, failed)
        self._limits = limits
        self._udp_ports = udp_ports
        self._make = make
        self.protocol: DatagramProtocol | None = None
        self._port: DatagramPort | None = None
        self._begun = False  # there is a protocol, or its start failed and the socket is about to be closed
        self._parked: DatagramProtocol | None = None  # waits for the socket to be opened again
        self._made_for: DatagramPort | None = None
        self._frozen: dict[str, list[State]] = {}
        self._members = Members(common.connections.numbers)

    @property
    def descriptor(self) -> DatagramPort | None:
        return self._port

    def serve(self, effect: Effect) -> None:
        self._effect = effect
        port = self._port
        if port is None:
            return
        if effect.receives and not self._begun:
            try:
                self._begin_protocol(port, self._make)
            except BaseException as error:  # noqa: BLE001
                # Not from inside a supervisor's call, which may be what brought us here.
                self._reactor.callLater(0, self.lost, error, port)
        port.read(effect.receives and self.protocol is not None)

    def held_by(self, cause: Cause) -> bool:
        return not EFFECTS[cause].receives

    # -- open and close

    def _begin(self, opened: Opened) -> None:
        if self._common.specification.datagram is None:
            raise OpenError("the protocol does not speak over datagrams")
        limits = self._limits
        port = self._port = DatagramPort(
            opened.sock,
            self._common.flusher,
            self.counters,
            self.refuse,
            self._enter,
            self._common.connections.protocol_failed,
            self.lost,
            limits.datagrams,
            limits.datagrams_per_source,
            limits.exempt,
            answer_beyond=self._common.specification.answer_beyond,
        )
        if opened.address.kind is Kind.UDP:
            self._udp_ports.add(opened.address.port)
        self.admit_anew()
        if self._borrowed:
            port.count_drops()
            self.counters.refused.clear()  # the listener that has it now counted them
        if self._parked is not None:
            protocol, self._parked = self._parked, None
            protocol.transport = port
            port.protocol = protocol
            self.protocol = protocol
            self._begun = True
        elif self._effect.receives:
            self._begin_protocol(port, self._make)

    def _leave(self, *, queued: bool) -> None:
        port, self._port = self._port, None
        if port is not None:
            if self.address.kind is Kind.UDP:
                self._udp_ports.discard(self.address.port)
            if queued:
                self._take_queued(port)
            port.leave()
            if queued:
                port.count_queued()
            self._begun = False

    def _closed(self) -> None:
        for protocol in (self.protocol, self._parked):
            if protocol is not None:
                self._tell(protocol, "stop")
        self.protocol = self._parked = None

    def _take_queued(self, port: DatagramPort) -> None:
        if self._effect.receives and self.protocol is not None:
            port.take_queued()

    def park(self) -> DatagramProtocol | None:
        """As `stop`, but the protocol stays alive, with all that it knows of its peers."""
        if self._port is not None:
            self._take_queued(self._port)
        protocol, self.protocol = self.protocol, None
        self._close()
        return protocol

    def unpark(self, protocol: DatagramProtocol | None) -> None:
        self._parked = protocol
        self.start()

    # -- the protocol

    def _begin_protocol(self, port: DatagramPort, make: Make) -> None:
        self._begun = True
        protocol = _made(make)
        port.protocol = protocol
        self._bound_answers(port, protocol)
        port.resumeProducing()
        protocol.start(port)
        if states := self._frozen.get(str(self.address)):
            cast(Surviving, protocol).thaw(states.pop(0))
        self.protocol = protocol

    def _bound_answers(self, port: DatagramPort, protocol: DatagramProtocol) -> None:
        beyond = getattr(protocol, "answer_beyond", None)
        port.answer_beyond = self._common.specification.answer_beyond if beyond is None else beyond

    def thaw_from(self, states: dict[str, list[State]]) -> None:
        """What datagram protocols had in the program before, by the address that was open.

        Of listeners that share an address, each takes the first state that is left: they get their sockets
        in the order in which the program before had them.
        """
        self._frozen = states

    def begin(self, make: Make) -> None:
        """Make the protocol of an open socket, before anything is received."""
        if self._port is not None and not self._begun:
            self._begin_protocol(self._port, make)

    def new_protocol(self, make: Make) -> DatagramProtocol | None:
        """A started protocol to take the place of the present one; None where there is none."""
        if self._port is None or self.protocol is None:
            return None
        protocol = _made(make)
        self._made_for = self._port
        protocol.start(self._port)
        return protocol

    def swap_protocol(self, protocol: DatagramProtocol) -> None:
        """Hand the datagrams to this `new_protocol` from now on."""
        port, self._made_for = self._made_for, None
        if port is None or port is not self._port:  # the socket that it was made for has been closed since
            self._tell(protocol, "stop")
            self.end_protocol()
            return
        old, self.protocol = self.protocol, protocol
        port.protocol = protocol
        self._bound_answers(port, protocol)
        port.resumeProducing()  # the other one may have paused it
        if old is not None:
            self._tell(old, "stop")

    def end_protocol(self) -> None:
        """Stop the protocol; the next one is made when datagrams may be received again."""
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            self._begun = False
            if self._port is not None:
                self._port.read(False)
            self._tell(protocol, "stop")

    def drain(self) -> None:
        """Let the protocol tell its peers that the socket is about to close."""
        if self.protocol is not None:
            self._tell(self.protocol, "drain")

    def members(self) -> Iterator[tuple[int, Member]]:
        """The peers that the protocol keeps something for, each with a number that no connection has.

        It may be iterated over in many turns of the reactor.
        """
        protocol = self.protocol
        if protocol is None:
            return
        try:
            yield from self._members.of(protocol)
        except GeneratorExit:
            raise
        except BaseException:  # noqa: BLE001 - whatever a third party raises
            self._common.connections.protocol_failed("members")

    def kick(self, member: Member) -> bool:
        """Have the protocol let go of this member; whether it did."""
        protocol = self.protocol
        if protocol is None:
            return False
        return bool(self._contained("end_member", lambda: protocol.end_member(member.peer, End.KICKED.value)))

    def _contained(self, where: str, method: Callable[[], Result]) -> Result | None:
        try:
            return method()
        except BaseException:  # noqa: BLE001 - whatever a third party raises
            self._common.connections.protocol_failed(where)
            return None

    def _tell(self, protocol: DatagramProtocol, what: str) -> None:
        """Call a method that the protocol may not have."""

        def tell() -> None:
            method = method_of(protocol, what)
            if method is not None:
                method()

        self._contained(what, tell)

    # -- its port

    def _enter(self, peer: Peer) -> None:
        """Enter into the accounts what a sender has sent since the last time."""
        refusals = self._common.connections.refusals
        refusals.accounts.received(source(peer), peer.datagrams, peer.size, self._reactor.seconds())
        peer.datagrams = peer.size = 0

    def enter_senders(self) -> Iterator[None]:
        """Bring the accounts of the senders up to date; it may be interrupted wherever it yields."""
        return iter(()) if self._port is None else self._port.enter_senders()

    def admit_anew(self) -> None:
        """Take datagrams only from peers that the endpoint's `access` allows now."""
        if self._port is not None:
            self._port.admit(self._common.connections.admission.access)

    def limit(self, limits: Limits) -> None:
        """From now on these rates hold."""
        self._limits = limits
        if self._port is not None:
            self._port.limit(limits.datagrams, limits.datagrams_per_source, limits.exempt)

    def forget(self) -> None:
        """Let go of sources that have been silent for long enough."""
        if self._port is not None:
            self._port.forget()

    def count_drops(self) -> None:
        """Bring the count of datagrams that the kernel dropped up to date."""
        if self._port is not None:
            self._port.count_drops()


def _made(make: Make) -> DatagramProtocol:
    protocol = made(make(), "datagram")
    awaited_nowhere(protocol, _IMMEDIATE)
    return protocol
