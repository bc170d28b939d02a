"""Which event holds the reactor, and for how long, as a thread sees it from outside."""

import re
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.selectreactor import SelectReactor

from sockd.process import watch as module
from sockd.process.reactor import SockdReactor
from sockd.process.watch import HELD, Hold, Watch
from tests.reactors import close


def names(frames: Sequence[FrameType]) -> list[str]:
    return [frame.f_code.co_name for frame in frames]


class Watched:
    """A reactor that runs, with a watch, until what it was asked to do is done."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.reactor = make()
        self.holds: list[Hold] = []
        self.watch = Watch(names, self.holds.append)

    def run(self, *calls: Callable[[], object]) -> list[Hold]:
        """What was reported while these were called, each in an event of its own."""
        reactor = self.reactor
        reactor.callWhenRunning(self.watch.start)
        for number, call in enumerate(calls):
            reactor.callLater(0.05 * (number + 1), call)
        reactor.callLater(0.05 * (len(calls) + 1), reactor.callLater, 0.15, reactor.crash)
        try:
            reactor.run(installSignalHandlers=False)
        finally:
            self.watch.stop()
            close(reactor)
        return self.holds


def block(seconds: float = 0.4) -> None:
    time.sleep(seconds)


def spin(seconds: float = 0.4) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def locked() -> None:
    """One call in C that lets no other thread run."""
    began = time.thread_time()
    re.search(r"(a|aa)*b", "a" * 31)
    assert time.thread_time() - began > 2 * HELD


@pytest.mark.parametrize("make", [SockdReactor, EPollReactor, SelectReactor])
@pytest.mark.parametrize("call", [block, spin])
def test_a_call_that_holds_the_reactor(make: Callable[[], Any], call: Callable[[], object]) -> None:
    """It is reported with how long it took, and what was called, whatever the reactor."""
    (hold,) = Watched(make).run(call)
    assert isinstance(hold.culprit, list)
    assert call.__name__ in hold.culprit
    assert hold.seconds > 0.2
    assert not hold.lasts


def test_a_call_in_c_that_holds_pythons_lock() -> None:
    """Nobody can look while it lasts; it is reported all the same."""
    holds = Watched(SockdReactor).run(locked)
    assert holds
    assert holds[0].seconds > HELD


def test_many_short_events_hold_nothing() -> None:
    """However long a turn of the reactor takes, others have had theirs in between, or had no event."""
    watched = Watched(SockdReactor)
    calls = [lambda: spin(0.002) for _ in range(100)]
    watched.reactor.callLater(0.01, lambda: [watched.reactor.callLater(0, call) for call in calls])
    assert watched.run() == []


def test_a_call_that_does_not_end_is_reported_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that waits for the reactor would ever be said."""
    monkeypatch.setattr(module, "ENDLESS", 0.2)
    watched = Watched(SockdReactor)
    lasting: list[bool] = []

    def endless() -> None:
        end = time.monotonic() + 30
        while not watched.holds and time.monotonic() < end:
            time.sleep(0.01)
        lasting.extend(hold.lasts for hold in watched.holds)

    watched.run(endless)
    assert lasting == [True]
