"""How datagrams are read from a socket: many in one call where the system has such calls, else one by one."""

import socket
from collections.abc import Hashable, Sequence
from typing import Any, Protocol

from sockd.base.peers import Ancillary, Sockaddr
from sockd.transports.datagrams.mmsg import Inbox, inbox
from sockd.transports.datagrams.sockaddr import unpack_address, unpack_control
from sockd.transports.flush import Flusher
from sockd.transports.sockets.inet import IP_PKTINFO

_LONGEST_UDP = 65_535
# Bytes of the ancillary data that we ask the kernel for: an in6_pktinfo or, on Unix sockets, a ucred. Not a
# byte more there: a sender's SCM_RIGHTS would leave its file descriptors with us (unix(7)).
_CONTROL_INET = socket.CMSG_SPACE(20)
_CONTROL_UNIX = socket.CMSG_SPACE(12)
_ADDRESS_SIZES = {socket.AF_INET: 16, socket.AF_INET6: 28}  # bytes

# Bytes of memory, filled by one call, that are kept for the next; above that the memory is given back.
_MEMORY_KEPT = 2**20

# What tells senders apart. Any: each receiver makes its own.
Key = Any

# Up to this many datagrams in an event, recvfrom is cheaper for each than recvmmsg with its arrays.
FEW_DATAGRAMS = 2
# After QUIET_READS events in a row with so few, the next SINGLE_READS datagrams are read one by one; then a
# call looks again how many there are.
QUIET_READS = 8
SINGLE_READS = 32

# Datagrams, the keys of their senders, how many were taken from the socket, whether there may be more, and
# the keys of the senders of those that were too long.
Received = tuple[Sequence[bytes], Sequence[Hashable], int, bool, Sequence[Hashable]]


class Receiver(Protocol):
    """Reads one socket.

    A datagram comes with a key, which is the same for each datagram of a sender, and quicker to look up than
    its address is to parse; `origin` parses it. The two ways of reading have keys of their own. `plain` says
    that an event brings so few datagrams that `receive_one` is the quicker way.
    """

    plain: bool

    def receive_one(self) -> tuple[bytes | None, Hashable]:
        """One datagram, None where it was too long, and its sender's key; OSError as in `receive`."""

    def receive(self, most: int) -> Received:
        """Read at most `most`; OSError where none is there, or where an error comes first."""

    def origin(self, key: Key) -> tuple[Sockaddr, Ancillary]:
        """A sender's address, as `recvfrom` returns it, and ancillary data."""


class OneByOne:
    """Reads with recvfrom, or with recvmsg where ancillary data comes."""

    plain = False  # an event reads until nothing is left: this doesn't know how many there are

    def __init__(self, sock: socket.socket, room: memoryview, control: int) -> None:
        self._sock = sock
        self._room = room
        self._control = control

    def receive_one(self) -> tuple[bytes | None, Hashable]:
        room = self._room
        if not self._control:
            count, sockaddr = self._sock.recvfrom_into(room)
            return bytes(room[:count]), (sockaddr, ())
        count, ancillary, flags, sockaddr = self._sock.recvmsg_into([room], self._control)
        data = None if flags & socket.MSG_TRUNC else bytes(room[:count])
        return data, (sockaddr, tuple(ancillary))

    def receive(self, most: int) -> Received:  # noqa: ARG002
        data, key = self.receive_one()
        return ((), (), 1, True, (key,)) if data is None else ((data,), (key,), 1, True, ())

    def origin(self, key: tuple[Sockaddr, Ancillary]) -> tuple[Sockaddr, Ancillary]:
        return key


class InBatches:
    """Reads with recvmmsg, as many in a call as can't be too much for one event; one by one while few come.

    Each of them may turn out to be as long as a datagram can be. So a call asks for one while any is longer
    than `short` (bytes), and for one more after each call that brought as many as it had asked for. `most` is
    how many the next call asks for.
    """

    def __init__(
        self, sock: socket.socket, arrays: Inbox, one_by_one: OneByOne, short: int, control: int
    ) -> None:
        self._fileno = sock.fileno
        self.inbox = arrays
        self._one_by_one = one_by_one
        self._short = short
        self._control = control
        self.most = 1
        self._quiet = 0  # calls in a row that found few
        self._left = 0  # datagrams that are still to be read one by one
        self.plain = False

    def receive_one(self) -> tuple[bytes | None, Hashable]:
        self._left -= 1
        if not self._left:
            self.plain = False
        return self._one_by_one.receive_one()

    def receive(self, most: int) -> Received:
        asked = min(most, self.most)
        datagrams, keys, lengths, truncated = self.inbox.receive(self._fileno(), asked)
        came = len(lengths)
        if max(lengths) > self._short:
            if sum(lengths) > _MEMORY_KEPT:
                self.inbox.give_back()
            self.most = 1
        elif came == self.most < self.inbox.count:
            self.most += 1
        if came > FEW_DATAGRAMS:
            self._quiet = 0
        elif came < asked:
            self._seen_few()
        return datagrams, keys, came, came == asked, truncated

    def _seen_few(self) -> None:
        self._quiet += 1
        if self._quiet >= QUIET_READS:
            self._quiet = QUIET_READS - 1  # if the next look finds as few, it is enough
            self._left = SINGLE_READS
            self.plain = True

    def origin(self, key: Key) -> tuple[Sockaddr, Ancillary]:
        if isinstance(key, tuple):
            return self._one_by_one.origin(key)
        return unpack_address(key[self._control :]), unpack_control(key[: self._control])


def receiver(sock: socket.socket, flusher: Flusher, most: int, short: int) -> Receiver:
    """For a socket of which an event is to read at most `most` datagrams, if each is `short` (bytes)."""
    control = control_room(sock)
    longest = largest(sock.family)
    arrays = inbox(most, longest, control, _ADDRESS_SIZES.get(sock.family))
    one_by_one = OneByOne(sock, flusher.room(longest), control)
    return one_by_one if arrays is None else InBatches(sock, arrays, one_by_one, short, control)


def control_room(sock: socket.socket) -> int:
    """Bytes of the ancillary data that the kernel was asked for."""
    if sock.family == socket.AF_UNIX:
        return _CONTROL_UNIX
    if sock.family == socket.AF_INET6:
        asked = sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO)
    else:
        asked = sock.getsockopt(socket.IPPROTO_IP, IP_PKTINFO)
    return _CONTROL_INET if asked else 0


def largest(family: int) -> int:
    """The largest datagram that the kernel delivers, in bytes.

    A Unix datagram is as large as its sender's buffer, which may be twice net.core.wmem_max (socket(7)).
    """
    if family != socket.AF_UNIX:
        return _LONGEST_UDP
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        # The kernel cuts this to wmem_max, then doubles it; /proc/sys may be hidden from us.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**30)
        return probe.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
