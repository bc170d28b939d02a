"""A thread for calls that a disk may block."""

import signal
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

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
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        super().run()


class WorkerThread:
    """A Worker whose thread starts with its first job: a fork, as when twistd daemonizes, would lose it.

    It is a daemon thread: one that a dead file server holds for ever does not keep the process from exiting.
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
        if self._thread is None:
            self._thread = ShelteredThread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        done: Deferred[ResultT] = Deferred()
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

    def _finish(self, done: Deferred[Any], result: Any) -> None:
        self.unfinished -= 1
        self.finished += 1
        while self._waiting and not self.unfinished:
            self._waiting.pop(0).callback(None)
        done.callback(result)
