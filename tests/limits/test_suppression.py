"""Log lines at a bounded rate: none is lost without being counted."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from sockd.base.units import Rate
from sockd.limits.suppression import LogLimiter

TWO = Rate(2, 1.0)


@pytest.mark.parametrize("per", [1.0, 60.0])
def test_a_line_or_a_count(per: float) -> None:
    """As many lines as the rate allows; after the rate's time one summary of the others, by kind."""
    clock, summaries = Clock(), list[Counter[str]]()
    limiter = LogLimiter(clock, Rate(2, per), summaries.append)
    assert [limiter.allows(kind) for kind in "aabab"] == [True, True, False, False, False]
    clock.advance(per / 4)
    assert summaries == []
    clock.advance(per * 3 / 4)
    assert summaries == [{"b": 2, "a": 1}]
    assert not clock.getDelayedCalls()
    assert limiter.allows("a")


def test_closing_sums_up_at_once() -> None:
    """Lines not summed up yet are not lost, and no timer stays."""
    clock, summaries = Clock(), list[Counter[str]]()
    limiter = LogLimiter(clock, TWO, summaries.append)
    limiter.close()
    assert summaries == []
    limiter.suppress("a")
    limiter.close()
    assert summaries == [{"a": 1}]
    assert not clock.getDelayedCalls()


def test_without_a_summary() -> None:
    """The rate holds, and no timer is started."""
    clock = Clock()
    limiter = LogLimiter(clock, TWO)
    assert [limiter.allows("a") for _ in range(3)] == [True, True, False]
    assert not clock.getDelayedCalls()
    assert limiter.freeze() == {}


def test_another_program_goes_on() -> None:
    """Its summary has what this one suppressed."""
    clock, summaries = Clock(), list[Counter[str]]()
    before, after = (LogLimiter(clock, TWO, summaries.append) for _ in range(2))
    for kind in "aab":
        before.suppress(kind)
    after.thaw(before.freeze())
    after.close()
    assert summaries == [{"a": 2, "b": 1}]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 2))))
def test_every_line_is_logged_or_counted(lines: list[tuple[str, float]]) -> None:
    """The lines and the counts of the summaries add up, whatever comes when."""
    clock, logged, summaries = Clock(), Counter[str](), Counter[str]()
    limiter = LogLimiter(clock, TWO, summaries.update)
    for kind, wait in lines:
        clock.advance(wait)
        logged[kind] += limiter.allows(kind)
    limiter.close()
    assert +(logged + summaries) == Counter(kind for kind, _ in lines)
    assert not clock.getDelayedCalls()
