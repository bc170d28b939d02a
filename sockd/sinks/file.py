"""A file as a service: what it accepts is written by a thread.

How a thread appends without the reactor waiting. `write` puts records into a queue and counts their bytes, no
more. One job at a time, `Appender.write`, takes all that the queue holds by then, joins it and calls write(2)
in the worker's thread, while the reactor goes on and more gathers: that is the next job's. The job's result
comes back as an event of the reactor's. There is no lock: only the reactor's thread puts into the queue and
only the worker's takes from it, and of the two counts whose difference is unwritten, each is one thread's
alone: read by the other, it may be late by one write.

Opening, reopening, going over to another file and closing are jobs of the same thread, one after the other.
So what was accepted before a change of the file is in the old one, as far as that takes it. Going over to
another path may be taken back, which needs to know what was left: each such move begins when the one before
has ended.

A file slower than its sources can't be waited for, so that they are: above HIGH_WATER a source that writes is
paused, above FLOOD all are, and at LOW_WATER they resume. To pause and to resume a source costs as much as
ten lines; between two times that it is done to thousands of them, enough is written that it doesn't show.
"""

from collections.abc import Callable
from threading import Lock
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred, DeferredLock, TimeoutError, succeed  # noqa: A004
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from sockd.base.errors import SockdError
from sockd.base.frozen import Frozen
from sockd.base.reactor import Timer, TwistedReactor
from sockd.base.units import counted
from sockd.sinks.appender import Appender
from sockd.sinks.hanging import HANGS_AFTER, LOOK_INTERVAL, HangWatch
from sockd.sinks.memory import keep_freed
from sockd.sinks.opening import SinkError, Target
from sockd.sinks.thread import ResultT, Worker, WorkerThread

HIGH_WATER = 4 * 1024 * 1024  # bytes unwritten
FLOOD = 6 * 1024 * 1024
LOW_WATER = 1024 * 1024
# To hand over to the thread, and to hear of it, costs as much as 30 lines. So it is done once in this time
# (seconds), unless this many bytes have gathered: bursts of 16 datagrams then cost half as much.
GATHER_TIME = 0.004
GATHER_SIZE = 128 * 1024
MOVE_LIMIT = 10.0  # seconds that going over to another file may take
RETRY_DELAY = 0.5  # seconds between two tries to write what is left, in a stop


class Source(Protocol):
    """Where records come from: a transport that can be asked to pause (Twisted's IPushProducer)."""

    def pauseProducing(self) -> None: ...  # noqa: N802
    def resumeProducing(self) -> None: ...  # noqa: N802


class FileSink:
    """Writes records to a file, from `startService` on and until `stopService` has fired.

    When a write fails, `fail` is called with its error; `startService` then tries to go on at the byte where
    it stopped. When the disk doesn't answer for some seconds, `hangs` is called with that in words, and with
    "" when it does again. A subclass may have more to write than it has passed to `write`: see `expected`.
    """

    def __init__(
        self,
        file: Appender,
        *,
        endpoint: str,
        reactor: TwistedReactor,  # a Reactor that Twisted's addTimeout and deferLater take, too
        log: Logger,
        fail: Callable[[Exception], None],
        hangs: Callable[[str], None] = lambda _: None,
        worker: Worker | None = None,
    ) -> None:
        self._file = file
        self.worker = worker or WorkerThread(reactor, f"writes {file.path.name}")
        self._endpoint = endpoint
        self._reactor = reactor
        self._log = log
        self._fail = fail
        self._hangs = hangs
        self._watch = HangWatch(reactor, self._busy, self._progress, self._report_hanging)
        self._sources: dict[Source, None] = {}
        self._paused: dict[Source, None] = {}  # of these; in the order in which they resume
        self._queue = file.queue
        self._accepted = 0  # bytes, ever
        self._moves = DeferredLock()  # to another file; and the stop, after which there are none
        self._failed_before: Target | None = None  # the file that was left last, if it was failing then
        self._up = False  # the file is open and takes what is written
        self._pumping = False
        self._not_before = reactor.seconds()  # the next write, unless GATHER_SIZE gathers
        self._waiting: Timer | None = None  # for that time
        self._stopping = False
        self._reported = False  # in the stop, that something is not written yet
        self._ended = False
        self.full = False

    # -- the thread

    def _run(self, job: Callable[[], ResultT]) -> Deferred[ResultT]:
        self._watch.begin()
        return self.worker.run(job)

    def _busy(self) -> bool:
        return self.worker.unfinished > 0

    def _progress(self) -> object:
        return self.worker.finished, self._file.written

    def _report_hanging(self, hangs: bool) -> None:
        seconds = LOOK_INTERVAL * HANGS_AFTER
        why = f"{self._file.path}: its disk, file server or reader has not answered for {seconds:g} seconds"
        self._hangs(why if hangs else "")

    # -- from the protocol

    @property
    def unwritten(self) -> int:
        """Bytes accepted and not yet written."""
        return self._accepted - self._file.written

    def write(self, records: bytes, source: Source | None = None) -> None:
        """Accept whole records. When they are too many, `source` is paused; in the end all sources are."""
        if self._ended:
            self._report_lost(records.count(b"\n"), "the endpoint has stopped")
            return
        self._queue.append(records)
        self._accepted += len(records)
        if not self._pumping and (self._waiting is None or self.unwritten >= GATHER_SIZE):
            self._write_in_time()
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

    # -- for a subclass

    @property
    def expected(self) -> bool:
        """Whether more will be written, of what has been read already."""
        return False

    def expect_no_more(self) -> None:
        """Write it now."""

    # -- from the endpoint

    def startService(self) -> Deferred[None]:  # noqa: N802
        """Fires when the file is open and what had been accepted is written; fails with SinkError."""
        return Deferred.fromCoroutine(self._start())

    def stopService(self) -> Deferred[None]:  # noqa: N802
        """Fires when everything is written. Cancelled, it logs how many lines are lost, and fires."""
        self._stopping = True
        return Deferred.fromCoroutine(self._stop())

    def reopen(self) -> Deferred[None]:
        """Go over to the file that has the path now, after the present write; if it fails, keep the old."""
        if self._ended:
            return succeed(None)
        self._begin_to_write()  # what was accepted before belongs to the old file
        return self._run(self._file.reopen).addCallbacks(self._reopened, self._not_reopened)

    def redirect(self, target: Target) -> Deferred[None]:
        """Go over to another file. When it can't be opened, fails with SinkError and keeps the old one.

        What was accepted before goes to the old file, as far as that takes it. Going back to a file that was
        failing always succeeds: then the sink is as it was. After MOVE_LIMIT, or when nobody waits any more,
        it fails too, unless the thread is about to go over.
        """
        if self._ended:
            return succeed(None)
        if target.path == self._file.path and not self._moves.locked:
            self._file.target = target
            return succeed(None)
        return Deferred.fromCoroutine(self._redirect(target))

    async def _redirect(self, target: Target) -> None:
        decided = Lock()  # the first to take it decides: the thread to go over, or the reactor to give up

        def decide() -> bool:
            return decided.acquire(blocking=False)

        # The caller may give up waiting; the move itself goes to its end, and only then may the next begin.
        waits: Deferred[None] = Deferred()
        moved = self._moves.run(self._move, target, decide)
        moved.addBoth(lambda result: None if waits.called else waits.callback(result))
        try:
            await waits.addTimeout(MOVE_LIMIT, self._reactor)
        except (CancelledError, TimeoutError):
            if decide():
                disk = f"its disk or that of {self._file.path} doesn't answer"
                raise SinkError(f"{target.path}: not opened after {MOVE_LIMIT:g} seconds: {disk}") from None

    async def _move(self, target: Target, decide: Callable[[], bool]) -> None:
        """One move at a time: only now is it known which file is left, and whether that is failing."""
        if self._ended:
            return
        before = self._file.target
        try:
            complaint = await self._run(lambda: self._file.redirect(target, decide))
        except SinkError as problem:
            if self._failed_before is None or self._failed_before.path != target.path or not decide():
                raise
            await self._back_to_failed(target, problem)
            return
        if self._file.target is not target:
            return  # it was given up
        self._failed_before = None if self._up else before
        if complaint is not None:
            self._complain("not written", str(complaint))
        self._relieve()

    async def _back_to_failed(self, target: Target, problem: SinkError) -> None:
        self._failed_before = None
        await self._run(lambda: self._file.let_go(target))
        if self._up:
            self._up = False
            self._fail(problem)

    # -- from one program to the next

    def freeze(self) -> Deferred[Frozen]:
        """Fires at the end of the present write, with a state that holds until the reactor's next turn."""
        return self.worker.idle().addCallback(self._frozen)

    def _frozen(self, _: None) -> Frozen:
        pumping, self._pumping = self._pumping, True  # so that no write begins now
        self.expect_no_more()
        self._pumping = pumping
        if not pumping and self.unwritten:
            self._reactor.callLater(0, self._begin_to_write)
        return self._file.freeze()

    def thaw(self, state: Frozen) -> None:
        """Before `startService`: that writes what was left."""
        self._file.thaw(state)
        self._accepted = self._file.unwritten
        self.full = self._accepted > HIGH_WATER

    async def _start(self) -> None:
        keep_freed()
        await self._run(self._file.open)
        if self._ended:
            raise SinkError(f"{self._file.path}: the endpoint has stopped")
        await self._run(self._file.write)
        self._up = not self._ended
        self._relieve()
        self._begin_to_write()

    def drain(self) -> None:
        """A stop begins, and `stopService` will follow: log what can't be written now."""
        if self.unwritten and (not self._up or self._watch.hangs):
            self._report_unwritten(str(self._file.path))

    async def _stop(self) -> None:
        locked = False
        try:
            await self._moves.acquire()
            locked = True
            while self.unwritten or self.expected:
                try:
                    await self._run(self._file.open)
                    await self._run(self._file.write)
                except SockdError as problem:
                    self._report_unwritten(str(problem))
                    await deferLater(self._reactor, RETRY_DELAY)
                self._relieve()
            await self._run(self._file.close)
        except CancelledError:
            self.expect_no_more()
            self._report_lost(self._file.unwritten_lines(), "the deadline for stopping has passed")
        except SockdError as problem:
            self._complain("not written", str(problem))
        finally:
            self._ended = True
            self._up = False
            self._stop_waiting()
            self._watch.stop()
            self.worker.end()
            if locked:
                self._moves.release()

    # -- writing

    def _write_in_time(self) -> None:
        """Begin to write; later, if a write began just now and little has gathered since."""
        wait = self._not_before - self._reactor.seconds()
        if wait <= 0 or self.unwritten >= GATHER_SIZE:
            self._begin_to_write()
        elif self._up and self._waiting is None:
            self._waiting = self._reactor.callLater(min(wait, GATHER_TIME), self._begin_to_write)

    def _stop_waiting(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and waiting.active():
            waiting.cancel()

    def _begin_to_write(self) -> None:
        self._stop_waiting()
        if self._up and not self._pumping:
            Deferred.fromCoroutine(self._pump())

    async def _pump(self) -> None:
        self._pumping = True
        try:
            enough = 1
            while self._up and self.unwritten >= enough:
                self._not_before = self._reactor.seconds() + GATHER_TIME
                await self._run(self._file.write)
                self._relieve()
                enough = GATHER_SIZE
            self._pumping = False
        except Exception as problem:  # noqa: BLE001
            self._pumping = False
            self._up = False
            if not self._stopping:
                self._fail(problem)
        else:
            if self.unwritten:
                self._write_in_time()

    def _relieve(self) -> None:
        if self.full and self.unwritten <= LOW_WATER:
            self.full = False
            # One that resumes may fill the sink again; then the others come first, the next time.
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

    def _not_reopened(self, failure: Failure) -> None:
        self._complain("not reopened", f"{failure.getErrorMessage()}; the old file is kept")

    def _report_unwritten(self, why: str) -> None:
        if not self._reported:
            self._reported = True
            size = self.unwritten
            are = "is" if size == 1 else "are"
            waits = (
                f"{counted(size, 'byte')} {are} not written yet; trying again until the deadline for stopping"
            )
            self._complain("not written", f"{why}: {waits}", unwritten=size)

    def _report_lost(self, lines: int, why: str) -> None:
        if lines:
            were = "line was" if lines == 1 else "lines were"
            self._complain("lost", f"{self._file.path}: {lines} {were} lost: {why}", lines=lines)

    def _complain(self, event: str, why: str, **fields: int) -> None:
        self._log.error("{endpoint}: {why}", endpoint=self._endpoint, why=why, event=event, **fields)
