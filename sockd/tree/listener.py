"""One address of an endpoint: opened, watched, closed, and told whether it may accept and read."""

import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.logger import Logger

from sockd.base.addresses import Address, Kind
from sockd.base.errors import SockdError
from sockd.base.metrics import Counters
from sockd.base.peers import Peer
from sockd.base.units import Rate
from sockd.limits.suppression import LogLimiter
from sockd.plan.plan import Limits, ListenerPlan
from sockd.protocols.contract import DatagramProtocol, Specification
from sockd.transports.acceptor import Acceptor
from sockd.transports.connection import Connection
from sockd.transports.datagrams.port import DatagramPort
from sockd.transports.flush import Flusher
from sockd.transports.listening import Listening
from sockd.transports.sockets.inet import OpenError
from sockd.transports.sockets.opened import Opened
from sockd.transports.sockets.unix import credentials
from sockd.tree.admission import PROXY_HEADER
from sockd.tree.connections import Connections
from sockd.tree.entry import Opening
from sockd.tree.sockets import Sockets, UdpPorts
from sockd.tree.states import Effect

# How often (seconds) we look whether a Unix socket's file is still ours.
WATCH = 1.0
_SHORTAGES_LOGGED = Rate(1, 60.0)  # of descriptors or memory


class SocketFileLostError(SockdError):
    """Somebody removed or replaced the file of an open Unix socket: nobody can reach it any more."""


class Listener:
    """A supervised child: `start` opens, `stop` closes.

    `failed(error)` reports that an open listener can't serve any more. `address` is the one that is open: its
    port is never 0, and it is never systemd's name. Of several sockets that systemd passed under one name it
    has the one with this `number`.
    """

    def __init__(
        self,
        plan: ListenerPlan,
        number: int,
        limits: Limits,
        specification: Specification,
        connections: Connections,
        flusher: Flusher,
        log: Logger,
        sockets: Sockets,
        udp_ports: UdpPorts,
        make_datagram_protocol: Callable[[], DatagramProtocol],
        failed: Callable[[BaseException], None],
    ) -> None:
        self.plan = plan
        self.number = number
        self.address: Address = plan.address
        self.listening = Listening(str(plan.address))
        self.factory: Any = None  # of the stream protocol, once there is one
        self.opened: Opened | None = None
        self._given: Opened | None = None
        self._shared = False
        self._limits = limits
        self._specification = specification
        self._connections = connections
        self._flusher = flusher
        self._reactor = flusher.reactor
        self._log = log
        self._sockets = sockets
        self._udp_ports = udp_ports
        self._make_datagram_protocol = make_datagram_protocol
        self._failed = failed
        self._effect = Effect(accepts=False, reads=False, receives=False)
        self._acceptor: Acceptor | None = None
        self._port: DatagramPort | None = None
        self.protocol: DatagramProtocol | None = None
        self._begun = False  # there is one, or it failed and the socket is about to be closed
        self._parked: DatagramProtocol | None = None  # waits for the socket to be opened again
        self._made_for: DatagramPort | None = None
        self._watch: Any = None
        self._shortages = LogLimiter(flusher.reactor, _SHORTAGES_LOGGED)
        self._frozen: dict[str, list[Any]] = {}

    @property
    def counters(self) -> Counters:
        """What is counted at this address."""
        return self.listening.counters

    def thaw_from(self, states: dict[str, list[Any]]) -> None:
        """What datagram protocols had in the program before, by the address that was open.

        Of those that shared one, each takes the first that is left: they get their sockets in the same order.
        """
        self._frozen = states

    # -- supervised

    def start(self) -> None:
        """Open the address; OpenError where it can't be had. Nothing is accepted before `serve` says so."""
        opened, self._given = self._given or self._open(), None
        self.opened = opened
        systemds = self.plan.address.kind is Kind.SYSTEMD
        self.address = opened.address if systemds else replace(opened.address, kind=self.plan.address.kind)
        self.listening.name = str(self.address)
        try:
            self._begin(opened)
        except BaseException:
            self._close()
            raise

    def _open(self) -> Opened:
        address = self.plan.address
        if address.kind is Kind.SYSTEMD:
            return self._sockets.named(address.path, self.number)
        return self._sockets.open(address, self.plan.socket)

    def take_over(self, opened: Opened) -> None:
        """Have the next start use this socket, which another listener has as well, until we `own` it."""
        self._given = opened
        self._shared = True

    def own(self) -> None:
        """The other listener has let go of it."""
        self._shared = False

    def _begin(self, opened: Opened) -> None:
        stream = opened.address.kind.stream
        if (self._specification.stream if stream else self._specification.datagram) is None:
            raise OpenError(f"the protocol does not speak over {'streams' if stream else 'datagrams'}")
        if stream:
            self._acceptor = Acceptor(
                opened.sock, self._reactor, self._take, self._connections.room, self._short, self._fail
            )
        else:
            self._port = DatagramPort(
                opened.sock,
                self._flusher,
                self.counters,
                self._connections.protocol_failed,
                self._fail,
                self._limits.datagrams,
                self._limits.datagrams_per_source,
                self._limits.exempt,
            )
            self.admit_anew()
            if self._shared:
                self._port.count_drops()
                self.counters.refused.clear()  # the listener that has it now counted them
        if opened.address.kind is Kind.UDP:
            self._udp_ports.add(opened.address.port)
        if opened.file is not None:
            self._watch = self._reactor.callLater(WATCH, self._look)
        if self._port is not None and self._parked is not None:
            self._attach_parked(self._port)
        elif self._port is not None and self._effect.receives:
            self._begin_datagrams(self._port)
        self.serve(self._effect)

    def stop(self) -> None:
        """Take in who waits in the backlog, then close; or leave all that to who has the socket next."""
        self._close(stays=self._sockets.stay)

    def serve(self, effect: Effect) -> None:
        """Accept and read, or not."""
        self._effect = effect
        if self._acceptor is not None:
            self._acceptor.accept(effect.accepts)
        if self._port is not None:
            if effect.receives and not self._begun:
                try:
                    self._begin_datagrams(self._port)
                except BaseException as error:  # noqa: BLE001
                    # Not from inside a supervisor's call, which may be what brought us here.
                    self._reactor.callLater(0, self._fail, error, self._port)
            self._port.read(effect.receives and self.protocol is not None)

    # -- reload

    def admit_anew(self) -> None:
        """Datagrams too come only from whom `access` allows."""
        if self._port is not None:
            self._port.admit(self._connections.admission.access)

    def limit(self, limits: Limits) -> None:
        """From now on these rates hold."""
        self._limits = limits
        if self._port is not None:
            self._port.limit(limits.datagrams, limits.datagrams_per_source, limits.exempt)

    def new_protocol(self, make: Callable[[], DatagramProtocol]) -> DatagramProtocol | None:
        """A datagram protocol to take the place of the present one, if there is one; it is started."""
        if self._port is None or self.protocol is None:
            return None
        protocol = make()
        self._made_for = self._port
        protocol.start(self._port)
        return protocol

    def swap_protocol(self, protocol: DatagramProtocol) -> None:
        """From now on this `new_protocol` gets the datagrams."""
        port, self._made_for = self._made_for, None
        if port is None or port is not self._port:  # the socket that it was made for was closed meanwhile
            self._contained("stop", protocol.stop)
            self.end_protocol()
            return
        old, self.protocol = self.protocol, protocol
        port.protocol = protocol
        if old is not None:
            self._contained("stop", old.stop)

    def end_protocol(self) -> None:
        """The datagram protocol has had its time; the next one is made when it may receive again."""
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            self._begun = False
            if self._port is not None:
                self._port.read(False)
            self._contained("stop", protocol.stop)

    @property
    def takes_datagrams(self) -> bool:
        """It is open, and datagrams arrive at it."""
        return self._port is not None

    def begin(self, make: Callable[[], DatagramProtocol]) -> None:
        """Have the datagram protocol of an open socket made so, before anything is received."""
        if self._port is not None and not self._begun:
            self._begin_datagrams(self._port, make)

    def release(self, heir: ListenerPlan) -> None:
        """Another listener has the socket now; let go of it and of its file.

        Who waits in the backlog is served there, but where only one of the two speaks TLS.
        """
        self._close(stays=True, queue_stays=heir.tls == self.plan.tls)

    def park(self) -> DatagramProtocol | None:
        """Close the socket as `stop` does, but keep the datagram protocol, with its peers, for `unpark`."""
        protocol, self.protocol = self.protocol, None
        if protocol is not None and self._port is not None and self._effect.receives:
            self._port.take_queued()
        self._close()
        return protocol

    def unpark(self, protocol: DatagramProtocol | None) -> None:
        """Open the address again, with the protocol that it had; OpenError where it can't be had."""
        self._parked = protocol
        self.start()

    def _attach_parked(self, port: DatagramPort) -> None:
        protocol, self._parked = self._parked, None
        assert protocol is not None  # noqa: S101
        protocol.transport = port
        port.protocol = protocol
        self.protocol = protocol
        self._begun = True

    def forget(self) -> None:
        """Let go of datagrams' sources that have been silent for long enough."""
        if self._port is not None:
            self._port.forget()

    def count_drops(self) -> None:
        """Bring what the kernel dropped of a datagram listener's up to date."""
        if self._port is not None:
            self._port.count_drops()

    def drain(self) -> None:
        """The daemon stops: let a datagram protocol tell its peers."""
        if self.protocol is not None:
            self._contained("drain", self.protocol.drain)

    # -- streams

    def _take(self, sock: socket.socket, sockaddr: Any) -> None:
        self.counters.accepted += 1
        local = not isinstance(sockaddr, tuple)  # quicker than `sock.family`, which Python looks up by value
        peer = Peer.unix(*credentials(sock), sockaddr) if local else Peer.inet(sockaddr)
        connections, admission = self._connections, self._connections.admission
        header = admission.proxied and not local
        if header:
            reason = None if admission.is_proxy(peer) else PROXY_HEADER
        else:
            reason = connections.refusal(peer, sock)
        if reason is not None:
            # Before anything is built or imported: to be refused is all that some peers ever are.
            self.counters.refused[reason] += 1
            sock.close()
            return
        try:
            opening = Opening(self.factory, connections, self.counters)
            connection = self._build(sock, peer)
        except BaseException:
            admission.left(sock)  # it was counted, and there is no connection that could end
            sock.close()
            raise
        if header:
            opening.with_header(connection)
        else:
            opening.begin(connection)

    def _build(self, sock: socket.socket, peer: Peer) -> Connection:
        connections, listening = self._connections, self.listening
        if not self.plan.tls:
            return Connection(sock, peer, self._flusher, connections, listening)
        from sockd.transports.tls import TlsConnection  # noqa: PLC0415 - OpenSSL only where it is used

        context = connections.admission.context
        assert context is not None  # noqa: S101 - else the file was refused
        return TlsConnection(sock, peer, self._flusher, connections, listening, context)

    def _short(self, error: OSError) -> None:
        self.counters.refused["accepting failed"] += 1
        if self._shortages.allows("short"):
            self._log.error(
                "{endpoint}: {address} can't accept: {why}; newcomers wait",
                endpoint=self._connections.endpoint, address=str(self.address), why=error.strerror,
                event="short",
            )  # fmt: skip

    # -- datagrams

    def _begin_datagrams(
        self, port: DatagramPort, make: Callable[[], DatagramProtocol] | None = None
    ) -> None:
        self._begun = True
        protocol: Any = (make or self._make_datagram_protocol)()
        port.protocol = protocol
        protocol.start(port)
        if states := self._frozen.get(str(self.address)):
            protocol.thaw(states.pop(0))
        self.protocol = protocol

    def _contained(self, where: str, method: Callable[[], None]) -> None:
        try:
            method()
        except BaseException:  # noqa: BLE001
            self._connections.protocol_failed(where)

    # -- endings

    def _look(self) -> None:
        assert self.opened is not None and self.opened.file is not None  # noqa: S101, PT018
        if self.opened.file.there():
            self._watch = self._reactor.callLater(WATCH, self._look)
            return
        self._watch = None
        why = SocketFileLostError("somebody removed or replaced the socket's file")
        self._fail(why, self._port or self._acceptor)

    def _fail(self, why: BaseException, what: object) -> None:
        if what in (self._port, self._acceptor):  # else it was closed meanwhile
            self._close()
            self._failed(why)

    def _close(self, *, stays: bool = False, queue_stays: bool = True) -> None:
        """`stays`: somebody else has the socket too, so its file stays, and who is queued is served there."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        opened, self.opened = self.opened, None
        stays, self._shared = stays or self._shared, False
        if opened is not None and not stays:
            self._remove_file(opened)
        queued = not (stays and queue_stays) and opened is not None and opened.ours
        if self._acceptor is not None:
            if queued and self._effect.reads and self.factory is not None:
                self._acceptor.take_queued(self.plan.socket.backlog)
            self._acceptor.leave()
            self._acceptor = None
        if self._port is not None:
            self._udp_ports.discard(self.address.port)
            if queued and self._effect.receives and self.protocol is not None:
                self._port.take_queued()
            self._port.leave()
            self._port = None
            self._begun = False
        if opened is not None:
            self._sockets.close(opened, stays=stays)
        if self.protocol is not None:
            protocol, self.protocol = self.protocol, None
            self._contained("stop", protocol.stop)
        if self._parked is not None:
            protocol, self._parked = self._parked, None
            self._contained("stop", protocol.stop)

    def _remove_file(self, opened: Opened) -> None:
        # Before the socket is closed: its inode's number may be somebody else's file right after.
        if opened.file is not None:
            try:
                opened.file.remove()
            except OSError as error:
                self._log.info(
                    "{endpoint}: {path} stays behind: {why}",
                    endpoint=self._connections.endpoint, path=opened.file.path, why=error.strerror,
                    event="left",
                )  # fmt: skip
