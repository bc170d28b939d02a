"""What all transports of one reactor share in an event: who has something to send; room for a datagram."""

import mmap
import socket
from collections import defaultdict, deque
from time import perf_counter
from typing import Any, Protocol

# When more transports than these have something to send after an event, as in a chat, they send it after all
# events of the reactor's turn: several messages to many members are then one call a member, not one a message
# and member. While so many wait, whoever else of their lane has something to send waits with them. Else those
# who speak at once, and are sent to by their own events, would be sent to again for each that speaks after
# them: with twenty of a room of 200 it was 1.8 sends a member, and is 1.1.
FEW = 16
# Nobody has the reactor for longer (seconds) than that and the event that it is in, if others may wait. A
# thousand peers who all say something at once, which costs 10 µs each, keep another endpoint waiting for a
# twentieth of what they would.
SLICE = 0.0005

# What many are to get waits so long (seconds) at most, while more is being said to them.
PATIENCE = 0.005


class Dirty(Protocol):
    """A transport with something to send."""

    lane: Any  # where it is watched

    def flush(self) -> None: ...


class Later(deque[Dirty]):
    """Those of one lane who have something to send, since when (perf_counter)."""

    def __init__(self) -> None:
        super().__init__()
        self.since = perf_counter()


class Flusher:
    """Answers leave at the end of the event that caused them, each transport's in one system call.

    Written at once, a fan-out of many messages costs a call each; left to the reactor's next turn, an
    answer costs two changes of the epoll set. `active` is true while an event is being handled; `dirty` are
    those to whom it gave something to send; `hearing` are the lanes that had events since what is sent to
    many was seen to last: it waits for what else will be said to them. `waiting` counts those who have sent
    as much as their peers would take, and those whom their protocols have paused.
    """

    __slots__ = (
        "_graves",
        "_later",
        "_room",
        "_scheduled",
        "active",
        "bios",
        "dirty",
        "hearing",
        "reactor",
        "waiting",
    )

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self._room = memoryview(b"")
        self.bios: Any = None  # those of `transports.tls`, made by the first that needs them
        self.dirty: deque[Dirty] = deque()
        self._later: defaultdict[Any, Later] = defaultdict(Later)
        self.hearing: set[Any] = set()
        self.active = False
        self.waiting = 0
        self._scheduled = False
        self._graves: list[socket.socket] = []

    def room(self, size: int) -> memoryview:
        """Where a datagram of so many bytes can be received: everybody's, so it is to be copied at once."""
        if size > len(self._room):
            # On Unix sockets it may be megabytes; of a mapping what no datagram reached takes no memory.
            self._room = memoryview(mmap.mmap(-1, size, mmap.MAP_PRIVATE))
        return self._room

    def add(self, transport: Dirty) -> None:
        """Flush this transport at the end of the event, or soon where there is none."""
        if self.active:
            self.dirty.append(transport)
        else:
            self._later[transport.lane].append(transport)
            self._run_soon()

    def end(self) -> None:
        """The event has been handled."""
        dirty = self.dirty
        try:
            while dirty:
                if len(dirty) > FEW:
                    self._postpone()
                    break
                transport = dirty.popleft()
                later = self._later.get(transport.lane)
                if later is None or len(later) <= FEW:
                    transport.flush()
                else:
                    later.append(transport)
        finally:
            self.active = False

    def _postpone(self) -> None:
        """Let all wait, by lane; an endpoint's first, whom the reactor itself watches, with its others."""
        dirty, reactor = self.dirty, self.reactor
        others = next((one.lane for one in dirty if one.lane is not reactor), reactor)
        for transport in dirty:
            lane = transport.lane
            self._later[others if lane is reactor else lane].append(transport)
        dirty.clear()
        self._run_soon()

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
        hearing, self.hearing = self.hearing, set()
        try:
            for lane, later in tuple(self._later.items()):
                if lane not in hearing or perf_counter() > later.since + PATIENCE:
                    self._send_some(lane, later)
        finally:
            self.end()
            if self._later:
                self._run_soon()
            graves, self._graves = self._graves, []
            for sock in graves:
                sock.close()

    def _send_some(self, lane: Any, later: Later) -> None:
        until = perf_counter() + SLICE
        try:
            while later:
                later.popleft().flush()
                if perf_counter() > until:
                    break
        finally:
            if not later:
                del self._later[lane]
