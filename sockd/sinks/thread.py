"""One thread for calls that a disk may block; their results come back to the reactor's."""

import signal
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

ResultT = TypeVar("ResultT")


class Worker(Protocol):
    """Does jobs one after the other, in the order they were given."""

    def run(self, job: Callable[[], ResultT]) -> Deferred[ResultT]:
        """The job's result or exception, in the reactor's thread. Cancelling gives up waiting, no more."""

    def idle(self) -> Deferred[None]:
        """Fires as soon as no job is unfinished, before the last one's result is told; now if none is."""

    def end(self) -> None:
        """No job follows."""


class ShelteredThread(Thread):
    """A thread that takes no signals: a program that is about to be replaced would forget what it took."""

    def run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        super().run()


class WorkerThread:
    """A thread that starts with its first job, so that daemonizing does not lose it.

    It is a daemon thread: one that a dead file server holds for ever does not keep the process from exiting.
    """

    def __init__(self, reactor: Any, name: str) -> None:
        self._reactor = reactor
        self._name = name
        self._jobs: SimpleQueue[tuple[Callable[[], Any], Deferred[Any]] | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._unfinished = 0
        self._waiting: list[Deferred[None]] = []

    def run(self, job: Callable[[], ResultT]) -> Deferred[ResultT]:
        if self._thread is None:
            self._thread = ShelteredThread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        done: Deferred[ResultT] = Deferred()
        self._unfinished += 1
        self._jobs.put((job, done))
        return done

    def idle(self) -> Deferred[None]:
        waits: Deferred[None] = Deferred(self._waiting.remove)
        if self._unfinished:
            self._waiting.append(waits)
        else:
            waits.callback(None)
        return waits

    def end(self) -> None:
        self._jobs.put(None)
        self._thread = None

    def _work(self) -> None:
        while (task := self._jobs.get()) is not None:
            job, done = task
            try:
                result = job()
            except BaseException:  # noqa: BLE001
                result = Failure()
            self._reactor.callFromThread(self._tell, done, result)
            del job, done, task, result  # or the last write's bytes live until the next

    def _tell(self, done: Deferred[Any], result: Any) -> None:
        self._unfinished -= 1
        while self._waiting and not self._unfinished:
            self._waiting.pop(0).callback(None)
        done.callback(result)
