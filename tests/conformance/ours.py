"""Reactors whose connections are sockd's own transports, for Twisted's tests of transports.

sockd itself only has servers. Twisted's tests look closer at clients, so these have the same transport too.
"""

import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IConnector, IListeningPort
from twisted.internet.main import installReactor
from twisted.python import log
from twisted.python.failure import Failure
from zope.interface import implementer

from sockd.base.metrics import End
from sockd.base.peers import Peer
from sockd.base.reactor import Watcher, later_by
from sockd.process.reactor import SockdReactor
from sockd.transports.acceptor import Acceptor
from sockd.transports.connection import Connection
from sockd.transports.flush import Flusher
from sockd.transports.lanes import Lane
from sockd.transports.listening import Listening
from sockd.transports.sockets.unix import credentials
from sockd.transports.tls import TlsConnection
from sockd.transports.twisted import twisted_address
from sockd.tree.contexts import server_contexts
from tests.certificates import tls_plan

# A peer gets so long (seconds) to answer our FIN.
LINGER = 0.2
# What the tests write at once, in bytes, is more than sockd has any connection owe of itself.
UNSENT = 1 << 26


class Owner:
    """Of one connection or several; what a protocol raised is logged, as the tests expect."""

    def __init__(self, reactor: "Ours", *, secure: bool) -> None:
        self.reactor = reactor
        self.later = later_by(reactor)
        self.secure = secure
        self.servers: set[Connection] = set()
        self.timer: Any = None

    def lane(self, *, secure: bool) -> Watcher:
        lane: Watcher = self.reactor.lane
        return lane

    def ended(self, server: Connection, end: End) -> None:
        self.servers.discard(server)
        if not self.servers and self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def sweep(self) -> None:
        self.timer = self.reactor.callLater(LINGER, self.sweep)
        for server in tuple(self.servers):
            if server.lingering:
                server.linger_expired()

    def refused(self, connection: Any, reason: str, why: str = "") -> None:
        log.msg(f"refused: {reason} {why}")

    def protocol_failed(self, where: str) -> None:
        log.err(None, f"exception in {where}")

    def serve(self, sock: socket.socket, sockaddr: Any, factory: Any) -> None:
        """Give an accepted or connected socket to a protocol, unless the factory wants it not."""
        sock.setblocking(False)
        local = sock.family == socket.AF_UNIX
        peer = Peer.unix(*credentials(sock), sockaddr) if local else Peer.inet(sockaddr)
        address = twisted_address(sock.family, sockaddr)
        common = sock, peer, self.reactor.turn, self, Listening("test")
        if self.secure:
            self._shake(
                TlsConnection(*common, *server_contexts(tls_plan())), lambda: factory.buildProtocol(address)
            )
            return
        protocol = factory.buildProtocol(address)
        if protocol is None:
            sock.close()
            return
        server = Connection(*common)
        self._watch(server)
        server.start(protocol)

    def _shake(self, server: TlsConnection, make: Callable[[], Any]) -> None:
        def build() -> Any:
            protocol = make()
            if protocol is None:
                server.abortConnection()
            return protocol

        self._watch(server)
        server.start(build)

    def _watch(self, server: Connection) -> None:
        server.limit_unsent(UNSENT)
        self.servers.add(server)
        if self.timer is None:
            self.timer = self.reactor.callLater(LINGER, self.sweep)


@implementer(IListeningPort)
class Port(Owner):
    """What a listener of sockd's is but for its limits."""

    def __init__(self, reactor: "Ours", sock: socket.socket, factory: Any, *, secure: bool = False) -> None:
        super().__init__(reactor, secure=secure)
        sock.setblocking(False)
        self.sock = sock
        self.factory = factory
        self.acceptor = Acceptor(sock, reactor, self._take, lambda: 100, log.err, lambda why, acceptor: None)
        self.startListening()
        reactor.ports.append(self)

    def _take(self, sock: socket.socket, sockaddr: Any) -> None:
        self.serve(sock, sockaddr, self.factory)

    def startListening(self) -> None:
        self.factory.doStart()
        self.acceptor.accept(True)

    def stopListening(self) -> Deferred[None]:
        if self.connected:
            self.acceptor.leave()
            self.sock.close()
            self.factory.doStop()
        return succeed(None)

    @property
    def connected(self) -> bool:
        return self.sock.fileno() != -1

    @property
    def disconnected(self) -> bool:
        return not self.connected

    def getHost(self) -> Any:
        return twisted_address(self.sock.family, self.sock.getsockname())


@implementer(IConnector)
class Connector(Owner):
    """Connects at once, or never: the other end is in the same process."""

    def __init__(
        self, reactor: "Ours", family: int, sockaddr: Any, factory: Any, *, secure: bool = False
    ) -> None:
        super().__init__(reactor, secure=secure)
        self.family = family
        self.sockaddr = sockaddr
        self.factory = factory
        factory.doStart()
        factory.startedConnecting(self)
        reactor.callLater(0, self.connect)

    def connect(self) -> None:
        sock = socket.socket(self.family)
        try:
            sock.connect(self.sockaddr)
        except OSError as error:
            sock.close()
            self.factory.clientConnectionFailed(self, Failure(ConnectError(error.errno, str(error))))
            self.factory.doStop()
            return
        self.serve(sock, self.sockaddr, self.factory)

    def stopConnecting(self) -> None:
        """It is connected, or failed."""

    def disconnect(self) -> None:
        for server in self.servers:
            server.loseConnection()

    def getDestination(self) -> Any:
        return twisted_address(self.family, self.sockaddr)

    def ended(self, server: Connection, end: End) -> None:
        super().ended(server, end)
        self.factory.clientConnectionLost(self, Failure(ConnectError()))
        self.factory.doStop()


class ListedLane(Lane):
    """A lane that says what it watches, as the tests ask a reactor."""

    def __init__(self, flusher: Flusher) -> None:
        super().__init__(flusher)
        self.readers: dict[Any, None] = {}
        self.writers: dict[Any, None] = {}

    def addReader(self, reader: Any) -> None:
        super().addReader(reader)
        self.readers[reader] = None

    def removeReader(self, reader: Any) -> None:
        self.readers.pop(reader, None)
        super().removeReader(reader)

    def addWriter(self, writer: Any) -> None:
        super().addWriter(writer)
        self.writers[writer] = None

    def removeWriter(self, writer: Any) -> None:
        self.writers.pop(writer, None)
        super().removeWriter(writer)


class Ours(SockdReactor):
    """`servers`, `clients`: whose transports are sockd's; `laned`: they are in a lane of the reactor."""

    servers = True
    clients = False
    laned = False

    def __init__(self) -> None:
        super().__init__()
        self.turn = Flusher(self)
        self.lane: Any = ListedLane(self.turn) if self.laned else self
        self.ports: list[Port] = []

    @classmethod
    def install(cls) -> None:
        installReactor(cls())

    def stop(self) -> None:
        """Sockets close after the turn (`Turn.bury`); the tests look at once for what is left."""
        if self.turn.scheduled:
            self.callLater(0, self.stop)
        else:
            super().stop()

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        if not self.servers:
            return super().listenTCP(port, factory, backlog, interface)
        family, sockaddr = _resolved(interface or "0.0.0.0", port)
        return Port(self, _listening(family, sockaddr, backlog), factory)

    def connectTCP(self, host: str, port: int, factory: Any, *others: Any, **named: Any) -> Any:
        if not self.clients:
            return super().connectTCP(host, port, factory, *others, **named)
        return Connector(self, *_resolved(host, port), factory)

    def listenUNIX(
        self, address: Any, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: int = 0
    ) -> Any:
        if not self.servers:
            return super().listenUNIX(address, factory, backlog, mode, wantPID)
        return Port(self, _listening(socket.AF_UNIX, os.fsencode(address), backlog), factory)

    def connectUNIX(self, address: Any, factory: Any, timeout: float = 30, checkPID: int = 0) -> Any:
        if not self.clients:
            return super().connectUNIX(address, factory, timeout, checkPID)
        return Connector(self, socket.AF_UNIX, os.fsencode(address), factory)

    # -- a lane is a thing of ours: the tests ask for the transports in it

    def getReaders(self) -> list[Any]:
        return [*super().getReaders(), *(self.lane.readers if self.laned else ())]

    def getWriters(self) -> list[Any]:
        return [*super().getWriters(), *(self.lane.writers if self.laned else ())]


class Servers(Ours):
    """Twisted's clients talk to sockd's servers."""


class ServersInALane(Ours):
    laned = True


class ServersInstalled(Servers):
    """As the process's one reactor."""

    def iterate(self, delay: float = 0) -> None:
        """Trial lets pass two turns before it looks for what is left; the last to close takes one more."""
        super().iterate(delay)
        while self.turn.scheduled:
            super().iterate()


class Clients(Ours):
    """sockd's transports talk to Twisted's servers."""

    servers, clients = False, True


class Both(Ours):
    """sockd's talk to each other."""

    clients = laned = True


class TlsServers(Ours):
    """Twisted's clients talk TLS to sockd's servers."""

    servers = False

    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> Any:
        family, sockaddr = _resolved(interface or "0.0.0.0", port)
        return Port(self, _listening(family, sockaddr, backlog), factory, secure=True)


class TlsServersInALane(TlsServers):
    laned = True


class TlsClients(Ours):
    """sockd's transports connect to Twisted's, as the servers of TLS that they always are."""

    servers = False

    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> Any:
        return super().listenTCP(port, _as_tls_client(factory), backlog, interface)

    def connectSSL(
        self,
        host: str,
        port: int,
        factory: Any,
        contextFactory: Any,
        timeout: Any = 30,
        bindAddress: Any = None,
    ) -> Any:
        return Connector(self, *_resolved(host, port), factory, secure=True)


class ServersOverTls(TlsServers):
    """TLS where a suite asks for TCP."""

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        return self.listenSSL(port, factory, None, backlog, interface)

    def connectTCP(self, host: str, port: int, factory: Any, *others: Any, **named: Any) -> Any:
        return super().connectTCP(host, port, _as_tls_client(factory), *others, **named)


class ClientsOverTls(TlsClients):
    """TLS where a suite asks for TCP."""

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        return self.listenSSL(port, factory, None, backlog, interface)

    def connectTCP(self, host: str, port: int, factory: Any, *others: Any, **named: Any) -> Any:
        return self.connectSSL(host, port, factory, None, *others, **named)


def _as_tls_client(factory: Any) -> Any:
    """Of protocols that speak Twisted's own TLS; it is imported here, as most suites are run without it."""
    from twisted.internet.ssl import ClientContextFactory  # noqa: PLC0415
    from twisted.protocols.tls import TLSMemoryBIOFactory  # noqa: PLC0415

    return TLSMemoryBIOFactory(ClientContextFactory(), True, factory)


def _resolved(host: str, port: int) -> tuple[int, Any]:
    family, *_, sockaddr = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
    )[0]
    return family, sockaddr


def _listening(family: int, sockaddr: Any, backlog: int) -> socket.socket:
    sock = socket.socket(family)
    sock.bind(sockaddr)
    sock.listen(backlog)
    return sock
