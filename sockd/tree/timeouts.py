"""Which connections have had their time, judged from marks that the sweep leaves on them. Pure.

A mark is what a connection had received and sent when a sweep last saw it move, and when that was. Each sweep
compares and, where something moved, marks anew; so time is counted from the sweep that saw the last movement,
not from the movement itself, and a connection may live longer than its limit by two intervals of the sweep.
In return a byte that moves costs nothing, not even a look at the clock.

The times mean different things. `idle` runs while we read from the peer and nothing is unsent: the peer is
silent. `stall` runs while something is unsent and the peer takes none of it, or too little to get below the
endpoint's bound (`least_progress`). `handshake`, `first_byte` and
`lifetime` run from the beginning, and stop for nothing that the peer does.
"""

from typing import Protocol

from sockd.base.metrics import End

# How long (seconds) we read on for the peer's FIN after ours; nginx's lingering_timeout is the same.
LINGER = 5.0
# In the place of a count of bytes: the connection had something unsent, or was not being read from. No count
# equals it, so that idle time begins anew when that is over.
_BUSY = -1


class Begun(Protocol):
    """A connection, and the time since which it could begin: with its handshake, or with its first byte."""

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
    """Why the connection has to end by its age, if it has; times in seconds, None for no limit.

    A peer that sockd doesn't read from is not late: its time to begin starts anew.
    """
    if connection.disconnecting:
        return None
    if connection.paused and not (connection.ready and connection.received):
        connection.begun = now
    waited = now - connection.begun
    if not connection.ready:
        return End.HANDSHAKE if waited >= handshake else None
    if first_byte is not None and not connection.received and waited >= first_byte:
        return End.FIRST_BYTE
    return End.LIFETIME if lifetime is not None and now - connection.opened >= lifetime else None


class Marked(Protocol):
    """A connection, and the marks of the last sweep that saw it move."""

    received: int
    sent: int
    unsent: int
    lingering: bool
    mark_received: int
    mark_sent: int
    mark_time: float

    @property
    def least_progress(self) -> int: ...

    @property
    def paused(self) -> bool: ...


def verdict(
    connection: Marked, now: float, idle: float | None, stall: float | None, linger: float = LINGER
) -> End | None:
    """Why the connection has to end by what moved on it, if it has; times in seconds, None for no limit.

    `End.DONE`: the peer had its time to answer our FIN.
    """
    waited = now - connection.mark_time
    if connection.lingering:
        return End.DONE if waited >= linger else None
    if connection.unsent:
        moved = connection.sent - connection.mark_sent
        if moved >= connection.least_progress or connection.mark_received != _BUSY:
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
