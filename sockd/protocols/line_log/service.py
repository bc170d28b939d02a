"""The file of a line-log endpoint, as its options say."""

from collections import deque
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from sockd.protocols.contract import Host
from sockd.protocols.line_log.options import LineLogOptions
from sockd.protocols.line_log.records import records_for
from sockd.sinks.appender import Appender
from sockd.sinks.file import FileSink
from sockd.sinks.opening import Target


class Work(Protocol):
    """A connection that has been read more from than one event may record; it isn't read from meanwhile."""

    lost: bool  # it has ended

    def go_on(self) -> bool:
        """Record the next bit; whether some is left."""

    def finished(self) -> None:
        """Nothing was left. It may `add` itself again."""


class Backlog:
    """One endpoint's: in each of the reactor's turns one connection goes on, be it that it has ended.

    It is a source of the sink: while that is full nothing is recorded.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._waiting: deque[Work] = deque()
        self._timer: Any = None
        self._paused = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, work: Work) -> None:
        """It goes on after those that are here; it is not here itself."""
        self._waiting.append(work)
        self._run_soon()

    def drop(self, work: Work) -> None:
        """It is here, and has nothing to record."""
        self._waiting.remove(work)

    def finish(self) -> None:
        """Record all of those that have ended, now."""
        while ended := [work for work in self._waiting if work.lost]:
            for work in ended:
                self._waiting.remove(work)
                while work.go_on():
                    pass
                work.finished()

    def pauseProducing(self) -> None:  # noqa: N802
        self._paused = True

    def resumeProducing(self) -> None:  # noqa: N802
        self._paused = False
        self._run_soon()

    def _run_soon(self) -> None:
        if self._waiting and not self._paused and self._timer is None:
            self._timer = self._reactor.callLater(0, self._run)

    def _run(self) -> None:
        self._timer = None
        if self._waiting and not self._paused:
            work = self._waiting.popleft()
            try:
                if work.go_on():
                    self._waiting.append(work)
                else:
                    work.finished()
            finally:
                self._run_soon()


class LineLogService(FileSink):
    """One for all listeners of an endpoint."""

    def __init__(self, host: Host[LineLogOptions]) -> None:
        file = Appender(*_target(host.options, host.endpoint))
        super().__init__(file, endpoint=host.endpoint, reactor=host.reactor, log=host.log, fail=host.fail)
        self.backlog = Backlog(host.reactor)
        self.attach(self.backlog)

    @property
    def expected(self) -> bool:
        return bool(self.backlog)

    def expect_no_more(self) -> None:
        self.backlog.finish()

    def reload(self, options: LineLogOptions) -> Deferred[None]:
        """Go over to another path at once; the format is that of the connections which come from now on."""
        return self.redirect(_target(options, self._endpoint))


def _target(options: LineLogOptions, endpoint: str) -> Target:
    return Target(options.path, options.mode, records_for(options.format, endpoint).mend)
