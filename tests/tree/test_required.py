"""When a required endpoint gives up: a table of lives, and when each has been without running too long."""

import pytest
from twisted.internet.task import Clock

from sockd.tree.required import GiveUp

AFTER, PROVED = 10.0, 3.0

# At which times (seconds) it runs or doesn't, and when that is given up; None: never.
Life = tuple[list[tuple[float, bool]], float | None]
LIVES: dict[str, Life] = {
    "never runs": ([(0, False)], 10),
    "said twice": ([(0, False), (5, False)], 10),
    "runs at once": ([(0, True), (1, True)], None),
    "said twice that it runs now": ([(0, False), (9, True), (9.5, True)], None),
    "comes up in time and stays": ([(0, False), (9.9, True)], None),
    "comes up too late": ([(0, False), (10.1, True)], 10),
    "falls after a long time": ([(0, True), (50, False)], 60),
    "falls after a long time, and comes back": ([(0, True), (50, False), (59, True)], None),
    "comes up, proves itself and falls": ([(0, False), (5, True), (8, False)], 18),
    "comes up and falls before it has proved itself": ([(0, False), (5, True), (7.9, False)], 10),
    "falls when its time is already over": ([(0, False), (9, True), (11, False)], 11),
    "never up for long": ([(at, at % 2 == 1) for at in range(30)], 10),
    "up most of the time, never for long": (
        [(0, True)] + [(at + part, part != 2.5) for at in range(0, 30, 3) for part in (2.5, 2.9)], 14.5
    ),
    "proves itself each time": ([(at, at % 4 == 1) for at in range(40) if at % 4 < 2], None),
}  # fmt: skip


@pytest.mark.parametrize(("steps", "given_up"), LIVES.values(), ids=LIVES.keys())
def test_lives(steps: list[tuple[float, bool]], given_up: float | None) -> None:
    """Each is given up exactly then."""
    clock = Clock()
    times: list[float] = []
    give_up = GiveUp(AFTER, PROVED, clock, lambda: times.append(clock.seconds()))
    for at, running in steps:
        while clock.seconds() < at and not times:
            clock.advance(min(0.1, at - clock.seconds()))
        if times:
            break  # the daemon stops
        give_up.update(running=running)
    if not times:
        clock.pump([0.1] * 1000)
    assert times == ([] if given_up is None else [pytest.approx(given_up, abs=0.15)])
    give_up.cancel()
    assert not clock.getDelayedCalls()


def test_waiting_no_longer() -> None:
    """A daemon that stops gives nothing up; cancelling may be repeated."""
    for running in (False, True):
        clock = Clock()
        give_up = GiveUp(AFTER, PROVED, clock, lambda: pytest.fail("it gave up"))
        give_up.update(running=False)
        give_up.update(running=running)
        give_up.cancel()
        give_up.cancel()
        assert not clock.getDelayedCalls()
