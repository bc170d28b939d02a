"""A file as a service: what it accepts is written in a thread, and who writes too fast is paused."""

import ctypes
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, succeed  # noqa: A004
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from sockd.sinks.appender import Appender, SinkError, Target
from sockd.sinks.thread import Worker, WorkerThread

# mallopt(3); glibc gives whatever is free at its heap's end back to the kernel as soon as it is more than
# 128 KiB, and gets it again page by page: a fourth of line-log's time.
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
KEPT = 8 * 1024 * 1024  # bytes free at the end of a heap: what a sink at its bound holds
_LARGE = 2 * 1024 * 1024  # blocks of so many bytes are the kernel's all the same


def keep_freed() -> None:
    """For the whole process; does nothing where the C library has no such options."""
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_TRIM_THRESHOLD, KEPT)
        mallopt(_MMAP_THRESHOLD, _LARGE)


# Bytes unwritten, above which a source that writes is paused; above FLOOD all are, whether they write or not;
# at LOW_WATER they go on. To pause and resume one costs as much as ten lines: between two times that it is
# done to thousands, enough is to be written that it doesn't show.
HIGH_WATER = 4 * 1024 * 1024
FLOOD = 6 * 1024 * 1024
LOW_WATER = 1024 * 1024
# To hand over to the thread, and to hear of it, costs as much as 30 lines. So it is done once in so many
# seconds at most, unless so many bytes have gathered: bursts of 16 datagrams then cost half as much.
GATHER = 0.004
ENOUGH = 128 * 1024
PATIENCE = 10.0  # seconds that going over to another file may take
RETRY = 0.5  # seconds between two tries to write what is left when we stop


class Source(Protocol):
    """What can be told to send less: a connection's transport."""

    def pauseProducing(self) -> None: ...  # noqa: N802
    def resumeProducing(self) -> None: ...  # noqa: N802


class FileSink:
    """A service. While a write is under way, and GATHER after it began, more gathers: the next one.

    A write that fails is told to `fail`; `startService` then tries to go on at the byte where it stopped.
    """

    def __init__(
        self,
        file: Appender,
        *,
        endpoint: str,
        reactor: Any,
        log: Logger,
        fail: Callable[[Exception], None],
        worker: Worker | None = None,
    ) -> None:
        self._file = file
        self._worker = worker or WorkerThread(reactor, f"writes {file.path.name}")
        self._endpoint = endpoint
        self._reactor = reactor
        self._log = log
        self._fail = fail
        self._sources: dict[Source, None] = {}
        self._paused: dict[Source, None] = {}  # those of them that are, in the order in which they go on
        self._queue = file.queue
        self._accepted = 0  # bytes, ever
        self._target = file.target  # what was asked for last
        self._left: Target | None = None  # the file before, if it was failing then
        self._up = False  # what is accepted is written at once
        self._pumping = False
        self._not_before = reactor.seconds()  # the next write, unless ENOUGH gathers
        self._waiting: Any = None  # for that time
        self._stopping = False
        self._told = False  # in the stop, that something is not written yet
        self._ended = False
        self.full = False

    # -- from the protocol

    @property
    def unwritten(self) -> int:
        """Bytes accepted and not yet written."""
        return self._accepted - self._file.written

    def write(self, records: bytes, source: Source | None = None) -> None:
        """Accept whole records. When that is too much `source` pauses, in the end all sources."""
        if self._ended:
            self._lost(records.count(b"\n"), "the endpoint has stopped")
            return
        self._queue.append(records)
        self._accepted += len(records)
        if not self._pumping and (self._waiting is None or self.unwritten >= ENOUGH):
            self._go_on_in_time()
        if self._accepted - self._file.written > HIGH_WATER:
            self._crowded(source)

    def _crowded(self, source: Source | None) -> None:
        self.full = True
        if source in self._sources:
            self._pause(source)
        if self.unwritten > FLOOD and len(self._paused) < len(self._sources):
            for each in self._sources:
                if each not in self._paused:
                    self._pause(each)

    def _pause(self, source: Source) -> None:
        self._paused[source] = None
        source.pauseProducing()

    def attach(self, source: Source) -> None:
        """From now on `source` pauses while the sink is full."""
        self._sources[source] = None
        if self.full:
            self._pause(source)

    def detach(self, source: Source) -> None:
        self._sources.pop(source, None)
        self._paused.pop(source, None)

    # -- from a subclass that has more to write, when the reactor comes to it

    @property
    def expected(self) -> bool:
        """Whether more will be written without anything being read."""
        return False

    def expect_no_more(self) -> None:
        """Write it now."""

    # -- from the endpoint

    def startService(self) -> Deferred[None]:  # noqa: N802
        """Fires when the file is open and what had been accepted is written; fails with SinkError."""
        return Deferred.fromCoroutine(self._start())

    def stopService(self) -> Deferred[None]:  # noqa: N802
        """Fires when everything is written. Cancelled, it says how many lines are lost, and fires."""
        self._stopping = True
        return Deferred.fromCoroutine(self._stop())

    def reopen(self) -> Deferred[None]:
        """Go over to the file that has the path now, once the present write ends; if that fails, stay."""
        if self._ended:
            return succeed(None)
        self._go_on()  # what was accepted before belongs to the old file
        return self._worker.run(self._file.reopen).addCallbacks(self._reopened, self._kept)

    def redirect(self, target: Target) -> Deferred[None]:
        """Go over to another file. When it can't be opened, fails with SinkError and keeps the old one.

        What was accepted before goes to the old file, as far as that takes it. Going back to a file that was
        failing always succeeds: then the sink is as it was.
        """
        if self._ended:
            return succeed(None)
        before, self._target = self._target, target
        if target.path == before.path == self._file.path:
            self._file.target = target
            return succeed(None)
        return Deferred.fromCoroutine(self._redirect(before, target))

    async def _redirect(self, before: Target, target: Target) -> None:
        failing = not self._up
        decided = Lock()  # who takes it decides: the thread to go over, or we to give up

        def decide() -> bool:
            return decided.acquire(blocking=False)

        job = self._worker.run(lambda: self._file.redirect(target, decide))
        try:
            complaint = await job.addTimeout(PATIENCE, self._reactor)
        except (CancelledError, TimeoutError):
            complaint = None
            if decide():
                self._target = before
                disk = f"its disk or that of {before.path} doesn't answer"
                raise SinkError(f"{target.path}: not opened after {PATIENCE:g} seconds: {disk}") from None
        except SinkError as problem:
            if self._left is None or self._left.path != target.path:
                self._target = before
                raise
            self._left = None
            self._worker.run(lambda: self._file.let_go(target))
            if self._up:
                self._up = False
                self._fail(problem)
            return
        self._left = before if failing else None
        if complaint is not None:
            self._complain("not written", str(complaint))
        self._relieve()

    # -- from one program to the next

    def freeze(self) -> Deferred[dict[str, Any]]:
        """Fires at the end of the present write. What it gives holds until the reactor's next turn."""
        return self._worker.idle().addCallback(self._frozen)

    def _frozen(self, _: None) -> dict[str, Any]:
        pumping, self._pumping = self._pumping, True  # no write begins now
        self.expect_no_more()
        self._pumping = pumping
        if not pumping and self.unwritten:
            self._reactor.callLater(0, self._go_on)
        return self._file.freeze()

    def thaw(self, state: dict[str, Any]) -> None:
        """Before `startService`: that writes what was left."""
        self._file.thaw(state)
        self._accepted = self._file.unwritten
        self.full = self._accepted > HIGH_WATER

    async def _start(self) -> None:
        keep_freed()
        await self._worker.run(self._file.open)
        if self._ended:
            raise SinkError(f"{self._file.path}: the endpoint has stopped")
        await self._worker.run(self._file.write)
        self._up = not self._ended
        self._relieve()
        self._go_on()

    def drain(self) -> None:
        """A stop begins, and `stopService` will follow: say now what can't be written now."""
        if self.unwritten and not self._up:
            self._tell_unwritten(str(self._file.path))

    async def _stop(self) -> None:
        try:
            while self.unwritten or self.expected:
                try:
                    await self._worker.run(self._file.open)
                    await self._worker.run(self._file.write)
                except SinkError as problem:
                    self._tell_unwritten(str(problem))
                    await deferLater(self._reactor, RETRY)
                self._relieve()
            await self._worker.run(self._file.close)
        except CancelledError:
            self.expect_no_more()
            self._lost(self._file.unwritten_lines(), "the stop's deadline has come")
        except SinkError as problem:
            self._complain("not written", str(problem))
        finally:
            self._ended = True
            self._up = False
            self._wait_no_more()
            self._worker.end()

    # -- the way of the records

    def _go_on_in_time(self) -> None:
        """Begin to write, unless a write began just now and little has gathered."""
        wait = self._not_before - self._reactor.seconds()
        if wait <= 0 or self.unwritten >= ENOUGH:
            self._go_on()
        elif self._up and self._waiting is None:
            self._waiting = self._reactor.callLater(min(wait, GATHER), self._go_on)

    def _wait_no_more(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and waiting.active():
            waiting.cancel()

    def _go_on(self) -> None:
        self._wait_no_more()
        if self._up and not self._pumping:
            Deferred.fromCoroutine(self._pump())

    async def _pump(self) -> None:
        self._pumping = True
        try:
            enough = 1
            while self._up and self.unwritten >= enough:
                self._not_before = self._reactor.seconds() + GATHER
                await self._worker.run(self._file.write)
                self._relieve()
                enough = ENOUGH
            self._pumping = False
        except Exception as problem:  # noqa: BLE001
            self._pumping = False
            self._up = False
            if not self._stopping:
                self._fail(problem)
        else:
            if self.unwritten:
                self._go_on_in_time()

    def _relieve(self) -> None:
        if self.full and self.unwritten <= LOW_WATER:
            self.full = False
            # One of those that go on may fill it again; then the others come first, the next time.
            for source in tuple(self._paused):
                if self.full:
                    return
                del self._paused[source]
                source.resumeProducing()

    # -- the log

    def _reopened(self, reopened: bool) -> None:
        if reopened:
            path = str(self._file.path)
            self._log.info(
                "{endpoint}: {path} reopened", endpoint=self._endpoint, path=path, event="reopened"
            )

    def _kept(self, failure: Failure) -> None:
        self._complain("not reopened", f"{failure.getErrorMessage()}; the old file is kept")

    def _tell_unwritten(self, why: str) -> None:
        if not self._told:
            self._told = True
            size = self.unwritten
            text = f"{why}: {size} bytes are not written yet; trying again until the drain's deadline"
            self._complain("not written", text, unwritten=size)

    def _lost(self, lines: int, why: str) -> None:
        if lines:
            were = "line was" if lines == 1 else "lines were"
            self._complain("lost", f"{self._file.path}: {lines} {were} lost: {why}", lines=lines)

    def _complain(self, event: str, why: str, **fields: int) -> None:
        self._log.error("{endpoint}: {why}", endpoint=self._endpoint, why=why, event=event, **fields)
