"""The connections of one endpoint: how many there may be, which have gone idle, how they are drained."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from socket import socket
from time import perf_counter
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from sockd.base.metrics import Counters, End
from sockd.base.peers import Peer
from sockd.base.units import Rate
from sockd.limits.suppression import LogLimiter
from sockd.plan.plan import Limits
from sockd.transports.connection import Connection
from sockd.transports.flush import SLICE, Flusher
from sockd.transports.lanes import Lane, Selector
from sockd.tree import sweep
from sockd.tree.admission import Admission
from sockd.tree.reporting import Endings
from sockd.tree.sweep import LINGER, overdue, verdict


class Drain:
    """Some connections that are to finish; `done` fires when all have ended. `cut` counts those cut off."""

    def __init__(self, connections: Iterable[Connection]) -> None:
        self.connections = dict.fromkeys(connections)
        self.finished = 0
        self.cut = 0
        self.done: Deferred[None] = Deferred()
        self.timer: Any = None

    def ended(self, connection: Connection, end: End) -> None:
        """One of them has ended, if it is one of them."""
        if connection in self.connections:
            del self.connections[connection]
            if end is End.CUT:
                self.cut += 1
            else:
                self.finished += 1

    def expired(self) -> None:
        """Their time is over."""
        self.timer = None
        for connection in tuple(self.connections):
            connection.cut(End.CUT)

    def close(self) -> None:
        """All have ended."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if not self.done.called:
            self.done.callback(None)


# Sweeps come a sixteenth of the shortest limit apart, within these bounds (seconds): what is found idle or
# stalled took one sweep to be seen silent, another to be seen silent for long enough.
_SHORTEST_SWEEP = 0.05
_LONGEST_SWEEP = 1.0
# A drained connection has finished when for so long (seconds) nothing came and nothing is owed.
QUIET = 0.25
# and then it gets so long to answer our FIN.
_LINGER_DRAINED = 1.0
# A sweep that comes so much later (seconds) than it was to come says nothing of the peers.
STOPPED = 1.0
# So many of an endpoint's connections are watched by the reactor itself, or one with TLS: in a lane each turn
# costs a system call more, 1.5 µs, which many share.
DIRECT = 4
# Swept at a time, before it is seen whether others may wait.
_SOME = 16
_FULL_LOGGED = Rate(1, 60.0)  # that the limit was reached


class Connections:
    """All stream connections of an endpoint, over all its listeners.

    `room_changed()` is called when the limit is reached and when it is left; `numbers` are those that the
    connections get, one after the other.
    """

    def __init__(
        self,
        endpoint: str,
        limits: Limits,
        flusher: Flusher,
        log: Logger,
        counters: Counters,
        room_changed: Callable[[], None],
        numbers: Iterator[int],
        admission: Admission,
    ) -> None:
        self.endpoint = endpoint
        self._counters = counters
        self._reactor = flusher.reactor
        self._log = log
        self._room_changed = room_changed
        self._numbers = numbers
        self._connections: dict[Connection, None] = {}
        self._finishing: set[Connection] = (
            set()
        )  # drained ones whose protocol itself says when it has finished
        self._beginning: set[Connection] = set()  # drained ones that have no protocol yet
        self._left: dict[Connection, float] = {}  # paused ones whose peer left, and when that was seen
        self._held = False
        self._draining: set[Connection] = set()
        self._drains: list[Drain] = []
        self._all: Drain | None = None  # of whoever is there, and whoever comes
        self._timer: Any = None
        self._crowd = Lane(flusher)
        self._due = self._looked = 0.0
        self._endings = Endings(endpoint, flusher.reactor, log)
        self._full = LogLimiter(flusher.reactor, _FULL_LOGGED)
        self.limits = limits
        self.admission = admission
        self._every = self._pace()

    def limit(self, limits: Limits) -> None:
        """From now on these hold; nobody is cut for there being too many."""
        self.limits = limits
        if not self._draining:
            self._every = self._pace()

    def _pace(self) -> float:
        limits = self.limits
        handshake = limits.handshake if self.admission.takes_time else None
        times = (limits.idle, limits.stall, handshake, limits.first_byte, limits.lifetime)
        shortest = min((time for time in times if time), default=LINGER)
        return min(_LONGEST_SWEEP, max(_SHORTEST_SWEEP, shortest / 16))

    def __len__(self) -> int:
        return len(self._connections)

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._connections)

    @property
    def drained(self) -> list[Deferred[None]]:
        """Fire when those have ended that are to finish at present."""
        return [drain.done for drain in self._drains]

    def draining(self, connection: Connection) -> bool:
        """Whether this one is to finish."""
        return connection in self._draining

    def lane(self, *, secure: bool) -> Selector:
        """Where the next connection is watched; a single handshake takes as long as a slice."""
        return self._reactor if len(self._connections) < (1 if secure else DIRECT) else self._crowd

    def room(self) -> int:
        """How many more connections there may be."""
        return self.limits.connections - len(self._connections)

    def refusal(self, peer: Peer, sock: socket) -> str | None:
        """The counter's name of the reason to refuse this peer; without one its connection is counted."""
        return self.admission.refusal(peer, sock, self._reactor.seconds())

    def add(self, connection: Connection, protocol: Any) -> None:
        """Serve an accepted connection."""
        self.keep(connection)
        if self.room() <= 0:
            self._tell_full()
            self._room_changed()
        if self._held:
            connection.hold(True)
        connection.start(protocol)
        if self._all is not None and connection in self._connections:
            self._all.connections[connection] = None
            self._begin_drain(connection)

    def go_on(self, connection: Connection, protocol: Any, state: Any) -> None:
        """Serve a connection that was served by the program before."""
        self.keep(connection)
        self.admission.keep([connection])
        if self.room() <= 0:
            self._room_changed()
        if self._held:
            connection.hold(True)
        connection.resume(protocol, state)

    def keep(self, connection: Connection) -> None:
        """Count a connection as ours, and watch it."""
        connection.number = connection.number or next(self._numbers)
        self._connections[connection] = None
        if self._timer is None:
            self._sweep_later()

    # -- transports.stream.Owner

    def ended(self, connection: Connection, end: End) -> None:
        was_full = self.room() <= 0
        del self._connections[connection]
        self._finishing.discard(connection)
        self._beginning.discard(connection)
        self._draining.discard(connection)
        self._left.pop(connection, None)
        self.admission.left(connection.sock)
        self._endings.tell(connection, end)
        if was_full:
            self._room_changed()
        for drain in tuple(self._drains):
            drain.ended(connection, end)
            self._close_if_done(drain)

    def protocol_failed(self, where: str) -> None:
        self._counters.refused[f"exception in {where}"] += 1
        self._endings.protocol_failed(where)

    def reject(self, connection: Connection, end: End) -> None:
        """There will be no protocol for this connection, which may be one of ours already."""
        if connection in self._connections:
            connection.close(end)
            return
        self.admission.left(connection.sock)
        self._endings.tell(connection, end)
        connection.sock.close()

    def _tell_full(self) -> None:
        if self._full.allows("full"):
            self._log.warn(
                "{endpoint}: at its limit of {limit} connections; newcomers wait in the kernel's backlog",
                endpoint=self.endpoint, limit=self.limits.connections, event="at limit",
            )  # fmt: skip

    # -- what is done to all of them

    def hold(self, held: bool) -> None:
        """Read from none of them while the protocol's service is down."""
        if held != self._held:
            self._held = held
            for connection in self._connections:
                connection.hold(held)

    def drain(self) -> Deferred[None]:
        """Let them finish, and all that still come; fires when all have ended."""
        if self._all is None:
            self._all = self.drain_some(self._connections)
        return self._all.done

    def drain_some(self, connections: Iterable[Connection], within: float | None = None) -> Drain:
        """Let these finish, by and by; those that have not `within` so many seconds are cut."""
        drain = Drain(connections)
        self._drains.append(drain)
        for connection in tuple(drain.connections):
            self._begin_drain(connection)
        if drain.connections:
            if within is not None:
                drain.timer = self._reactor.callLater(within, drain.expired)
            if self._timer is not None:
                self._timer.cancel()
            self._every = QUIET / 4
            self._sweep_later()
        self._close_if_done(drain)
        return drain

    def _close_if_done(self, drain: Drain) -> None:
        if not drain.connections and drain in self._drains:
            if drain is not self._all:
                self._drains.remove(drain)
            drain.close()

    def cut(self) -> None:
        """End all of them now."""
        for connection in tuple(self._connections):
            connection.cut(End.CUT)

    def close(self) -> None:
        """No connections are left: stop the timers and tell what was held back."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._endings.close()

    def _begin_drain(self, connection: Connection) -> None:
        if connection in self._draining:
            return
        self._draining.add(connection)
        if connection.lingering:
            return
        connection.mark_time = self._reactor.seconds()
        if connection.ready:
            self._ask_to_finish(connection)
        else:
            self._beginning.add(connection)

    def _ask_to_finish(self, connection: Connection) -> None:
        drain = getattr(connection.protocol, "drain", None)
        if drain is not None:
            self._finishing.add(connection)
            try:
                drain()
            except BaseException:  # noqa: BLE001
                self.protocol_failed("drain")
                connection.cut(End.FAILED)

    def _notice_gone(self, connections: Iterable[Connection], now: float) -> None:
        paused = [connection for connection in connections if connection.paused]
        if not paused:
            return
        left, reset = sweep.left(connection.sock for connection in paused)
        for connection in paused:
            number = connection.fileno()
            if number in reset:
                # While we are held, what it had sent before is kept to be read.
                if number in left or not connection.held:
                    connection.peer_left(reset=True)
            elif number in left:
                # A protocol that pauses may have something of the peer's yet to work off: it gets its time.
                since = self._left.setdefault(connection, now)
                if connection.held or (self.limits.stall is not None and now - since >= self.limits.stall):
                    connection.peer_left(reset=False)

    def _sweep_later(self) -> None:
        self._due = self._reactor.seconds() + self._every
        self._timer = self._reactor.callLater(self._every, self._sweep)

    def _sweep(self) -> None:
        self._timer = None  # the last connection's end may have `close` called
        now = self._reactor.seconds()
        if now - self._due > STOPPED:
            # The process was stopped, and timers come before what peers sent meanwhile: that first.
            self._sweep_later()
            return
        if not self._draining:
            self._every = self._pace()
        self._due = now + self._every
        self._looked = now
        connections = tuple(self._connections)
        self._sweep_on(connections[n : n + _SOME] for n in range(0, len(connections), _SOME))

    def _sweep_on(self, pieces: Iterator[tuple[Connection, ...]]) -> None:
        """Some of them at a time: of ten thousand it takes 5 ms, and more where they end."""
        self._timer = None
        if self._reactor.seconds() - self._looked > STOPPED:
            self._sweep_later()
            return
        until = perf_counter() + SLICE
        for piece in pieces:
            there = [connection for connection in piece if connection in self._connections]
            self._sweep_some(there, self._reactor.seconds())
            if self._timer is not None:
                return  # a drain began, which has its own pace
            if perf_counter() > until:
                self._looked = self._reactor.seconds()
                self._timer = self._reactor.callLater(0, self._sweep_on, pieces)
                return
        if self._connections:
            now = self._reactor.seconds()
            self._due = max(now, self._due)
            self._timer = self._reactor.callLater(self._due - now, self._sweep)

    def _sweep_some(self, connections: Sequence[Connection], now: float) -> None:
        self._notice_gone(connections, now)
        limits = self.limits
        timed = limits.first_byte is not None or limits.lifetime is not None
        for connection in connections:
            draining = connection in self._draining
            if (timed or draining or not connection.ready) and self._late(connection, now):
                continue
            idle = QUIET if draining else limits.idle
            end = verdict(
                connection,
                now,
                None if connection in self._finishing else idle,
                limits.stall,
                _LINGER_DRAINED if draining else LINGER,
            )
            if end is None:
                continue
            if end is End.DONE:
                connection.linger_expired()
            elif end is not End.IDLE:
                connection.cut(end)
            elif not connection.disconnecting:
                connection.close(End.DRAINED if draining else End.IDLE)
            elif not draining:
                connection.cut(end)  # it closes, but its producer never comes to an end

    def _late(self, connection: Connection, now: float) -> bool:
        """End a connection that didn't begin in time, or has lasted for long enough; whether that is all."""
        if connection in self._beginning and connection.ready:
            self._beginning.remove(connection)
            self._ask_to_finish(connection)
        limits = self.limits
        end = overdue(connection, now, limits.handshake, limits.first_byte, limits.lifetime)
        if end is End.LIFETIME:
            self._counters.refused["lifetime"] += 1
            connection.close(end)
        elif end is not None:
            self._refuse(connection, "handshake" if end is End.HANDSHAKE else "first_byte", end)
        elif connection in self._beginning and now - connection.mark_time >= _LINGER_DRAINED:
            connection.cut(End.DRAINED)
        elif not connection.ready and connection.disconnecting and now - connection.begun >= limits.handshake:
            connection.cut(connection.end or End.HANDSHAKE)  # it doesn't take the alert
        elif connection.end is End.LIFETIME and self._outlives(connection, now):
            connection.cut(End.LIFETIME)
        return not connection.ready and not connection.lingering

    def _outlives(self, connection: Connection, now: float) -> bool:
        """Whether it had as long again as it may stall to take what it was owed, little by little perhaps."""
        limits = self.limits
        return (
            limits.lifetime is not None
            and not connection.lingering
            and now - connection.opened >= limits.lifetime + (limits.stall or LINGER)
        )

    def _refuse(self, connection: Connection, reason: str, end: End) -> None:
        self._counters.refused[reason] += 1
        connection.cut(end)

    def admit_anew(self, admission: Admission) -> None:
        """From now on this one says who may connect; whom it doesn't allow is cut."""
        old, self.admission = self.admission, admission
        # Who sends a PROXY header yet is asked when it has come.
        known = [connection for connection in self._connections if connection.admitted]
        admission.succeed(old, known)
        for connection in known:
            reason = admission.barred(connection.peer, connection.sock)
            if reason is not None:
                self._refuse(connection, reason, End.BARRED)
