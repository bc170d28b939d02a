"""One address of an endpoint: opened, watched, closed, and told whether it may accept and read."""

import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.logger import Logger

from sockd.addresses import Address, Kind
from sockd.errors import SockdError
from sockd.limits.buckets import Bucket
from sockd.metrics import Counters, End
from sockd.peers import Peer
from sockd.plan import Limits, ListenerPlan
from sockd.protocols.contract import DatagramProtocol
from sockd.services.connections import Connections
from sockd.services.states import Effect
from sockd.transports.acceptor import Acceptor
from sockd.transports.datagram import DatagramPort
from sockd.transports.inet import open_inet
from sockd.transports.stream import Server, twisted_address
from sockd.transports.turn import Turn
from sockd.transports.unix import SocketFile, credentials, open_unix
from sockd.units import Rate

# How often (seconds) we look whether a Unix socket's file is still ours.
WATCH = 1.0
# That descriptors or memory ran out is told so often at most.
_SHORT_TOLD = Rate(1, 60.0)


class SocketFileLostError(SockdError):
    """Somebody removed or replaced the file of an open Unix socket: nobody can reach it any more."""


class Listener:
    """A supervised child: `start` opens, `stop` closes.

    `failed(error)` reports that an open listener can't serve any more. `address` is the one that is open: its
    port is never 0.
    """

    def __init__(
        self,
        plan: ListenerPlan,
        limits: Limits,
        connections: Connections,
        turn: Turn,
        log: Logger,
        udp_ports: set[int],
        make_datagram_protocol: Callable[[], DatagramProtocol],
        failed: Callable[[BaseException], None],
    ) -> None:
        self.plan = plan
        self.address: Address = plan.address
        self.counters = Counters()
        self.factory: Any = None  # of the stream protocol, once there is one
        self._limits = limits
        self._connections = connections
        self._turn = turn
        self._reactor = turn.reactor
        self._log = log
        self._udp_ports = udp_ports
        self._make_datagram_protocol = make_datagram_protocol
        self._failed = failed
        self._effect = Effect(accepts=False, reads=False)
        self._acceptor: Acceptor | None = None
        self._port: DatagramPort | None = None
        self._protocol: DatagramProtocol | None = None
        self._begun = False  # there is one, or it failed and the socket is about to be closed
        self._file: SocketFile | None = None
        self._watch: Any = None
        self._short_told = Bucket(_SHORT_TOLD, turn.reactor.seconds())

    @property
    def stream(self) -> bool:
        return self.plan.address.kind.stream

    # -- supervised

    def start(self) -> None:
        """Open the address; OpenError where it can't be had. Nothing is accepted before `serve` says so."""
        address = self.plan.address
        if address.kind.local:
            sock, self._file = open_unix(address, self.plan.socket)
        else:
            sock = open_inet(address, self.plan.socket)
            self.address = replace(address, port=sock.getsockname()[1])
        if self.stream:
            self._acceptor = Acceptor(
                sock, self._reactor, self._take, self._connections.room, self._short, self._fail
            )
        else:
            self._port = DatagramPort(
                sock,
                self._turn,
                self.counters,
                self._connections.protocol_failed,
                self._fail,
                self._limits.datagrams,
                self._limits.datagrams_per_source,
            )
        if self.address.kind is Kind.UDP:
            self._udp_ports.add(self.address.port)
        if self._file is not None:
            self._watch = self._reactor.callLater(WATCH, self._look)
        if self._port is not None and self._effect.reads:
            try:
                self._begin_datagrams(self._port)
            except BaseException:
                self._close()
                raise
        self.serve(self._effect)

    def stop(self) -> None:
        """Take in who waits in the backlog, then close."""
        self._close()

    def serve(self, effect: Effect) -> None:
        """Accept and read, or not."""
        self._effect = effect
        if self._acceptor is not None:
            self._acceptor.accept(effect.accepts)
        if self._port is not None:
            if effect.reads and not self._begun:
                try:
                    self._begin_datagrams(self._port)
                except BaseException as error:  # noqa: BLE001
                    # Not from inside a supervisor's call, which may be what brought us here.
                    self._reactor.callLater(0, self._fail, error, self._port)
            self._port.read(effect.reads and self._protocol is not None)

    def count_drops(self) -> None:
        """Bring what the kernel dropped of a datagram listener's up to date."""
        if self._port is not None:
            self._port.count_drops()

    def drain(self) -> None:
        """The daemon stops: let a datagram protocol tell its peers."""
        if self._protocol is not None:
            self._contained("drain", self._protocol.drain)

    # -- streams

    def _take(self, sock: socket.socket, sockaddr: Any) -> None:
        self.counters.accepted += 1
        local = sock.family == socket.AF_UNIX
        peer = Peer.unix(*credentials(sock), sockaddr) if local else Peer.inet(sockaddr)
        server = Server(sock, peer, self._turn, self._connections, str(self.address), self.counters)
        try:
            protocol = self.factory.buildProtocol(twisted_address(sock.family, sockaddr))
        except BaseException:  # noqa: BLE001
            self._connections.protocol_failed("buildProtocol")
            self._connections.refused(server, End.FAILED)
            return
        if protocol is None:
            self.counters.refused["by the protocol"] += 1
            self._connections.refused(server, End.REFUSED)
            return
        self._connections.add(server, protocol)

    def _short(self, error: OSError) -> None:
        self.counters.refused["accepting failed"] += 1
        if self._short_told.take(self._reactor.seconds()):
            self._log.error(
                "{endpoint}: {address} can't accept: {why}; newcomers wait",
                endpoint=self._connections.endpoint, address=str(self.address), why=error.strerror,
                event="short",
            )  # fmt: skip

    # -- datagrams

    def _begin_datagrams(self, port: DatagramPort) -> None:
        self._begun = True
        protocol = self._make_datagram_protocol()
        port.protocol = protocol
        protocol.start(port)
        self._protocol = protocol

    def _contained(self, where: str, method: Callable[[], None]) -> None:
        try:
            method()
        except BaseException:  # noqa: BLE001
            self._connections.protocol_failed(where)

    # -- endings

    def _look(self) -> None:
        assert self._file is not None  # noqa: S101
        if self._file.there():
            self._watch = self._reactor.callLater(WATCH, self._look)
            return
        self._watch = None
        why = SocketFileLostError("somebody removed or replaced the socket's file")
        self._fail(why, self._port or self._acceptor)

    def _fail(self, why: BaseException, what: object) -> None:
        if what in (self._port, self._acceptor):  # else it was closed meanwhile
            self._close()
            self._failed(why)

    def _close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._remove_file()
        if self._acceptor is not None:
            if self._effect.reads and self.factory is not None:
                self._acceptor.take_queued(self.plan.socket.backlog)
            self._acceptor.close()
            self._acceptor = None
        if self._port is not None:
            self._udp_ports.discard(self.address.port)
            if self._effect.reads and self._protocol is not None:
                self._port.take_queued()
            self._port.close()
            self._port = None
            self._begun = False
        if self._protocol is not None:
            protocol, self._protocol = self._protocol, None
            self._contained("stop", protocol.stop)

    def _remove_file(self) -> None:
        # Before the socket is closed: its inode's number may be somebody else's file right after.
        file, self._file = self._file, None
        if file is not None:
            try:
                file.remove()
            except OSError as error:
                self._log.info(
                    "{endpoint}: {path} stays behind: {why}",
                    endpoint=self._connections.endpoint, path=file.path, why=error.strerror, event="left",
                )  # fmt: skip
