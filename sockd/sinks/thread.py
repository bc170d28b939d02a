"""Threads: for calls that a disk may block, and for what hosted protocols give to the reactor's pool."""

import signal
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from sockd.base.errors import SockdError
from sockd.base.reactor import Reactor

ResultT = TypeVar("ResultT")


class Worker(Protocol):
    """Does jobs outside the reactor's thread, one after the other, in the order in which `run` was called."""

    @property
    def unfinished(self) -> int:
        """How many jobs were given and have not come back."""

    @property
    def finished(self) -> int:
        """How many jobs have come back, ever."""

    def run(self, job: Callable[[], ResultT]) -> Deferred[ResultT]:
        """Fires with the job's result or exception, in the reactor's thread.

        Cancelling gives up waiting for the job, which is done all the same.
        """

    def idle(self) -> Deferred[None]:
        """Fires as soon as no job is unfinished, before the last one's Deferred; now if there is none."""

    def end(self) -> None:
        """No job follows: the thread may end."""


class ShelteredThread(Thread):
    """A thread that takes no signals: one that it took right before exec would be lost to the new program."""

    def run(self) -> None:
        with suppress(OSError):  # of a sandbox
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        super().run()


class PoolThread(ShelteredThread):
    """A thread of the reactor's pool, which hosted protocols use: the end of the process doesn't wait for it.

    Twisted's pool joins its threads when the reactor stops, however long they may still work; nobody could be
    given their results by then.
    """

    def __init__(self, *args: Any, **more: Any) -> None:  # Any: as Thread's own, which Twisted calls
        super().__init__(*args, **more, daemon=True)

    def join(self, timeout: float | None = None) -> None:
        """Return immediately."""


class ThreadError(SockdError):
    """The system gives this process no thread now."""


def start_thread(name: str, work: Callable[[], None]) -> Thread:
    """A sheltered daemon thread at work; ThreadError where none can be had."""
    thread = ShelteredThread(target=work, name=name, daemon=True)
    try:
        thread.start()
    except (RuntimeError, MemoryError):
        raise ThreadError(
            "no thread can be started: memory or the limit of processes is used up (`ulimit -u`, TasksMax=)"
        ) from None
    return thread


class WorkerThread:
    """A Worker whose thread starts with its first job: a fork, as when twistd daemonizes, would lose it.

    It is a daemon thread: one that a dead file server holds for ever does not keep the process from exiting.
    Where no thread can be had the job fails with ThreadError, and the next one asks again.
    """

    def __init__(self, reactor: Reactor, name: str) -> None:
        self._reactor = reactor
        self._name = name
        # Any: each job has a result of its own type.
        self._jobs: SimpleQueue[tuple[Callable[[], Any], Deferred[Any]] | None] = SimpleQueue()
        self._thread: Thread | None = None
        self.unfinished = 0
        self.finished = 0
        self._waiting: list[Deferred[None]] = []

    def run(self, job: Callable[[], ResultT]) -> Deferred[ResultT]:
        done: Deferred[ResultT] = Deferred()
        if self._thread is None:
            try:
                self._thread = start_thread(self._name, self._work)
            except ThreadError:
                done.errback()
                return done
        self.unfinished += 1
        self._jobs.put((job, done))
        return done

    def idle(self) -> Deferred[None]:
        waits: Deferred[None] = Deferred(self._waiting.remove)
        if self.unfinished:
            self._waiting.append(waits)
        else:
            waits.callback(None)
        return waits

    def end(self) -> None:
        if self._thread is not None:
            self._jobs.put(None)
            self._thread = None

    def _work(self) -> None:
        while (task := self._jobs.get()) is not None:
            job, done = task
            try:
                result = job()
            except BaseException:  # noqa: BLE001
                result = Failure()
            self._reactor.callFromThread(self._finish, done, result)
            del job, done, task, result  # or the last write's bytes live until the next

    def _finish(self, done: Deferred[ResultT], result: ResultT) -> None:
        self.unfinished -= 1
        self.finished += 1
        while self._waiting and not self.unfinished:
            self._waiting.pop(0).callback(None)
        done.callback(result)
