"""Which connections have had their time: a sweep over marks, instead of a timer for each. Pure."""

import array
import fcntl
import select
import socket
import termios
from collections.abc import Iterable
from typing import Protocol

from sockd.base.metrics import End

# How long (seconds) we read on for the peer's FIN after ours; nginx's lingering_timeout is the same.
LINGER = 5.0
# The mark of a connection that was owed something or was not being read from: its idle time begins anew.
_BUSY = -1


class Begun(Protocol):
    """A connection, and since when it is at its protocol, or has had the time to get there."""

    received: int
    opened: float
    begun: float
    ready: bool
    disconnecting: bool

    @property
    def paused(self) -> bool: ...


def overdue(
    connection: Begun, now: float, handshake: float, first_byte: float | None, lifetime: float | None
) -> End | None:
    """Whether it didn't begin in time, or has lasted for long enough; times in seconds, None for no limit.

    While nothing is read from the peer, it isn't the peer's fault that nothing comes.
    """
    if connection.disconnecting:
        return None
    if connection.paused and not connection.received:
        connection.begun = now
    waited = now - connection.begun
    if not connection.ready:
        return End.HANDSHAKE if waited >= handshake else None
    if first_byte is not None and not connection.received and waited >= first_byte:
        return End.FIRST_BYTE
    return End.LIFETIME if lifetime is not None and now - connection.opened >= lifetime else None


class Marked(Protocol):
    """A connection and the marks of the last sweep that saw it move."""

    received: int
    sent: int
    unsent: int
    lingering: bool
    mark_received: int
    mark_sent: int
    mark_time: float

    @property
    def paused(self) -> bool: ...


def verdict(
    connection: Marked, now: float, idle: float | None, stall: float | None, linger: float = LINGER
) -> End | None:
    """Why the connection is to end now, if it is; times in seconds, None for no limit.

    `idle` runs only while we are reading from the peer and owe it nothing; `stall` bounds owing without
    progress. `End.DONE`: the peer had its time to answer our FIN.
    """
    waited = now - connection.mark_time
    if connection.lingering:
        return End.DONE if waited >= linger else None
    if connection.unsent:
        if connection.sent != connection.mark_sent or connection.mark_received != _BUSY:
            connection.mark_sent = connection.sent
            _mark(connection, _BUSY, now)
        elif stall is not None and waited >= stall:
            return End.STALLED
    elif connection.paused:
        _mark(connection, _BUSY, now)
    elif connection.received != connection.mark_received:
        _mark(connection, connection.received, now)
    elif idle is not None and waited >= idle:
        return End.IDLE
    return None


def _mark(connection: Marked, received: int, now: float) -> None:
    connection.mark_received = received
    connection.mark_time = now


_LEFT = select.POLLRDHUP | select.POLLHUP | select.POLLERR


def left(sockets: Iterable[socket.socket]) -> tuple[set[int], set[int]]:
    """The numbers of those whose peer has left with nothing of it to be read, and of those that it reset.

    One may be in both. A Unix socket is never reset: closing it with something unread looks the same.
    """
    poll = select.poll()
    local = set()
    for sock in sockets:
        poll.register(sock, select.POLLRDHUP)
        if sock.family == socket.AF_UNIX:
            local.add(sock.fileno())
    left, reset = set(), set()
    for number, event in poll.poll(0):
        if event & (select.POLLERR | select.POLLHUP) and number not in local:
            reset.add(number)
        if event & _LEFT and not _unread(number):
            left.add(number)
    return left, reset


def _unread(number: int) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(number, termios.FIONREAD, count)
    return count[0]
