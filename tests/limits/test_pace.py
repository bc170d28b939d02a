"""How fast a peer may go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockd.base.units import Rate
from sockd.limits.rates import Pace

FIVE = Rate(5, 1.0)


def test_burst_then_rate() -> None:
    """As many at once as the rate counts, then one for each interval."""
    pace = Pace(FIVE, 100.0)
    for _ in range(5):
        assert pace.delay(100.0) == 0
        pace.take(100.0)
    assert pace.delay(100.0) == pytest.approx(0.2)
    assert pace.delay(100.2) == 0
    assert not pace.rested(100.9)
    assert pace.rested(101.01)


def test_debt_is_bounded() -> None:
    """However much came at once, the wait is never longer than the rate's time and one interval."""
    pace = Pace(FIVE, 0.0)
    assert not pace.in_debt(0.0)
    pace.take(0.0, 1_000_000)
    assert pace.in_debt(0.0)
    assert pace.delay(0.0) == pytest.approx(1.2)


def test_spent_is_no_debt() -> None:
    """Who used up exactly what is allowed owes nothing."""
    pace = Pace(FIVE, 0.0)
    pace.take(0.0, 5)
    assert pace.delay(0.0) > 0
    assert not pace.in_debt(0.0)


@given(
    st.builds(Rate, st.integers(1, 1000), st.sampled_from([1.0, 60.0, 3600.0])),
    st.lists(st.floats(0, 10), max_size=50),
)
def test_never_more_than_the_rate(rate: Rate, pauses: list[float]) -> None:
    """Whoever waits as told gets at most the burst and what the time that went by allows."""
    now, taken = 1000.0, 0
    pace = Pace(rate, now)
    for pause in pauses:
        now += pause
        if pace.delay(now) == 0:
            pace.take(now)
            taken += 1
    assert taken <= rate.count + (now - 1000.0) * rate.per_second + 0.01


@given(st.builds(Rate, st.integers(1, 10**9), st.sampled_from([1.0, 60.0, 3600.0])), st.floats(0, 1e9))
def test_waiting_helps(rate: Rate, now: float) -> None:
    """After the delay one more is allowed, or all but a rounding of it."""
    pace = Pace(rate, now)
    pace.take(now, rate.count)
    assert pace.delay(now + pace.delay(now) + 1e-6) == 0
