"""How datagrams are read off a socket: many in one call where there are such calls, else one by one."""

import socket
from collections.abc import Hashable, Sequence
from typing import Any, Protocol

from sockd.peers import Ancillary
from sockd.transports.batches import Inbox, inbox
from sockd.transports.inet import IP_PKTINFO
from sockd.transports.names import unpack_address, unpack_control
from sockd.transports.turn import Turn

_UDP_MOST = 65_535
# Room for what we ask the kernel to tell: an in6_pktinfo or, on Unix sockets, a ucred. Not a byte more there:
# a sender's SCM_RIGHTS would leave its file descriptors with us (unix(7)).
_TOLD_INET = socket.CMSG_SPACE(20)
_TOLD_UNIX = socket.CMSG_SPACE(12)
_NAMES = {socket.AF_INET: 16, socket.AF_INET6: 28}  # bytes

# Memory that was filled is kept for what comes next, were it more than this in one call it is given back.
_KEPT = 2**20

# What came: datagrams, the keys of their senders, how many were taken from the socket (some may have been too
# long), and whether there may be more.
Received = tuple[Sequence[bytes], Sequence[Hashable], int, bool]


class Receiver(Protocol):
    """Reads one socket. A sender has the same key each time, and `told` says what the kernel told of it."""

    def receive(self, most: int) -> Received:
        """At most so many; OSError where nothing is there, or what is there first is an error."""

    def told(self, key: Any) -> tuple[Any, Ancillary]:
        """A sender's address, as `recvfrom` gives it, and ancillary data."""


class InBatches:
    """recvmmsg: as many in a call as may come without being too much.

    All of them may turn out to be as long as can be. So one at a time while any is longer than `short`
    (bytes), then one more with each call that brought as many as it could.
    """

    def __init__(self, sock: socket.socket, arrays: Inbox, short: int, control: int) -> None:
        self._fileno = sock.fileno
        self._inbox = arrays
        self._short = short
        self._control = control
        self._most = 1

    def receive(self, most: int) -> Received:
        asked = min(most, self._most)
        datagrams, keys, lengths = self._inbox.receive(self._fileno(), asked)
        if max(lengths) > self._short:
            if sum(lengths) > _KEPT:
                self._inbox.give_back()
            self._most = 1
        elif len(lengths) == self._most < self._inbox.count:
            self._most += 1
        return datagrams, keys, len(lengths), len(lengths) == asked

    def told(self, key: bytes) -> tuple[Any, Ancillary]:
        return unpack_address(key[self._control :]), unpack_control(key[: self._control])


class OneByOne:
    """recvfrom, or recvmsg where ancillary data comes."""

    def __init__(self, sock: socket.socket, room: memoryview, control: int) -> None:
        self._sock = sock
        self._room = room
        self._control = control

    def receive(self, most: int) -> Received:  # noqa: ARG002
        room = self._room
        ancillary: list[tuple[int, int, bytes]] = []
        if self._control:
            count, ancillary, flags, sockaddr = self._sock.recvmsg_into([room], self._control)
            if flags & socket.MSG_TRUNC:
                return (), (), 1, True
        else:
            count, sockaddr = self._sock.recvfrom_into(room)
        return (bytes(room[:count]),), ((sockaddr, tuple(ancillary)),), 1, True

    def told(self, key: tuple[Any, Ancillary]) -> tuple[Any, Ancillary]:
        return key


def receiver(sock: socket.socket, turn: Turn, most: int, short: int) -> Receiver:
    """For a socket that is to give at most so many in an event, if they are `short` (bytes)."""
    control = told_room(sock)
    longest = largest(sock.family)
    arrays = inbox(most, longest, control, _NAMES.get(sock.family))
    if arrays is None:
        return OneByOne(sock, turn.room(longest), control)
    return InBatches(sock, arrays, short, control)


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
