"""Twisted's own DatagramProtocol, such as that of twisted.names, on a socket of sockd's.

Twisted's contract has one datagram at a time and addresses, as tuples; sockd's has batches and peers. An
answer goes to the peer that was met at its address last, so that it leaves from where that one sent to, and
counts as an answer to it. An address that nobody was met at can be written to as well, within the bounds of
what nobody has asked for (`bounded`).
"""

import socket
from collections.abc import Iterable
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.error import InvalidAddressError
from twisted.internet.interfaces import IUDPTransport
from zope.interface import implementer

from sockd.base.hosted import method_of
from sockd.base.peers import Peer, Sockaddr, unmapped
from sockd.protocols.contract import DatagramProtocol, DatagramTransport, is_twisteds
from sockd.transports.datagrams.senders import PEERS_KEPT
from sockd.transports.twisted import TwistedAddress, twisted_address

# What sockd asks a datagram protocol for where it has it (`protocols.contract`).
_OPTIONAL = ("freeze", "reload", "thaw")


class HostedDatagrams(DatagramProtocol):
    """Serves an address by Twisted's AbstractDatagramProtocol, or anything that has its methods."""

    def __init__(self, hosted: Any) -> None:  # Any: none of Twisted's interfaces names it
        self.hosted = hosted
        self.answer_beyond = getattr(hosted, "answer_beyond", None)
        self.peers: dict[Sockaddr, Peer] = {}

    def __getattr__(self, name: str) -> object:
        if name in _OPTIONAL:
            return getattr(self.hosted, name)
        raise AttributeError(name)

    def start(self, transport: DatagramTransport) -> None:
        super().start(transport)
        if getattr(self.hosted, "noisy", False):
            self.hosted.noisy = False
        self.hosted.makeConnection(HostedPort(self))

    def datagram(self, data: bytes, peer: Peer) -> None:
        where = _where(peer.sockaddr)
        if self.peers.get(where) is not peer:
            if len(self.peers) >= PEERS_KEPT:
                self.peers.clear()
            self.peers[where] = peer
        self.hosted.datagramReceived(data, where)

    def drain(self) -> None:
        drain = method_of(self.hosted, "drain")
        if drain is not None:
            drain()

    def stop(self) -> None:
        self.hosted.doStop()


@implementer(IUDPTransport)
class HostedPort:
    """Twisted's IUDPTransport for one that sockd serves."""

    def __init__(self, protocol: HostedDatagrams) -> None:
        self._protocol = protocol

    @property
    def _port(self) -> Any:  # Any: a DatagramPort, which is more than its contract
        return self._protocol.transport

    def write(self, packet: bytes, addr: Sockaddr = None) -> None:
        """Send a datagram to an address; what the kernel or sockd refuses is counted.

        InvalidAddressError where the host is a name.
        """
        where = _where(addr)
        peer = self._protocol.peers.get(where)
        if peer is None:
            peer = self._stranger(addr)
        self._port.send(packet, peer)

    def _stranger(self, addr: Sockaddr) -> Peer:
        if not isinstance(addr, tuple):
            return Peer.unix(None, None, addr)
        host, port = addr[:2]
        six = isIPv6Address(host)
        if not six and not isIPAddress(host):
            raise InvalidAddressError(host, "an IP address is expected, and no name")
        if self._port.sock.family == socket.AF_INET6:
            return Peer.inet((host if six else f"::ffff:{host}", port, 0, 0))
        return Peer.inet((host, port))

    def writeSequence(self, packets: Iterable[bytes], addr: Sockaddr = None) -> None:  # noqa: N802
        """The same, of one datagram in pieces."""
        self.write(b"".join(packets), addr)

    def getHost(self) -> TwistedAddress:  # noqa: N802
        """The address that is listened on."""
        sock = self._port.sock
        return twisted_address(sock.family, sock.getsockname(), "UDP")

    def getHandle(self) -> socket.socket:  # noqa: N802
        """The socket."""
        handle: socket.socket = self._port.sock
        return handle

    def pauseProducing(self) -> None:  # noqa: N802
        """Read no more datagrams until `resumeProducing`."""
        self._port.pauseProducing()

    def resumeProducing(self) -> None:  # noqa: N802
        """Read datagrams again."""
        self._port.resumeProducing()

    stopReading, startReading = pauseProducing, resumeProducing  # noqa: N815 - as of Twisted's own

    def connect(self, host: str, port: int) -> None:
        """RuntimeError: other peers would be shut out of the endpoint."""
        raise RuntimeError(f"the endpoint's socket serves all peers: it can't be connected to {host}:{port}")

    def stopListening(self) -> None:  # noqa: N802
        """RuntimeError: sockd closes the socket when the endpoint ends."""
        raise RuntimeError("the endpoint's socket is not the protocol's to close")

    def setBroadcastAllowed(self, enabled: bool) -> None:  # noqa: N802
        """Whether the socket may send to broadcast addresses."""
        self._port.sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, enabled)

    def getBroadcastAllowed(self) -> bool:  # noqa: N802
        """The same."""
        return bool(self._port.sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST))


def _where(sockaddr: Sockaddr) -> Sockaddr:
    """An address as Twisted has it: host and port, without what IPv6 adds, and IPv4 as such."""
    if not isinstance(sockaddr, tuple):
        return sockaddr
    host, port = sockaddr[:2]
    return unmapped(host), port


def served(protocol: Any) -> DatagramProtocol:  # Any: of either contract
    """A protocol as sockd serves it: it may be one of Twisted's."""
    ours = callable(getattr(protocol, "datagrams", None))
    return protocol if ours or not is_twisteds(protocol) else HostedDatagrams(protocol)
