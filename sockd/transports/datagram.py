"""A datagram socket in the reactor: batches in, bounded for each turn, replies out."""

import errno
import socket
import struct
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from sockd.limits.access import Access
from sockd.limits.buckets import Bucket
from sockd.limits.networks import Network
from sockd.limits.reflection import NETWORKS
from sockd.limits.sources import Sources
from sockd.metrics import Counters
from sockd.peers import Ancillary, Peer, unmapped
from sockd.transports.inet import IP_PKTINFO
from sockd.transports.turn import Turn
from sockd.transports.unix import sent_credentials
from sockd.units import Rate

# Datagrams in one event, whatever their size: a flood on one socket leaves the others their turn.
BATCH = 64
SIZE = 256 * 1024  # bytes in one event, for the same reason
# Read at most of a socket that is to be closed: more than its buffer holds, unless they keep coming.
QUEUED = 16384
# Linux's number (asm-generic/socket.h) of an option that has no name in Python; sock_diag(7) has its fields.
SO_MEMINFO = 55
_MEMINFO = struct.Struct("9I")  # the last one: datagrams dropped
# Senders whose Peer is kept to be found again; forgotten all at once, as they are made in microseconds.
PEERS = 1024
_UDP_MOST = 65_535
# Room for what we ask the kernel to tell: an in6_pktinfo or, on Unix sockets, a ucred. Not a byte more there:
# a sender's SCM_RIGHTS would leave its file descriptors with us (unix(7)).
_TOLD_INET = socket.CMSG_SPACE(20)
_TOLD_UNIX = socket.CMSG_SPACE(12)


def largest(family: int) -> int:
    """The largest datagram that the kernel delivers, in bytes.

    A Unix datagram is as large as its sender's buffer, which may be twice net.core.wmem_max (socket(7)).
    """
    if family != socket.AF_UNIX:
        return _UDP_MOST
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        # What is asked for is cut to wmem_max, then doubled; /proc/sys may be hidden from us.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**30)
        return probe.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)


@implementer(IReadDescriptor)
class DatagramPort:
    """One datagram socket, and the rates at which its datagrams are accepted.

    `protocol` (a DatagramProtocol) is set before the first `read(True)`.
    `failed(where)` is called while an exception of the protocol is being handled, `lost(error, self)` when
    the reactor won't call us any more.
    """

    def __init__(
        self,
        sock: socket.socket,
        turn: Turn,
        counters: Counters,
        failed: Callable[[str], None],
        lost: Callable[[BaseException, object], None],
        rate: Rate | None = None,
        rate_per_source: Rate | None = None,
        exempt: Iterable[Network] = (),
    ) -> None:
        self.sock = sock
        self.fileno = sock.fileno
        self.protocol: Any = None
        self.counters = counters
        self._turn = turn
        self._reactor = turn.reactor
        self.failed = failed
        self._lost = lost
        self.limit(rate, rate_per_source, exempt)
        # For Unix sockets it may be megabytes; and a port that was closed goes with Python's next collection.
        self._view = turn.room(largest(sock.family))
        self._peers: dict[Any, Peer] = {}
        self._access: Access | None = None
        self._barred: dict[Any, str | None] = {}  # what access says, as far as it was asked
        self._reading = False
        self._dropped = 0  # by the kernel, as far as counted
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

    def limit(self, rate: Rate | None, rate_per_source: Rate | None, exempt: Iterable[Network] = ()) -> None:
        """From now on accept no more than that; the rate of a source doesn't concern `exempt` networks."""
        self._all = Bucket(rate, self._reactor.seconds()) if rate else None
        self._sources = Sources(None, rate_per_source, exempt) if rate_per_source else None

    def forget(self) -> None:
        """Let go of sources whose buckets are full again, while nobody sends."""
        if self._sources is not None:
            self._sources.forget(self._reactor.seconds())

    def admit(self, access: Access | None) -> None:
        """From now on take datagrams from, and send them to, whom this allows; None allows everybody."""
        self._access = access
        self._barred.clear()

    def read(self, wanted: bool) -> None:
        """Begin or cease to read; what arrives meanwhile waits in the kernel's buffer, then is lost there."""
        if wanted != self._reading:
            self._reading = wanted
            if wanted:
                self.count_drops()
                self._reactor.addReader(self)
            else:
                self._reactor.removeReader(self)

    def count_drops(self) -> None:
        """Count what the kernel dropped as its buffer was full, while we were held or too slow."""
        told = self.sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _MEMINFO.size)
        dropped = _MEMINFO.unpack(told)[-1] if len(told) == _MEMINFO.size else 0
        if dropped > self._dropped:
            self.counters.refused["dropped by the kernel"] += dropped - self._dropped
            self._dropped = dropped

    # -- in

    def take_queued(self) -> None:
        """Read what has arrived already: closing would lose it."""
        for _ in range(QUEUED // BATCH):
            # Not where it was the reading that failed, or where a batch brought the service down.
            if not self._reading or self._read_batch() < BATCH:
                return

    def doRead(self) -> None:  # noqa: N802
        self._read_batch()

    def _read_batch(self) -> int:
        """Deliver at most BATCH datagrams, or SIZE bytes; how many there were, BATCH if there may be more."""
        batch: list[tuple[bytes, Peer]] = []
        size = 0
        counters = self.counters
        now = self._reactor.seconds() if self._all or self._sources else 0.0
        count = 0
        while count < BATCH:
            try:
                data, peer = self._receive()
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                count += 1
                # A reply that nobody took comes back as an error of the socket; the next datagram is sound.
                counters.refused[_word(error)] += 1
                continue
            count += 1
            if peer is None:
                counters.refused["longer than the kernel's limit"] += 1
                continue
            counters.datagrams_in += 1
            if not data:
                counters.empty += 1
            if self._access is not None:
                barred = self._refusal(peer)
                if barred is not None:
                    counters.refused[barred] += 1
                    continue
            # One source's first: what it has too much of is not to use up what all may have.
            if self._sources is not None and self._sources.take(peer, now):
                counters.refused["datagrams_per_source"] += 1
                continue
            if self._all is not None and not self._all.take(now):
                counters.refused["datagrams"] += 1
                continue
            counters.bytes_in += len(data)
            batch.append((data, peer))
            size += len(data)
            if size >= SIZE:
                count = BATCH
        if batch:
            self._turn.active = True
            try:
                self.protocol.datagrams(batch)
            except BaseException:  # noqa: BLE001
                self.failed("datagrams")
            self._turn.end()
        return count

    def _refusal(self, peer: Peer) -> str | None:
        key = (peer, peer.gid)
        if key not in self._barred:
            if len(self._barred) >= PEERS:
                self._barred.clear()
            assert self._access is not None  # noqa: S101
            groups = frozenset() if peer.gid is None else frozenset({peer.gid})
            self._barred[key] = self._access.refusal(peer, groups)
        return self._barred[key]

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
                uid, pid, gid = sent_credentials(told)
                return Peer.unix(uid, pid, sockaddr, gid)
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
        """Answer a peer from the address that it asked; False (and counted) where that is refused."""
        if peer.sockaddr is None:
            self.counters.refused["no return address"] += 1
            return False
        if self._access is not None:
            barred = self._refusal(peer)  # it may have been heard before a reload
            if barred is not None:
                self.counters.refused[barred] += 1
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
        """The reactor is done with it: there was an exception that nobody caught."""
        self._reading = False
        self._lost(reason.value or Exception(str(reason)), self)

    def leave(self) -> None:
        """Leave the reactor; the socket stays open."""
        self.read(False)
        self.count_drops()


def _word(error: OSError) -> str:
    """The counter's name of a refusal by the kernel."""
    return f"kernel: {errno.errorcode.get(error.errno or 0, 'error')}"


def _reachable(sockaddr: Any, asked: str, control: Ancillary) -> Peer:
    """A peer that asked a wildcard socket; one that asked a whole network gets no answer: it amplifies."""
    peer = Peer.inet(sockaddr, control)
    if asked.startswith(NETWORKS):
        return Peer(None, host=peer.host, port=peer.port)
    return peer
