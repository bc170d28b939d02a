"""The memory that handshakes hold, all of a reactor's together, which is bounded.

A peer that has begun a handshake and doesn't go on holds what it has sent, and what OpenSSL has taken for the
rest, until `limits.handshake` ends it. Where the bound is reached, the handshake that has held something for
longest gives way: those of honest clients end within a round trip or two.
"""

from typing import Protocol

# Bytes of all handshakes at most.
HANDSHAKES_MEMORY = 16 * 1024 * 1024


class Holder(Protocol):
    """A connection in its handshake."""

    def give_way(self) -> None:
        """End it: others need the memory."""


class HandshakeMemory:
    """What each handshake holds, in the order in which they began to."""

    __slots__ = ("_held", "total")

    def __init__(self) -> None:
        self._held: dict[Holder, int] = {}
        self.total = 0  # bytes

    def hold(self, holder: Holder, size: int) -> None:
        """From now on this one holds so many bytes."""
        self.total += size - self._held.get(holder, 0)
        if size:
            self._held[holder] = size
        else:
            self._held.pop(holder, None)
        while self.total > HANDSHAKES_MEMORY:
            oldest = next(iter(self._held))
            self.hold(oldest, 0)
            oldest.give_way()
