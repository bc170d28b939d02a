"""Calls that come in later turns: in their order, within a slice of each turn."""

from typing import Any

import pytest

from sockd.transports import continued
from sockd.transports.continued import ContinuedWork
from sockd.transports.flush import Flusher
from tests.transports.loop import Loop


class House:
    """A queue of calls on a clock, and what was called and failed."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.flusher = Flusher(self.loop)
        self.failed: list[str] = []
        self.called: list[object] = []
        self.work = ContinuedWork(self.flusher, self.failed.append)

    def later(self, what: object, delay: float = 0.0) -> continued.Call:
        return self.work.later(self.called.append, what, delay=delay)

    def turn(self) -> list[object]:
        """What was called in one turn of the reactor: `advance` would take as many as there are."""
        self.called.clear()
        calls: Any = tuple(self.loop.getDelayedCalls())
        for call in calls:
            if call.getTime() <= self.loop.seconds():
                function, arguments = call.func, call.args
                call.cancel()
                function(*arguments)
        return list(self.called)

    def wait(self, seconds: float) -> list[object]:
        """What was called in the first turn after so long."""
        self.loop.rightNow += seconds
        return self.turn()


@pytest.fixture(name="house")
def _house() -> House:
    return House()


def test_calls_come_in_the_next_turn_in_their_order(house: House) -> None:
    """Nothing is called from within `later`."""
    house.later(1)
    house.later(2)
    assert not house.called
    assert house.turn() == [1, 2]
    assert house.turn() == []
    assert not house.loop.getDelayedCalls()


def test_a_turn_ends_with_its_slice(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many calls wait, the reactor has its turn after each slice."""
    times = iter(range(1000))  # each look at the time takes longer than a slice
    monkeypatch.setattr(continued, "perf_counter", lambda: float(next(times)))
    for number in range(3):
        house.later(number)
    assert [house.turn() for _ in range(4)] == [[0], [1], [2], []]


def test_timers_that_are_due_at_once_share_the_slice(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand members may be due in the same moment."""
    times = iter(range(1000))
    monkeypatch.setattr(continued, "perf_counter", lambda: float(next(times)))
    for number in range(3):
        house.later(number, delay=1.0)
    assert house.turn() == []
    assert house.wait(1.0) == [0]
    assert [house.turn() for _ in range(3)] == [[1], [2], []]


def test_delayed_calls_come_when_they_are_due(house: House) -> None:
    """The one that is due first comes first, whenever it was asked for."""
    house.later("late", delay=2.0)
    house.later("soon", delay=1.0)
    call = house.later("never", delay=1.5)
    assert call.getTime() == 1.5
    call.cancel()
    call.cancel()
    assert not call.active()
    assert house.wait(1.0) == ["soon"]
    assert house.wait(1.0) == ["late"]
    assert not house.loop.getDelayedCalls()


def test_a_call_that_asks_for_another_waits_for_the_next_turn(house: House) -> None:
    """Or work that always asks for more would have the reactor for its whole slice, with one peer."""

    def again(left: int) -> None:
        house.called.append(left)
        if left:
            house.work.later(again, left - 1)

    house.work.later(again, 2)
    assert [house.turn() for _ in range(4)] == [[2], [1], [0], []]


def test_a_call_that_raises_costs_no_other(house: House) -> None:
    """It is reported, and the rest is called."""

    def fail() -> None:
        raise RuntimeError

    house.work.later(fail)
    house.later(1)
    assert house.turn() == [1]
    assert house.failed == ["later"]
    assert not house.flusher.active


def test_nothing_rings_for_what_was_cancelled(house: House) -> None:
    """Once no call is left that would be made, the reactor has no timer of the queue's."""
    first, second = house.later(1, 1.0), house.later(2, 2.0)
    first.cancel()
    assert house.loop.getDelayedCalls()
    second.cancel()
    assert not house.loop.getDelayedCalls()
    house.later(3, 1.0)
    assert house.wait(1.0) == [3]


def test_cancelled_calls_are_not_kept(house: House) -> None:
    """A protocol that sets and cancels a long timer with each message takes no memory for them."""
    for _ in range(10_000):
        house.later("idle", delay=3600.0).cancel()
    assert len(house.work) < 200


def test_each_of_many_is_done_in_pieces(house: House) -> None:
    """The first few now, as where there are few nobody waits; the others in turns, each of them once."""
    done: list[int] = []
    house.work.each(range(3), done.append)
    assert done == [0, 1, 2]
    done.clear()
    house.work.each(range(10 * continued.PIECE), done.append)
    assert len(done) == continued.PIECE
    while house.loop.getDelayedCalls():
        before = len(done)
        house.turn()
        assert len(done) <= before + continued.PIECE
    assert done == list(range(10 * continued.PIECE))
