"""A sink on a worker that is stepped by hand, and a disk that can be full."""

import errno
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent
from twisted.python.failure import Failure

from sockd.sinks.appender import Appender
from sockd.sinks.file import GATHER_TIME, FileSink


class StepWorker:
    """Runs the next job when the test says so, which is not before the sink may write again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.jobs: deque[tuple[Callable[[], Any], Deferred[Any]]] = deque()
        self.ended = False
        self.finished = 0
        self.waiting: list[Deferred[None]] = []

    @property
    def unfinished(self) -> int:
        return len(self.jobs)

    def idle(self) -> Deferred[None]:
        waits: Deferred[None] = Deferred(self.waiting.remove)
        if self.jobs:
            self.waiting.append(waits)
        else:
            waits.callback(None)
        return waits

    def run(self, job: Callable[[], Any]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.jobs.append((job, done))
        return done

    def end(self) -> None:
        self.ended = True

    def step(self) -> None:
        self._clock.advance(GATHER_TIME)
        job, done = self.jobs.popleft()
        try:
            result = job()
        except Exception:  # noqa: BLE001
            result = Failure()
        self.finished += 1
        while self.waiting and not self.jobs:
            self.waiting.pop(0).callback(None)
        done.callback(result)

    def steps(self) -> None:
        self._clock.advance(GATHER_TIME)
        while self.jobs:
            self.step()
            self._clock.advance(GATHER_TIME)


class FullDisk(Appender):
    """Has room for `room` bytes more."""

    room = 1 << 40

    def write_some(self, data: Any) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        count = super().write_some(data[: self.room])
        self.room -= count
        return count


class FakeSource:
    def __init__(self, sink: FileSink) -> None:
        self.paused = False
        self.sink = sink
        self.burst = b""

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False
        if self.burst:
            self.sink.write(self.burst, self)


class Stepped:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock()
        self.worker = StepWorker(self.clock)
        self.disk = FullDisk(path, 0o640, lambda: b" (torn)\n")
        self.failed: list[Exception] = []
        self.hangs: list[str] = []
        self.after_failure: Callable[[], object] = lambda: None
        self.up = False  # it has started, and nothing has failed since
        self.logged: list[str] = []
        log = Logger(observer=lambda event: self.logged.append(formatEvent(event)))  # type: ignore[arg-type]
        self.sink = FileSink(
            self.disk,
            endpoint="applog",
            reactor=self.clock,
            log=log,
            fail=self._fail,
            hangs=self.hangs.append,
            worker=self.worker,
        )

    def _fail(self, problem: Exception) -> None:
        self.failed.append(problem)
        self.up = False
        self.after_failure()

    def begin(self) -> Deferred[None]:
        def started(_: None) -> None:
            self.up = True

        return self.sink.startService().addCallback(started)

    def start(self) -> Deferred[None]:
        done = self.begin()
        self.worker.steps()
        return done

    @property
    def gathers(self) -> bool:
        """Whether a write is due soon; once a second the sink looks whether its disk hangs."""
        soon = self.clock.seconds() + GATHER_TIME
        return any(call.getTime() <= soon for call in self.clock.getDelayedCalls())

    @property
    def content(self) -> bytes:
        return self.path.read_bytes()


def result(done: Deferred[Any]) -> Any:
    """What the Deferred fired with, None if it hasn't fired."""
    results: list[Any] = []
    done.addBoth(results.append)
    return results[0] if results else "nothing yet"
