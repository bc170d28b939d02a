"""A datagram socket in the reactor: batches in, bounded for each turn, replies out."""

import errno
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from sockd.limits.buckets import Bucket, Sources
from sockd.metrics import Counters
from sockd.peers import Ancillary, Peer, unmapped
from sockd.transports.inet import IP_PKTINFO
from sockd.transports.turn import Turn
from sockd.transports.unix import sent_credentials
from sockd.units import Rate

# Datagrams in one event, whatever their size: a flood on one socket leaves the others their turn.
BATCH = 64
# Senders whose Peer is kept to be found again; forgotten all at once, as they are made in microseconds.
PEERS = 1024
_UDP_MOST = 65_535
# Room for what we ask the kernel to tell: an in6_pktinfo or, on Unix sockets, a ucred. Not a byte more there:
# a sender's SCM_RIGHTS would leave its file descriptors with us (unix(7)).
_TOLD_INET = socket.CMSG_SPACE(20)
_TOLD_UNIX = socket.CMSG_SPACE(12)
_WHOLE_NETWORKS = (*(f"{first}." for first in range(224, 240)), "255.255.255.255", "ff")


def largest(family: int) -> int:
    """The largest datagram that the kernel delivers, in bytes.

    A Unix datagram is as large as its sender's buffer, which may be twice net.core.wmem_max (socket(7)).
    """
    if family != socket.AF_UNIX:
        return _UDP_MOST
    try:
        most = int(Path("/proc/sys/net/core/wmem_max").read_text("ascii"))
    except (OSError, ValueError):
        most = 212_992
    return 2 * most


@implementer(IReadDescriptor)
class DatagramPort:
    """One datagram socket, and the rates at which its datagrams are accepted.

    `protocol` (a DatagramProtocol) is set before the first `read(True)`.
    `failed(where)` is called while an exception of the protocol is being handled.
    """

    def __init__(
        self,
        sock: socket.socket,
        turn: Turn,
        counters: Counters,
        failed: Callable[[str], None],
        rate: Rate | None = None,
        rate_per_source: Rate | None = None,
    ) -> None:
        self.sock = sock
        self.fileno = sock.fileno
        self.protocol: Any = None
        self.counters = counters
        self._turn = turn
        self._reactor = turn.reactor
        self._failed = failed
        self._all = Bucket(rate, self._reactor.seconds()) if rate else None
        self._sources = Sources(rate_per_source) if rate_per_source else None
        size = largest(sock.family)
        self._view = turn.view if size <= len(turn.view) else memoryview(bytearray(size))
        self._peers: dict[Any, Peer] = {}
        self._reading = False
        self._ancillary = _TOLD_UNIX if sock.family == socket.AF_UNIX else _TOLD_INET
        self._receive = self._receive_told if self._wants_ancillary() else self._receive_plain

    def _wants_ancillary(self) -> bool:
        if self.sock.family == socket.AF_UNIX:
            return True
        if self.sock.family == socket.AF_INET6:
            return bool(self.sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO))
        return bool(self.sock.getsockopt(socket.IPPROTO_IP, IP_PKTINFO))

    def logPrefix(self) -> str:  # noqa: N802
        return "sockd"

    def read(self, wanted: bool) -> None:
        """Begin or cease to read; what arrives meanwhile waits in the kernel's buffer, then is lost there."""
        if wanted != self._reading:
            self._reading = wanted
            if wanted:
                self._reactor.addReader(self)
            else:
                self._reactor.removeReader(self)

    # -- in

    def doRead(self) -> None:  # noqa: N802
        batch: list[tuple[bytes, Peer]] = []
        counters = self.counters
        now = self._reactor.seconds() if self._all or self._sources else 0.0
        for _ in range(BATCH):
            try:
                data, peer = self._receive()
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                # A reply that nobody took comes back as an error of the socket; the next datagram is sound.
                counters.refused[_word(error)] += 1
                continue
            if peer is None:
                counters.refused["longer than the kernel's limit"] += 1
                continue
            counters.datagrams_in += 1
            if not data:
                counters.empty += 1
            if self._all is not None and not self._all.take(now):
                counters.refused["datagrams"] += 1
                continue
            if self._sources is not None and not self._sources.take(peer.host or peer.uid, now):
                counters.refused["datagrams_per_source"] += 1
                continue
            counters.bytes_in += len(data)
            batch.append((data, peer))
        if batch:
            self._turn.active = True
            try:
                self.protocol.datagrams(batch)
            except Exception:  # noqa: BLE001
                self._failed("datagrams")
            self._turn.end()

    def _receive_plain(self) -> tuple[bytes, Peer | None]:
        count, sockaddr = self.sock.recvfrom_into(self._view)
        peer = self._peers.get(sockaddr)
        if peer is None:
            peer = self._remember(sockaddr, Peer.inet(sockaddr))
        return bytes(self._view[:count]), peer

    def _receive_told(self) -> tuple[bytes, Peer | None]:
        count, ancillary, flags, sockaddr = self.sock.recvmsg_into([self._view], self._ancillary)
        if flags & socket.MSG_TRUNC:
            return b"", None
        told = ancillary[0][2] if ancillary else b""
        key = (sockaddr, told)
        peer = self._peers.get(key)
        if peer is None:
            peer = self._remember(key, self._told_peer(sockaddr, ancillary))
        return bytes(self._view[:count]), peer

    def _remember(self, key: Any, peer: Peer) -> Peer:
        if len(self._peers) >= PEERS:
            self._peers.clear()
        self._peers[key] = peer
        return peer

    def _told_peer(self, sockaddr: Any, ancillary: list[tuple[int, int, bytes]]) -> Peer:
        for level, kind, told in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                return Peer.unix(*sent_credentials(told), sockaddr)
            if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
                asked = unmapped(socket.inet_ntop(socket.AF_INET6, told[:16]))
                # The interface matters for link-local addresses alone (RFC 3542, 6.2); else routing decides.
                interface = told[16:20] if asked.startswith("fe80:") else bytes(4)
                return _reachable(sockaddr, asked, ((level, kind, told[:16] + interface),))
            if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
                # struct in_pktinfo: interface, the local address to reply from, the address that was asked
                asked = socket.inet_ntoa(told[8:12])
                if told[4:8] != told[8:12]:
                    asked = "255.255.255.255"
                return _reachable(sockaddr, asked, ((level, kind, bytes(4) + told[4:8] + bytes(4)),))
        return Peer.unix(None, None, sockaddr) if self.sock.family == socket.AF_UNIX else Peer.inet(sockaddr)

    # -- out

    def send(self, data: bytes, peer: Peer) -> bool:
        """Answer a peer from the address that it asked; False (and counted) where the kernel refuses."""
        if peer.sockaddr is None:
            self.counters.refused["no return address"] += 1
            return False
        try:
            if peer.control:
                self.sock.sendmsg((data,), peer.control, 0, peer.sockaddr)
            else:
                self.sock.sendto(data, peer.sockaddr)
        except OSError as error:
            self.counters.refused[_word(error)] += 1
            return False
        self.counters.datagrams_out += 1
        self.counters.bytes_out += len(data)
        return True

    # -- endings

    def connectionLost(self, reason: Failure) -> None:  # noqa: N802
        """The reactor is done with it, or stops: nothing to do, `close` comes from its listener."""

    def close(self) -> None:
        """Leave the reactor and close the socket."""
        self.read(False)
        self.sock.close()


def _word(error: OSError) -> str:
    """The counter's name of a refusal by the kernel."""
    return f"kernel: {errno.errorcode.get(error.errno or 0, 'error')}"


def _reachable(sockaddr: Any, asked: str, control: Ancillary) -> Peer:
    """A peer that asked a wildcard socket; one that asked a whole network gets no answer: it amplifies."""
    peer = Peer.inet(sockaddr, control)
    if asked.startswith(_WHOLE_NETWORKS):
        return Peer(None, host=peer.host, port=peer.port)
    return peer
