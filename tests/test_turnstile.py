"""One piece of work at a time, and once more for whoever asks meanwhile."""

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from sockd.reload import Turnstile


class Work:
    """Work of which each piece waits to be ended by the test."""

    def __init__(self) -> None:
        self.pieces: list[Deferred[Any]] = []
        self.cancelled = 0
        self.turnstile: Turnstile[Any] = Turnstile(self.do)

    async def do(self) -> Any:
        self.pieces.append(Deferred())
        try:
            return await self.pieces[-1]
        except CancelledError:
            self.cancelled += 1
            raise

    def ask(self) -> list[Any]:
        """What was told to who asked; nothing yet."""
        told: list[Any] = []
        self.turnstile.ask().addBoth(told.append)
        return told


@pytest.fixture
def work() -> Work:
    return Work()


def test_one_at_a_time(work: Work) -> None:
    """However many ask while it is being done, once more is enough: they all get what that came to."""
    assert not work.turnstile.busy
    first = work.ask()
    later = [work.ask() for _ in range(3)]
    assert len(work.pieces) == 1
    assert work.turnstile.busy
    work.pieces[0].callback("one")
    assert first == ["one"]
    assert later == [[], [], []]
    work.pieces[1].callback("two")
    assert later == [["two"]] * 3
    assert len(work.pieces) == 2
    assert not work.turnstile.busy


def test_failures_are_told_to_all_who_asked(work: Work) -> None:
    """And the next piece is another one."""
    first = work.ask()
    later = [work.ask() for _ in range(2)]
    work.pieces[0].errback(ZeroDivisionError())
    assert isinstance(first[0], Failure)
    last = work.ask()
    work.pieces[1].errback(KeyError())
    assert [told[0].type for told in later] == [KeyError] * 2
    work.pieces[2].callback("done")
    assert last == ["done"]


def test_who_is_told_may_ask_again(work: Work) -> None:
    """At once, for what was begun already if others waited for it."""
    again: list[Any] = []
    work.turnstile.ask().addCallback(lambda _: again.append(work.ask()))
    work.pieces[0].callback(None)
    assert len(work.pieces) == 2
    work.pieces[1].callback("again")
    assert again == [["again"]]


def test_work_that_takes_no_time() -> None:
    """Each one gets its own."""
    numbers = iter((1, 2))

    async def do() -> int:
        return next(numbers)

    turnstile = Turnstile(do)
    assert [turnstile.ask().result, turnstile.ask().result] == [1, 2]
    assert not turnstile.busy


def test_cancelling_is_not_waiting_any_more(work: Work) -> None:
    """The work goes on for the others; what nobody waits for any more is not begun."""
    asked = [work.turnstile.ask() for _ in range(3)]
    told: list[Any] = []
    for each in asked:
        each.addErrback(lambda failure: failure.type)
    asked[0].cancel()
    asked[1].cancel()
    asked[2].addCallback(told.append)
    work.pieces[0].callback("one")
    assert not work.cancelled
    assert not told
    asked[2].cancel()
    work.pieces[1].callback("two")
    assert told == [CancelledError]
    asked = [work.turnstile.ask() for _ in range(2)]
    asked[1].addErrback(lambda failure: failure.type)
    asked[1].cancel()
    work.pieces[2].callback("three")
    assert len(work.pieces) == 3


def test_closing(work: Work) -> None:
    """What is done is cancelled, and waited for; who waits, and who comes later, is told at once."""
    ends: Deferred[None] = Deferred()

    async def do() -> None:
        try:
            await Deferred()
        finally:
            await ends

    turnstile = Turnstile(do)
    told: list[list[Any]] = [[], [], []]
    for each in told[:2]:
        turnstile.ask().addBoth(each.append)
    closed = turnstile.close()
    turnstile.ask().addBoth(told[2].append)
    assert not told[0]
    assert [each[0].type for each in told[1:]] == [CancelledError] * 2
    assert not closed.called
    ends.callback(None)
    assert told[0][0].type is CancelledError
    assert closed.called
    assert not turnstile.busy


def test_closing_what_does_nothing(work: Work) -> None:
    """There is nothing to wait for."""
    assert work.turnstile.close().called
    assert work.ask()[0].type is CancelledError
    assert not work.pieces
