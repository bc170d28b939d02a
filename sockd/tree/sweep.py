"""One look at all connections of an endpoint, again and again, in place of a timer for each.

A timer for each connection would have to be set anew with every message, for limits that hardly any
connection ever reaches. A sweep compares each connection with the marks that an earlier one left on it
(`timeouts`) and costs 0.7 µs a connection, whatever is said on it. Sweeps come a sixteenth of the shortest
limit apart, within bounds; a limit is overrun by two intervals at most.

Ten thousand connections take 7 ms, and longer where some end; so a sweep is done in slices, and the reactor
has its turn between two. And when the process itself was stopped (SIGSTOP, a suspended machine), the timers
come before the sockets: peers that have said much in that time look silent. A look that comes late therefore
judges nobody, and the sweep begins anew.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from time import perf_counter

from sockd.base.metrics import End
from sockd.base.reactor import Clock, Timer
from sockd.base.units import format_duration
from sockd.plan.plan import Limits
from sockd.transports.connection import Connection
from sockd.transports.flush import SLICE
from sockd.tree.admission import Admission
from sockd.tree.departures import departed
from sockd.tree.draining import Draining
from sockd.tree.timeouts import LINGER, overdue, verdict

# Seconds between two sweeps, at least and at most; in between it is a part of the shortest limit.
_SHORTEST_INTERVAL = 0.05
_LONGEST_INTERVAL = 1.0
_LOOKS_A_LIMIT = 16
# A drained connection has finished when nothing came and nothing was unsent for so long (seconds) …
DRAINED_QUIET_TIME = 0.25
# … and then the peer has so long (seconds) to answer our FIN.
DRAINED_LINGER = 1.0
# A look that comes so much later (seconds) than it was due says nothing of the peers.
STOPPED_TIME = 1.0
# Connections that are looked at before the slice is looked at.
PIECE = 16


class Sweep:
    """Ends connections whose time is over, and notices peers that have left unseen.

    `connections` are those there are, at any time. `over_limit(connection, limit, why)` counts one that ends
    at a limit, by the limit's name.
    """

    def __init__(
        self,
        clock: Clock,
        connections: Collection[Connection],
        draining: Draining,
        over_limit: Callable[[Connection, str, str], None],
        limits: Limits,
        admission: Admission,
    ) -> None:
        self._clock = clock
        self._connections = connections
        self._draining = draining
        self._over_limit = over_limit
        # Paused ones whose peer has left: since when nothing was sent to it, and how much had been by then.
        self._left: dict[Connection, tuple[float, int]] = {}
        self._timer: Timer | None = None
        self._due = 0.0  # when the next sweep, or the one that goes on, was to begin
        self._looked = 0.0  # when the last slice of it ended
        self._rechecks = False  # in this sweep
        self.follow(limits, admission)

    def follow(self, limits: Limits, admission: Admission) -> None:
        """From now on these limits hold, and these rules for clients."""
        self._limits = limits
        self._handshakes = admission.takes_time
        self._recheck = admission.recheck
        if not self._draining.connections:
            self._interval = self._pace()

    def _pace(self) -> float:
        limits = self._limits
        handshake = limits.handshake if self._handshakes else None
        recheck = self._recheck.interval if self._recheck is not None else None
        times = (limits.idle, limits.stall, handshake, limits.first_byte, limits.lifetime, recheck)
        shortest = min((time for time in times if time), default=LINGER)
        return min(_LONGEST_INTERVAL, max(_SHORTEST_INTERVAL, shortest / _LOOKS_A_LIMIT))

    # -- when

    def start(self) -> None:
        """There are connections: sweep them, until there are none."""
        if self._timer is None:
            self._begin_later()

    def hurry(self) -> None:
        """A drain begins: sweep at its pace, until nothing is drained any more."""
        self.stop()
        self._interval = DRAINED_QUIET_TIME / 4
        self._begin_later()

    def stop(self) -> None:
        """Sweep no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def ended(self, connection: Connection) -> None:
        """Forget a connection."""
        self._left.pop(connection, None)

    def _begin_later(self) -> None:
        self._due = self._clock.seconds() + self._interval
        self._timer = self._clock.callLater(self._interval, self._begin)

    def _begin(self) -> None:
        self._timer = None  # the last connection's end may `stop` us
        now = self._clock.seconds()
        if now - self._due > STOPPED_TIME:
            self._begin_later()
            return
        if not self._draining.connections:
            self._interval = self._pace()
        self._due = now + self._interval
        self._looked = now
        self._rechecks = self._recheck is not None and self._recheck.begins(now)
        connections = tuple(self._connections)
        self._go_on(connections[n : n + PIECE] for n in range(0, len(connections), PIECE))

    def _go_on(self, pieces: Iterator[tuple[Connection, ...]]) -> None:
        self._timer = None
        if self._clock.seconds() - self._looked > STOPPED_TIME:
            self._begin_later()
            return
        until = perf_counter() + SLICE
        for piece in pieces:
            there = [connection for connection in piece if connection in self._connections]
            self._look_at(there, self._clock.seconds())
            if self._timer is not None:
                return  # a drain began, which has its own pace
            if perf_counter() > until:
                self._looked = self._clock.seconds()
                self._timer = self._clock.callLater(0, self._go_on, pieces)
                return
        if self._connections:
            now = self._clock.seconds()
            self._due = max(now, self._due)
            self._timer = self._clock.callLater(self._due - now, self._begin)

    # -- what

    def _look_at(self, connections: Sequence[Connection], now: float) -> None:
        self._notice_departures(connections, now)
        limits, drained = self._limits, self._draining.connections
        timed = limits.first_byte is not None or limits.lifetime is not None
        for connection in connections:
            if self._rechecks and self._recheck is not None:
                self._recheck.check(connection, self._over_limit)
            draining = connection in drained
            if (timed or draining or not connection.ready) and self._judge_age(connection, now):
                continue
            idle = DRAINED_QUIET_TIME if draining else limits.idle
            end = verdict(
                connection,
                now,
                None if connection in self._draining.self_paced else idle,
                limits.stall,
                DRAINED_LINGER if draining else LINGER,
            )
            if end is not None and not (end is End.IDLE and self._works(connection, draining=draining)):
                self._end(connection, end, draining=draining)

    def _works(self, connection: Connection, *, draining: bool) -> bool:
        """Whether it is the protocol that is waited for, not the peer.

        It may say so. In a drain, an answer that is to come is seen from outside: the peer spoke last.
        """
        if connection.disconnecting:
            return False
        return connection.at_work or (draining and connection.unanswered)

    def _end(self, connection: Connection, end: End, *, draining: bool) -> None:
        if end is End.DONE:
            connection.linger_expired()
        elif end is not End.IDLE:
            connection.cut(end)
        elif not connection.disconnecting:
            connection.dismiss(End.DRAINED if draining else End.IDLE)
        elif not draining:
            connection.cut(end)  # it closes, but its producer never comes to an end

    def _notice_departures(self, connections: Iterable[Connection], now: float) -> None:
        """Ask the kernel of paused connections: nothing is read there, so a FIN or reset goes unseen."""
        # One that lingers is past that: its protocol reads what has come at its own pace.
        paused = [connection for connection in connections if connection.paused and not connection.lingering]
        if not paused:
            return
        left, reset = departed(connection.sock for connection in paused)
        for connection in paused:
            number = connection.fileno()
            if number in reset:
                # While it is held, what the peer had sent before is kept to be read.
                if number in left or not connection.held:
                    connection.peer_left(reset=True)
            elif number in left:
                # A protocol that pauses may still work on what the peer has sent: it gets its time, anew with
                # whatever it sends.
                since, sent = self._left.get(connection, (now, connection.sent))
                if connection.sent != sent or connection.at_work:
                    since = now
                self._left[connection] = since, connection.sent
                stall = self._limits.stall
                if connection.held or (stall is not None and now - since >= stall):
                    connection.peer_left(reset=False)

    def _judge_age(self, connection: Connection, now: float) -> bool:
        """End a connection that is late to begin, or too old; whether there is nothing else to judge."""
        draining, limits = self._draining, self._limits
        draining.ask_if_ready(connection)
        end = overdue(connection, now, limits.handshake, limits.first_byte, limits.lifetime)
        if end is End.LIFETIME:
            self._over_limit(connection, "lifetime", format_duration(limits.lifetime or 0.0))
            connection.dismiss(end)
        elif end is not None:
            handshake = end is End.HANDSHAKE
            limit, time = ("handshake", limits.handshake) if handshake else ("first_byte", limits.first_byte)
            self._over_limit(connection, limit, format_duration(time or 0.0))
            connection.cut(end)
        elif connection in draining.beginning and now - connection.mark_time >= DRAINED_LINGER:
            connection.cut(End.DRAINED)
        elif not connection.ready and connection.disconnecting and now - connection.begun >= limits.handshake:
            connection.cut(connection.end or End.HANDSHAKE)  # it doesn't take the alert
        elif connection.end is End.LIFETIME and self._outlives(connection, now):
            connection.cut(End.LIFETIME)
        return not connection.ready and not connection.lingering

    def _outlives(self, connection: Connection, now: float) -> bool:
        """Whether it closes at the end of its lifetime, but takes what is unsent only little by little.

        It has as long as it may stall.
        """
        limits = self._limits
        return (
            limits.lifetime is not None
            and not connection.lingering
            and now - connection.opened >= limits.lifetime + (limits.stall or LINGER)
        )
