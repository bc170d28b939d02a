"""The thread: jobs in order, results in the reactor's thread, and no waiting for a thread that is stuck."""

import signal
import threading
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as twisteds
from twisted.internet.defer import CancelledError

from sockd.sinks.thread import PoolThread, ShelteredThread, ThreadError, WorkerThread

installed: Any = twisteds


def test_nothing_starts_before_the_first_job() -> None:
    """A thread does not survive daemonizing, so none may be there by then."""
    before = threading.active_count()
    WorkerThread(installed, "test").end()
    assert threading.active_count() == before


@pytest_twisted.ensureDeferred
async def test_jobs_run_in_order_elsewhere() -> None:
    """One thread does all, a daemon one, and the results come back here."""
    worker = WorkerThread(installed, "test")
    order: list[int] = []
    jobs = [worker.run(lambda number=number: order.append(number)) for number in range(100)]  # type: ignore[misc]
    thread = await worker.run(threading.current_thread)
    for job in jobs:
        await job
    assert order == list(range(100))
    assert thread is not threading.current_thread()
    assert thread.daemon
    assert thread.name == "test"
    worker.end()
    thread.join()


@pytest_twisted.ensureDeferred
async def test_exceptions_come_back() -> None:
    """And the thread lives on."""
    worker = WorkerThread(installed, "test")
    with pytest.raises(ZeroDivisionError):
        await worker.run(lambda: 1 // 0)
    assert await worker.run(lambda: 7) == 7
    worker.end()


@pytest_twisted.ensureDeferred
async def test_waiting_can_be_given_up() -> None:
    """A job that hangs is left alone; its late result disturbs nobody."""
    worker = WorkerThread(installed, "test")
    hangs = threading.Event()
    job = worker.run(hangs.wait)
    job.cancel()
    with pytest.raises(CancelledError):
        await job
    hangs.set()
    assert await worker.run(lambda: 7) == 7
    worker.end()


@pytest_twisted.ensureDeferred
async def test_idle() -> None:
    """It is known when all jobs are done, a job that nobody waits for any more included."""
    worker = WorkerThread(installed, "test")
    await worker.idle()
    hangs = threading.Event()
    order: list[str] = []
    given_up = worker.run(hangs.wait)
    given_up.addErrback(lambda _: None).cancel()
    last = worker.run(lambda: order.append("job")).addCallback(lambda _: order.append("told"))
    idle = worker.idle().addCallback(lambda _: order.append("idle"))
    assert not idle.called
    hangs.set()
    await last
    assert order == ["job", "idle", "told"]
    worker.end()


def test_its_thread_takes_no_signals() -> None:
    """A program that is about to be replaced would forget what another thread than its main one took."""
    masks: list[set[int]] = []
    thread = ShelteredThread(target=lambda: masks.append({*signal.pthread_sigmask(signal.SIG_BLOCK, ())}))
    thread.start()
    thread.join()
    assert {signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2} <= masks[0]


def none(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


@pytest_twisted.ensureDeferred
async def test_a_thread_that_can_not_be_had_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job fails with the reason, and the next one has a thread."""
    worker = WorkerThread(installed, "test")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        for _ in range(2):
            with pytest.raises(ThreadError, match="no thread can be started"):
                await worker.run(lambda: 7)
    assert worker.unfinished == 0
    await worker.idle()
    assert await worker.run(lambda: 7) == 7
    worker.end()


def test_a_thread_of_the_pool_is_not_waited_for() -> None:
    """Neither one that works on, nor one that could not be started."""
    go_on = threading.Event()
    thread = PoolThread(target=go_on.wait)
    thread.join()
    thread.start()
    thread.join()
    assert thread.daemon
    assert thread.is_alive()
    go_on.set()
