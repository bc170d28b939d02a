"""The connections of one endpoint: how many there may be, which have gone idle, how they are drained."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from sockd.limits.buckets import Bucket
from sockd.limits.idle import LINGER, verdict
from sockd.metrics import Counters, End
from sockd.plan import Limits
from sockd.services.endings import Endings
from sockd.transports import unread
from sockd.transports.stream import Server
from sockd.units import Rate

# Sweeps come a sixteenth of the shortest limit apart, within these bounds (seconds): what is found idle or
# stalled took one sweep to be seen silent, another to be seen silent for long enough.
_SHORTEST_SWEEP = 0.05
_LONGEST_SWEEP = 1.0
# A drained connection has finished when for so long (seconds) nothing came and nothing is owed.
QUIET = 0.25
# and then it gets so long to answer our FIN.
_LINGER_DRAINED = 1.0
# That the limit was reached is told so often at most.
_FULL_TOLD = Rate(1, 60.0)


class Connections:
    """All stream connections of an endpoint, over all its listeners.

    `room_changed()` is called when the limit is reached and when it is left.
    """

    def __init__(
        self,
        endpoint: str,
        limits: Limits,
        reactor: Any,
        log: Logger,
        counters: Counters,
        room_changed: Callable[[], None],
    ) -> None:
        self.endpoint = endpoint
        self._counters = counters
        self.limits = limits
        self._reactor = reactor
        self._log = log
        self._room_changed = room_changed
        self._servers: dict[Server, None] = {}
        self._finishing: set[Server] = set()  # drained ones whose protocol itself says when it has finished
        self._left: dict[Server, float] = {}  # paused ones whose peer left, and when that was seen
        self._held = False
        self._draining = False
        self._emptied: Deferred[None] | None = None
        self._timer: Any = None
        self._endings = Endings(endpoint, reactor, log)
        self._full_told = Bucket(_FULL_TOLD, reactor.seconds())
        shortest = min((t for t in (limits.idle, limits.stall) if t), default=LINGER)
        self._every = min(_LONGEST_SWEEP, max(_SHORTEST_SWEEP, shortest / 16))

    def __len__(self) -> int:
        return len(self._servers)

    def room(self) -> int:
        """How many more connections there may be."""
        return self.limits.connections - len(self._servers)

    def add(self, server: Server, protocol: Any) -> None:
        """Serve an accepted connection."""
        self._servers[server] = None
        if self._timer is None:
            self._timer = self._reactor.callLater(self._every, self._sweep)
        if self.room() <= 0:
            self._tell_full()
            self._room_changed()
        if self._held:
            server.hold(True)
        server.start(protocol)
        if self._draining:
            self._begin_drain(server)

    # -- transports.stream.Owner

    def ended(self, server: Server, end: End) -> None:
        was_full = self.room() <= 0
        del self._servers[server]
        self._finishing.discard(server)
        self._left.pop(server, None)
        self._endings.tell(server, end)
        if was_full:
            self._room_changed()
        if not self._servers and self._emptied is not None and not self._emptied.called:
            self._emptied.callback(None)

    def protocol_failed(self, where: str) -> None:
        self._counters.refused[f"exception in {where}"] += 1
        self._endings.protocol_failed(where)

    def refused(self, server: Server, end: End) -> None:
        """The protocol wants none of this connection, which was never added."""
        self._endings.tell(server, end)
        server.sock.close()

    def _tell_full(self) -> None:
        if self._full_told.take(self._reactor.seconds()):
            self._log.warn(
                "{endpoint}: at its limit of {limit} connections; newcomers wait in the kernel's backlog",
                endpoint=self.endpoint, limit=self.limits.connections, event="at limit",
            )  # fmt: skip

    # -- what is done to all of them

    def hold(self, held: bool) -> None:
        """Read from none of them while the protocol's service is down."""
        if held != self._held:
            self._held = held
            for server in self._servers:
                server.hold(held)

    def drain(self) -> Deferred[None]:
        """Let them finish; fires when all have ended. Those that have are closed by and by."""
        self._draining = True
        self._emptied = Deferred()
        for server in tuple(self._servers):
            self._begin_drain(server)
        if not self._servers:
            self._emptied.callback(None)
        else:
            if self._timer is not None:
                self._timer.cancel()
            self._every = QUIET / 4
            self._timer = self._reactor.callLater(self._every, self._sweep)
        return self._emptied

    def cut(self) -> None:
        """End all of them now."""
        for server in tuple(self._servers):
            server.cut(End.CUT)

    def close(self) -> None:
        """No connections are left: stop the timers and tell what was held back."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._endings.close()

    def _begin_drain(self, server: Server) -> None:
        if server.lingering:
            return
        server.mark_time = self._reactor.seconds()
        drain = getattr(server.protocol, "drain", None)
        if drain is not None:
            self._finishing.add(server)
            try:
                drain()
            except BaseException:  # noqa: BLE001
                self.protocol_failed("drain")
                server.cut(End.FAILED)

    def _notice_gone(self, now: float) -> None:
        paused = [server for server in self._servers if server.paused]
        if not paused:
            return
        left, reset = unread.left(server.sock for server in paused)
        for server in paused:
            number = server.fileno()
            if number in reset:
                # While we are held, what it had sent before is kept to be read.
                if number in left or not server.held:
                    server.peer_left(reset=True)
            elif number in left:
                # A protocol that pauses may have something of the peer's yet to work off: it gets its time.
                since = self._left.setdefault(server, now)
                if server.held or (self.limits.stall is not None and now - since >= self.limits.stall):
                    server.peer_left(reset=False)

    def _sweep(self) -> None:
        self._timer = None  # the last connection's end may have `close` called
        now = self._reactor.seconds()
        idle, stall, linger = self.limits.idle, self.limits.stall, LINGER
        if self._draining:
            idle, linger = QUIET, _LINGER_DRAINED
        self._notice_gone(now)
        for server in tuple(self._servers):
            end = verdict(server, now, None if server in self._finishing else idle, stall, linger)
            if end is None:
                continue
            if end is End.DONE:
                server.linger_expired()
            elif end is not End.IDLE:
                server.cut(end)
            elif not server.disconnecting:
                server.close(End.DRAINED if self._draining else End.IDLE)
            elif not self._draining:
                server.cut(end)  # it closes, but its producer never comes to an end
        if self._servers and self._timer is None:
            self._timer = self._reactor.callLater(self._every, self._sweep)
