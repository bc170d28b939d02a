"""When transports send what was written: at the end of the event, or later where many have something to send.

# Theory of operation

An event is one call from the reactor or a lane: a transport reads, a timer is due. While it is handled the
flusher is `active`, and a transport that is written to only notes the bytes and calls `add`. `end` then has
each of them send its bytes in one system call. Written immediately, ten pieces of an answer would be ten
calls; left to the reactor's next turn, each answer would cost two changes of the epoll set.

**A fan-out** is different: one peer's message goes to a room of 200. Here it pays to wait, as another peer
of the room may be speaking in the same turn, and two messages then leave in one call to each member. So
when more than `FAN_OUT` transports have something to send after one event, all of them go to a queue of
their lane (`_later`), which `_run` works off as the reactor's next call. A queue as long as that takes in
every transport of its lane that has something to send. Otherwise members that speak, and are written to by
their own events, would be sent to once more for each that speaks after them: with twenty speakers in a room
of 200 that was 1.8 sends a member, and is 1.1.

**Who else waits.** The queue of a lane that had events since the last run (`hearing`) is left alone, as more
may come for its transports, but for `FAN_OUT_WAIT` at most. And a queue has the reactor for a slice
(`SLICE`) at a time, then others have their turn, as with the lanes' events.

The flusher also has what all transports of one reactor share: memory for datagrams to be received in, the
buffers of TLS, the sockets that are to be closed after the turn, and a count of connections that wait.
"""

import mmap
import socket
from collections import defaultdict, deque
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from sockd.base.reactor import Reactor, Watcher

if TYPE_CHECKING:
    import ssl  # OpenSSL is loaded where TLS is used

    from sockd.transports.costly import CostlySources
    from sockd.transports.handshake_memory import HandshakeMemory

# More transports than these with something to send after one event are a fan-out.
FAN_OUT = 16
# Seconds that the events of a lane, and its queue, have the reactor for before others have their turn; the
# event that is running then still ends. A thousand peers that all say something in the same turn, at 10 µs
# each, keep another endpoint waiting for a twentieth of what they would otherwise.
SLICE = 0.0005
# Seconds that a fan-out waits at most while its lane goes on having events.
FAN_OUT_WAIT = 0.005


class Dirty(Protocol):
    """A transport with something to send."""

    @property
    def lane(self) -> object:
        """Where it is watched: a lane, or the reactor itself."""

    def flush(self) -> None:
        """Send what was written."""


class Later(deque[Dirty]):
    """The transports of one lane that wait to send, and since when (perf_counter)."""

    def __init__(self) -> None:
        super().__init__()
        self.since = perf_counter()


class Flusher:
    """Has transports send what was written; one for a reactor.

    `active` is true while an event is being handled, and `dirty` are the transports that it wrote to.
    `waiting` counts the connections whose peers take nothing more at present, and those paused by their
    protocols. `scheduled` is true while something is left for a later turn.
    """

    __slots__ = (
        "_graves",
        "_later",
        "_room",
        "active",
        "direct",
        "dirty",
        "hearing",
        "reactor",
        "scheduled",
        "tls",
        "waiting",
    )

    def __init__(self, reactor: Reactor) -> None:
        self.reactor = reactor
        # What watches transports that no lane does (`twisted.follow_reactor`).
        self.direct: Watcher = getattr(reactor, "direct", reactor)
        self._room = memoryview(b"")
        # `transports.handshaking` makes and uses them.
        self.tls: tuple[ssl.MemoryBIO, ssl.MemoryBIO, HandshakeMemory, CostlySources] | None = None
        self.dirty: deque[Dirty] = deque()
        self._later: defaultdict[object, Later] = defaultdict(Later)
        self.hearing: set[object] = set()  # lanes that had events since the last run
        self.active = False
        self.waiting = 0
        self.scheduled = False
        self._graves: list[socket.socket] = []  # to be closed after this turn

    def room(self, size: int) -> memoryview:
        """Memory to receive `size` bytes in. All datagram ports share it: what came must be copied out."""
        if size > len(self._room):
            # On Unix sockets it may be megabytes; pages of a mapping that no datagram reached take no memory.
            self._room = memoryview(mmap.mmap(-1, size, mmap.MAP_PRIVATE))
        return self._room

    def add(self, transport: Dirty) -> None:
        """Flush this transport at the end of the event or, outside of one, in the reactor's next call."""
        if self.active:
            self.dirty.append(transport)
        else:
            self._later[transport.lane].append(transport)
            self._run_soon()

    def end(self) -> None:
        """Flush the transports that the event wrote to; it has been handled."""
        dirty = self.dirty
        try:
            while dirty:
                if len(dirty) > FAN_OUT:
                    self._postpone()
                    break
                transport = dirty.popleft()
                later = self._later.get(transport.lane)
                if later is None or len(later) <= FAN_OUT:
                    transport.flush()
                else:
                    later.append(transport)
        finally:
            self.active = False

    def _postpone(self) -> None:
        """Queue all of them by lane. An endpoint's first ones, which the reactor watches, join its others."""
        dirty, alone = self.dirty, (self.direct, self.reactor)
        others = next((one.lane for one in dirty if one.lane not in alone), self.direct)
        for transport in dirty:
            lane = transport.lane
            self._later[others if lane in alone else lane].append(transport)
        dirty.clear()
        self._run_soon()

    def bury(self, sock: socket.socket) -> None:
        """Close a socket after this turn of the reactor.

        The kernel would hand its number to the next connection, while events that epoll reported for the old
        one are still to be handled in this turn.
        """
        self._graves.append(sock)
        self._run_soon()

    def _run_soon(self) -> None:
        if not self.scheduled:
            self.scheduled = True
            self.reactor.callLater(0, self._run)

    def _run(self) -> None:
        self.scheduled = False
        self.active = True
        hearing, self.hearing = self.hearing, set()
        try:
            for lane, later in tuple(self._later.items()):
                if lane not in hearing or perf_counter() > later.since + FAN_OUT_WAIT:
                    self._send_some(lane, later)
        finally:
            self.end()
            if self._later:
                self._run_soon()
            graves, self._graves = self._graves, []
            for sock in graves:
                sock.close()

    def _send_some(self, lane: object, later: Later) -> None:
        until = perf_counter() + SLICE
        try:
            while later:
                later.popleft().flush()
                if perf_counter() > until:
                    break
        finally:
            if not later:
                del self._later[lane]
