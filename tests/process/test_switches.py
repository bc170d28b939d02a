"""What is set for the whole process, and that it comes back whatever happens."""

import gc
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from twisted.internet.task import Clock

from sockd.process.switches import (
    FULL_AFTER,
    FULL_INTERVAL,
    HELD_INTERVAL,
    OFF_LIMIT,
    THRESHOLDS,
    Switches,
    disable_collection,
    settle,
)

INTERVAL = 0.004  # seconds: not Python's own, to see that it is what comes back


@pytest.fixture(autouse=True)
def pythons_own() -> Iterator[None]:
    """Afterwards it is as it was."""
    thresholds, enabled, interval = gc.get_threshold(), gc.isenabled(), sys.getswitchinterval()
    sys.setswitchinterval(INTERVAL)
    yield
    sys.setswitchinterval(interval)
    gc.set_threshold(*thresholds)
    gc.unfreeze()
    (gc.enable if enabled else gc.disable)()


def off() -> bool:
    """Whether nothing is collected, and threads take short turns."""
    short = sys.getswitchinterval() == pytest.approx(HELD_INTERVAL)
    assert short or sys.getswitchinterval() == pytest.approx(INTERVAL)
    assert gc.isenabled() is not short
    return short


def test_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lives at the start is left alone; later everything is searched once a minute, if much is new."""
    clock, before = Clock(), gc.get_threshold()
    looks: list[int] = []
    young = FULL_AFTER - 1
    disable_collection()
    assert not gc.isenabled()
    switches = Switches(clock)
    switches.start()
    assert gc.isenabled()
    assert gc.get_threshold() == THRESHOLDS
    assert gc.get_freeze_count()
    monkeypatch.setattr(gc, "get_count", lambda: (0, 0, young))
    monkeypatch.setattr(gc, "collect", lambda: looks.append(1))
    clock.advance(FULL_INTERVAL)
    assert not looks
    young = FULL_AFTER
    clock.advance(FULL_INTERVAL)
    assert looks == [1]
    with switches.held():
        clock.advance(FULL_INTERVAL - 1)
        clock.advance(1)
        assert looks == [1]
    switches.stop()
    switches.stop()
    assert gc.get_threshold() == before
    assert not clock.getDelayedCalls()


def test_a_start_that_does_not_come() -> None:
    """Nothing is collected before the start, and again if that doesn't come in time."""
    for limit in (0.0, OFF_LIMIT):
        clock = Clock()
        switches = Switches(clock)
        switches.prepare()
        assert not gc.isenabled()
        clock.advance(limit)
        assert gc.isenabled() is bool(limit)
        switches.start()
        assert gc.isenabled()
        switches.stop()
        assert not clock.getDelayedCalls()


def test_a_start_that_fails() -> None:
    """It leaves nothing behind."""
    clock, before = Clock(), gc.get_threshold()
    switches = Switches(clock)
    switches.prepare()
    switches.stop()
    assert gc.isenabled()
    assert gc.get_threshold() == before
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize("first", ["older", "newer"])
def test_two_at_a_time(first: str) -> None:
    """All is as it was when both have ended, in whatever order: one thread may not return for long."""
    switches = Switches(Clock())
    older, newer = switches.held(), switches.held()
    older.__enter__()
    newer.__enter__()
    one, other = (older, newer) if first == "older" else (newer, older)
    assert off()
    one.__exit__(None, None, None)
    assert off()
    other.__exit__(None, None, None)
    assert not off()


def test_what_fails_and_what_others_change() -> None:
    """An error gives the switches back, and so does one that came after somebody else had set them."""
    switches = Switches(clock := Clock())

    def work() -> None:
        with switches.held():
            assert off()
            gc.enable()
            sys.setswitchinterval(1.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert not off()
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize("end", ["limit", "stop"])
def test_work_without_an_end(end: str) -> None:
    """After OFF_LIMIT, or when the daemon stops, the switches come back; the late end changes nothing."""
    switches = Switches(clock := Clock())
    with switches.held():
        clock.advance(OFF_LIMIT - 1)
        assert off()
        if end == "limit":
            clock.advance(1)
        else:
            switches.stop()
        assert not off()
        with switches.held():
            assert off()
    assert not off()
    assert not clock.getDelayedCalls()


def test_what_a_reactor_is_to_have() -> None:
    """A clock that takes no steps, and threads of our own in its pool."""

    class Pool:
        threadFactory: object = None  # noqa: N815

    class Reactor:
        def __init__(self) -> None:
            self.seconds = time.time
            self.pool = Pool()

        def getThreadPool(self) -> Pool:
            return self.pool

    settle(reactor := Reactor(), threading.Thread)
    assert reactor.seconds is time.monotonic
    assert reactor.pool.threadFactory is threading.Thread
