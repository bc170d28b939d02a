"""What all transports of one reactor share within one event: a buffer, and who has something to send."""

import mmap
import socket
from collections import deque
from typing import Any, Protocol

# One read takes at most this much: larger reads are fewer, but each paused connection may hold one.
READ = 128 * 1024
# When more transports than these have something to send, as in a chat, they send it after all events of the
# reactor's turn: several messages to many members are then one call a member, not one a message and member.
FEW = 16


class Dirty(Protocol):
    """A transport with something to send."""

    def flush(self) -> None: ...


class Turn:
    """Answers leave at the end of the event that caused them, each transport's in one system call.

    Written at once, a fan-out of many messages costs a call each; left to the reactor's next turn, an
    answer costs two changes of the epoll set. `active` is true while an event is being handled.
    """

    __slots__ = ("_graves", "_room", "_scheduled", "active", "buffer", "dirty", "reactor", "view")

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.buffer = bytearray(READ)
        self.view = memoryview(self.buffer)
        self._room = self.view
        self.dirty: deque[Dirty] = deque()
        self.active = False
        self._scheduled = False
        self._graves: list[socket.socket] = []

    def room(self, size: int) -> memoryview:
        """Where a datagram of so many bytes can be received: everybody's, so it is to be copied at once."""
        if size > len(self._room):
            # For Unix sockets it may be megabytes; of a mapping what no datagram reached takes no memory.
            self._room = memoryview(mmap.mmap(-1, size, mmap.MAP_PRIVATE))
        return self._room

    def add(self, transport: Dirty) -> None:
        """Flush this transport at the end of the event, or soon where there is none."""
        self.dirty.append(transport)
        if not self.active:
            self._run_soon()

    def end(self) -> None:
        """The event has been handled."""
        if len(self.dirty) > FEW:
            self.active = False
            self._run_soon()
        else:
            self._flush()

    def _flush(self) -> None:
        try:
            while self.dirty:
                self.dirty.popleft().flush()
        finally:
            self.active = False

    def bury(self, sock: socket.socket) -> None:
        """Close a socket after this turn of the reactor.

        Its number may not be given to a new connection while the events that epoll reported for the old one
        are still being worked off.
        """
        self._graves.append(sock)
        self._run_soon()

    def _run_soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self.reactor.callLater(0, self._run)

    def _run(self) -> None:
        self._scheduled = False
        self.active = True
        self._flush()
        graves, self._graves = self._graves, []
        for sock in graves:
            sock.close()
