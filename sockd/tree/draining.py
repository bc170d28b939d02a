"""Connections that are to finish: each is asked once, and a Deferred fires when all have ended.

Draining takes nothing away from a connection: it is read from and written to as before. A stream protocol may
have a method `drain`, which is called once, after its handshake; then the protocol itself says goodbye and
closes. A connection whose protocol has none is closed by the sweep as soon as nothing has come for a quarter
of a second, nothing is unsent (`timeouts`) and no answer is to be expected: its protocol doesn't say that it
is `busy`, and the peer was not the last to speak, unless the protocol only receives. A connection that is
left at a drain's deadline is cut, and counted as closed by sockd.
"""

from collections.abc import Callable, Iterable

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from sockd.base.hosted import method_of
from sockd.base.metrics import End
from sockd.base.reactor import Clock, Timer
from sockd.transports.connection import Connection
from sockd.transports.faces import WebChannel, face

# Ends that are sockd's, and come whether or not a connection has finished.
_NOT_FINISHED = frozenset({
    End.CUT, End.STALLED, End.SLOW, End.KICKED, End.BARRED, End.FAILED, End.LIFETIME
})  # fmt: skip
# Calls a function with each of these, some in each turn (`transports.continued.ContinuedWork.each`).
Each = Callable[[Iterable[Connection], Callable[[Connection], object]], None]


class Drain:
    """Some connections that are to finish; `done` fires when all have ended.

    `finished` of them had finished by then; `cut` of them had not, and were closed by sockd, most of them at
    the deadline.
    """

    def __init__(self, connections: Iterable[Connection], each: Each) -> None:
        self.connections = dict.fromkeys(connections)
        self._each = each
        self.finished = 0
        self.cut = 0
        self.done: Deferred[None] = Deferred()
        self._deadline: Timer | None = None

    def limit(self, clock: Clock, seconds: float) -> None:
        """Close, after this many seconds, the connections that are left."""
        self._deadline = clock.callLater(seconds, self._expired)

    def ended(self, connection: Connection, end: End) -> None:
        """A connection has ended, perhaps one of these."""
        if connection in self.connections:
            del self.connections[connection]
            if end in _NOT_FINISHED:
                self.cut += 1
            else:
                self.finished += 1

    def _expired(self) -> None:
        self._deadline = None
        self._each(self.connections, lambda connection: connection.cut(End.CUT))

    def close(self) -> None:
        """All have ended."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if not self.done.called:
            self.done.callback(None)


class Draining:
    """The drains of one endpoint; `failed(where)` is called while an exception of a protocol is handled."""

    def __init__(self, clock: Clock, failed: Callable[[str], None], each: Each) -> None:
        # Plain sets, as the sweep looks into them for each connection.
        self.connections: set[Connection] = set()
        self.self_paced: set[Connection] = set()  # their protocols say when they have finished
        self.beginning: set[Connection] = set()  # they have no protocol yet that could be asked
        self._clock = clock
        self._failed = failed
        self._each = each
        self._drains: list[Drain] = []
        self._all: Drain | None = None  # of all connections, also those that still come

    @property
    def pending(self) -> list[Deferred[None]]:
        """Each fires when the connections of one drain have ended."""
        return [drain.done for drain in self._drains]

    def begin(self, connections: Iterable[Connection], within: float | None = None) -> Drain:
        """Let these finish; those that have not finished `within` this many seconds are closed."""
        drain = Drain(connections, self._each)
        self._drains.append(drain)
        self._each(drain.connections, self._include)
        if drain.connections and within is not None:
            drain.limit(self._clock, within)
        self._close_if_done(drain)
        return drain

    def begin_all(self, connections: Iterable[Connection]) -> Drain:
        """Let these finish, and all that `came` from now on."""
        if self._all is None:
            self._all = self.begin(connections)
        return self._all

    def came(self, connection: Connection) -> None:
        """There is one more connection."""
        if self._all is not None:
            self._all.connections[connection] = None
            self._include(connection)

    def ended(self, connection: Connection, end: End) -> None:
        """A connection has ended, perhaps one of ours."""
        self.connections.discard(connection)
        self.self_paced.discard(connection)
        self.beginning.discard(connection)
        for drain in tuple(self._drains):
            drain.ended(connection, end)
            self._close_if_done(drain)

    def _close_if_done(self, drain: Drain) -> None:
        if not drain.connections and drain in self._drains:
            if drain is not self._all:
                self._drains.remove(drain)
            drain.close()

    def _include(self, connection: Connection) -> None:
        if connection in self.connections or not connection.connected:
            return
        self.connections.add(connection)
        if connection.lingering:
            return
        connection.mark_time = self._clock.seconds()
        if connection.ready:
            self._ask(connection)
        else:
            self.beginning.add(connection)

    def ask_if_ready(self, connection: Connection) -> None:
        """Ask a connection that was `beginning`, if it has its protocol by now."""
        if connection.ready and connection in self.beginning:
            self.beginning.remove(connection)
            self._ask(connection)

    def _ask(self, connection: Connection) -> None:
        try:
            answers = face(connection.protocol)
            drain = method_of(answers, "drain")
            if isinstance(answers, WebChannel):
                answers.take_no_more()
            elif drain is not None:
                self.self_paced.add(connection)
                # It may be a coroutine, or return a Deferred: what comes of that is not waited for.
                maybeDeferred(drain).addErrback(self._drain_failed, connection)
        except BaseException:  # noqa: BLE001 - of the look-up
            self._drain_failed(Failure(), connection)

    def _drain_failed(self, failure: Failure, connection: Connection) -> None:
        try:
            failure.raiseException()
        except BaseException:  # noqa: BLE001 - whatever a third party raises
            self._failed("drain")
        connection.cut(End.FAILED)
