"""What all listeners of a line-log endpoint share: its file, behind a backlog of unrecorded lines.

A read may hold 512 KiB. Of nothing but newlines that becomes half a million records; of the bytes that are
slowest to escape it takes 75 ms, in which nobody else is served. So one event records a bounded amount, the
rest joins the backlog, and nothing more is read from that connection until its rest is recorded. In each turn
of the reactor the connection at the head of the backlog records as much as one event may, and goes to the
back if more is left: the connections take turns, and everything else is served in between. The calls are
the host's (`Host.later`), in the slice that the endpoint has of each turn.

A connection that ended leaves its rest in the backlog. That alone would let a peer fill memory, by connecting
again and again: so newcomers wait in the backlog as well, unread, while it is crowded.

The backlog is also a source of the sink, which pauses its sources while it is full: nothing is recorded then.
A stop and an upgrade don't wait for turns: `finish` records immediately what ended connections left.
"""

from collections import deque
from typing import Protocol

from twisted.internet.defer import Deferred

from sockd.base.reactor import Later, Timer
from sockd.protocols.contract import Host
from sockd.protocols.line_log.options import LineLogOptions
from sockd.protocols.line_log.records import records_for
from sockd.sinks.appender import Appender
from sockd.sinks.file import FileSink
from sockd.sinks.opening import Target


class Unrecorded(Protocol):
    """A connection, or a datagram listener, with more at hand than one event may record."""

    ended: bool  # nothing more comes from it

    def record_some(self) -> bool:
        """Record what one event may; whether some is left."""

    def all_recorded(self) -> None:
        """Nothing was left. It may `add` itself again."""


class Backlog:
    """One endpoint's; in each turn of the reactor the first in it records some. `later` is the host's."""

    def __init__(self, later: Later) -> None:
        self._later = later
        self._waiting: deque[Unrecorded] = deque()
        self._timer: Timer | None = None
        self._paused = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, one: Unrecorded) -> None:
        """Put one that is not in the backlog behind those that are."""
        self._waiting.append(one)
        self._run_soon()

    def drop(self, one: Unrecorded) -> None:
        """Take out one that has nothing to record."""
        self._waiting.remove(one)

    def finish(self) -> None:
        """Record all that is left of those that have ended."""
        while ended := [one for one in self._waiting if one.ended]:
            for one in ended:
                self._waiting.remove(one)
                while one.record_some():
                    pass
                one.all_recorded()

    def pauseProducing(self) -> None:  # noqa: N802
        self._paused = True

    def resumeProducing(self) -> None:  # noqa: N802
        self._paused = False
        self._run_soon()

    def _run_soon(self) -> None:
        if self._waiting and not self._paused and self._timer is None:
            self._timer = self._later(self._run)

    def _run(self) -> None:
        self._timer = None
        if self._waiting and not self._paused:
            one = self._waiting.popleft()
            try:
                if one.record_some():
                    self._waiting.append(one)
                else:
                    one.all_recorded()
            finally:
                self._run_soon()


class LineLogService(FileSink):
    """The service of a line-log endpoint: its file, and the backlog."""

    def __init__(self, host: Host[LineLogOptions]) -> None:
        file = Appender(*_target(host.options, host.endpoint))
        super().__init__(
            file, endpoint=host.endpoint, reactor=host.reactor, log=host.log, fail=host.fail, hangs=host.hangs
        )
        self.backlog = Backlog(host.later)
        self.attach(self.backlog)

    @property
    def expected(self) -> bool:
        return bool(self.backlog)

    def expect_no_more(self) -> None:
        self.backlog.finish()

    def reload(self, options: LineLogOptions) -> Deferred[None]:
        """Go over to another path immediately; another format is for connections that come later."""
        return self.redirect(_target(options, self._endpoint))


def _target(options: LineLogOptions, endpoint: str) -> Target:
    return Target(options.path, options.mode, records_for(options.format, endpoint).repair)
