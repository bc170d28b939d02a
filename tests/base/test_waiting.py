"""Waiting for others."""

from twisted.internet.defer import ensureDeferred
from twisted.internet.task import Clock

from sockd.base.waiting import Turns


def test_a_coroutine_waits_for_its_next_turn_only_where_its_slice_is_used_up() -> None:
    clock = Clock()
    done = []

    async def work(turns: Turns) -> None:
        for number in range(3):
            done.append(number)
            await turns.over()

    ensureDeferred(work(Turns(clock, 3600.0)))
    assert done == [0, 1, 2]
    done.clear()
    ensureDeferred(work(Turns(clock, -1.0)))
    assert done == [0]
    clock.advance(0)
    assert done == [0, 1, 2]
