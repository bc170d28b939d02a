"""How datagrams are read off a socket: many in one call where there are such calls, else one by one."""

import socket
from collections.abc import Hashable, Sequence
from typing import Any, Protocol

from sockd.base.peers import Ancillary
from sockd.transports.datagrams.mmsg import Inbox, inbox
from sockd.transports.datagrams.sockaddr import unpack_address, unpack_control
from sockd.transports.flush import Flusher
from sockd.transports.sockets.inet import IP_PKTINFO

_UDP_MOST = 65_535
# Room for what we ask the kernel to tell: an in6_pktinfo or, on Unix sockets, a ucred. Not a byte more there:
# a sender's SCM_RIGHTS would leave its file descriptors with us (unix(7)).
_TOLD_INET = socket.CMSG_SPACE(20)
_TOLD_UNIX = socket.CMSG_SPACE(12)
_NAMES = {socket.AF_INET: 16, socket.AF_INET6: 28}  # bytes

# Memory that was filled is kept for what comes next, were it more than this in one call it is given back.
_KEPT = 2**20

# Of so few datagrams in an event each is cheaper by recvfrom than by recvmmsg on its arrays.
FEW = 2
# After so many such events in a row the next ones are read one by one, and every so often there is a look at
# how many there are.
QUIET = 8
PLAIN = 32

# What came: datagrams, the keys of their senders, how many were taken from the socket (some may have been too
# long), and whether there may be more.
Received = tuple[Sequence[bytes], Sequence[Hashable], int, bool]


class Receiver(Protocol):
    """Reads one socket. A sender has few keys (one for each way), and `told` says what the kernel told of it.

    `plain`: an event brings so few that one at a time, by `receive_one`, is the quicker way.
    """

    plain: bool

    def receive_one(self) -> tuple[bytes | None, Hashable]:
        """One datagram, None where it was too long, and its sender's key; OSError as in `receive`."""

    def receive(self, most: int) -> Received:
        """At most so many; OSError where nothing is there, or what is there first is an error."""

    def told(self, key: Any) -> tuple[Any, Ancillary]:
        """A sender's address, as `recvfrom` gives it, and ancillary data."""


class OneByOne:
    """recvfrom, or recvmsg where ancillary data comes."""

    plain = False  # until nothing is left, as nobody looks at how many there are

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
        return ((), (), 1, True) if data is None else ((data,), (key,), 1, True)

    def told(self, key: tuple[Any, Ancillary]) -> tuple[Any, Ancillary]:
        return key


class InBatches:
    """recvmmsg: as many in a call as may come without being too much; one by one while few come.

    All of them may turn out to be as long as can be. So one at a time while any is longer than `short`
    (bytes), then one more with each call that brought as many as it could.
    """

    def __init__(
        self, sock: socket.socket, arrays: Inbox, one_by_one: OneByOne, short: int, control: int
    ) -> None:
        self._fileno = sock.fileno
        self._inbox = arrays
        self._one_by_one = one_by_one
        self._short = short
        self._control = control
        self._most = 1
        self._quiet = 0  # calls in a row that found few
        self._left = 0  # datagrams to come one by one
        self.plain = False

    def receive_one(self) -> tuple[bytes | None, Hashable]:
        self._left -= 1
        if not self._left:
            self.plain = False
        return self._one_by_one.receive_one()

    def receive(self, most: int) -> Received:
        asked = min(most, self._most)
        datagrams, keys, lengths = self._inbox.receive(self._fileno(), asked)
        came = len(lengths)
        if max(lengths) > self._short:
            if sum(lengths) > _KEPT:
                self._inbox.give_back()
            self._most = 1
        elif came == self._most < self._inbox.count:
            self._most += 1
        if came > FEW:
            self._quiet = 0
        elif came < asked:
            self._seen_few()
        return datagrams, keys, came, came == asked

    def _seen_few(self) -> None:
        self._quiet += 1
        if self._quiet >= QUIET:
            self._quiet = QUIET - 1  # the next look, if it sees no more, is one of as many
            self._left = PLAIN
            self.plain = True

    def told(self, key: Any) -> tuple[Any, Ancillary]:
        if isinstance(key, tuple):
            return self._one_by_one.told(key)
        return unpack_address(key[self._control :]), unpack_control(key[: self._control])


def receiver(sock: socket.socket, flusher: Flusher, most: int, short: int) -> Receiver:
    """For a socket that is to give at most so many in an event, if they are `short` (bytes)."""
    control = told_room(sock)
    longest = largest(sock.family)
    arrays = inbox(most, longest, control, _NAMES.get(sock.family))
    one_by_one = OneByOne(sock, flusher.room(longest), control)
    return one_by_one if arrays is None else InBatches(sock, arrays, one_by_one, short, control)


def told_room(sock: socket.socket) -> int:
    """Room for the ancillary data that the kernel was asked for, in bytes."""
    if sock.family == socket.AF_UNIX:
        return _TOLD_UNIX
    if sock.family == socket.AF_INET6:
        asked = sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO)
    else:
        asked = sock.getsockopt(socket.IPPROTO_IP, IP_PKTINFO)
    return _TOLD_INET if asked else 0


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
