"""What Twisted's interfaces ask of a transport besides bytes and ends: addresses and socket options."""

import socket
from typing import Any, Literal

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from sockd.base.hosted import awaited_nowhere, made
from sockd.base.peers import Peer, Sockaddr
from sockd.base.reactor import Descriptor, TwistedReactor, Watcher

# Twisted's IProtocol. Any: an interface of zope's, which is no type.
TwistedProtocol = Any
TwistedProducer = Any  # IPushProducer or IPullProducer. Any: as above
# An address of Twisted's. Any: the types of ITCPTransport and IUDPTransport know no Unix sockets.
TwistedAddress = Any


def twisted_address(
    family: int, sockaddr: Sockaddr, kind: Literal["TCP", "UDP"] = "TCP"
) -> IPv4Address | IPv6Address | UNIXAddress:
    """A socket's address as Twisted's protocols expect it; `kind` is of those over IP."""
    if family == socket.AF_UNIX:
        return UNIXAddress(sockaddr or None)
    host, port, *rest = sockaddr or ("0.0.0.0", 0)
    if ":" not in host:
        return IPv4Address(kind, host, port)
    return IPv6Address(kind, host, port, *rest)


def peer_address(peer: Peer) -> IPv4Address | IPv6Address | UNIXAddress:
    """The same of a connection's peer."""
    # Not the socket's `family`, which Python looks up by value: 1 % of a connection's instructions.
    inet = isinstance(peer.sockaddr, tuple)
    return twisted_address(socket.AF_INET if inet else socket.AF_UNIX, peer.sockaddr)


# Methods of a stream's protocol that nobody awaits.
_IMMEDIATE = (
    "makeConnection", "connectionMade", "dataReceived", "connectionLost", "readConnectionLost",
    "writeConnectionLost", "last_word", "freeze", "thaw",
)  # fmt: skip


def built(factory: Any, peer: Peer) -> TwistedProtocol:  # Any: a StreamFactory
    """The factory's protocol for a connection of this peer, or None; it may raise anything."""
    protocol = made(factory.buildProtocol(peer_address(peer)), "buildProtocol")
    awaited_nowhere(protocol, _IMMEDIATE)
    return protocol


class TwistedSocket:
    """What ITCPTransport asks besides bytes and ends, for TCP and Unix sockets alike.

    A protocol needn't know which of them it runs on: a Unix socket never delays, and has nothing to set.
    """

    __slots__ = ()

    sock: socket.socket
    peer: Peer
    connected: bool
    destination: tuple[str, int] | None

    @property
    def disconnected(self) -> bool:
        return not self.connected

    def getPeer(self) -> TwistedAddress:  # noqa: N802
        return peer_address(self.peer)

    def getHost(self) -> TwistedAddress:  # noqa: N802
        if self.destination is not None:
            return twisted_address(socket.AF_INET, self.destination)
        return twisted_address(self.sock.family, self.sock.getsockname() if self.connected else None)

    def getHandle(self) -> socket.socket:  # noqa: N802
        return self.sock

    @property
    def socket(self) -> socket.socket:
        """The same, as an attribute of Twisted's own transports that protocols have come to use."""
        return self.sock

    # What Twisted's own transports have of a descriptor (twisted.internet.abstract.FileDescriptor).

    def stopReading(self) -> None:  # noqa: N802
        self.pauseProducing()

    def startReading(self) -> None:  # noqa: N802
        self.resumeProducing()

    @property
    def reading(self) -> bool:
        """Whether input is being watched for."""
        raise NotImplementedError

    def pauseProducing(self) -> None:  # noqa: N802
        """Read no more from the peer until `resumeProducing`."""
        raise NotImplementedError

    def resumeProducing(self) -> None:  # noqa: N802
        """Read from the peer again."""
        raise NotImplementedError

    def getTcpNoDelay(self) -> bool:  # noqa: N802
        local = self.sock.family == socket.AF_UNIX
        return local or bool(self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def setTcpNoDelay(self, enabled: bool) -> None:  # noqa: N802
        if self.sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, enabled)

    def getTcpKeepAlive(self) -> bool:  # noqa: N802
        return bool(self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:  # noqa: N802
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, enabled)


class Direct:
    """The reactor as connections have it that it watches itself, and which know what they want."""

    def __init__(self, reactor: Watcher) -> None:
        self.addReader, self.removeReader = reactor.addReader, reactor.removeReader
        self.addWriter, self.removeWriter = reactor.addWriter, reactor.removeWriter


def follow_reactor(reactor: TwistedReactor) -> None:
    """Have `reactor.removeReader(transport)` and `addReader` pause and resume a connection of ours.

    Protocols of Twisted's call them, and the reactor doesn't know of a connection that a lane watches. Where
    the call is the connection's own, it has noted by then what it wants.
    """
    add, remove = reactor.addReader, reactor.removeReader

    def add_reader(reader: Descriptor) -> None:
        if isinstance(reader, TwistedSocket) and not reader.reading:
            reader.startReading()
        else:
            add(reader)

    def remove_reader(reader: Descriptor) -> None:
        if isinstance(reader, TwistedSocket) and reader.reading:
            reader.stopReading()
        else:
            remove(reader)

    reactor.direct = Direct(reactor)
    reactor.addReader, reactor.removeReader = add_reader, remove_reader
