"""Rates: never more than a burst and what time gives, for any order of asking; memory bounded."""

from hypothesis import given
from hypothesis import strategies as st

from sockd.limits.buckets import SOURCES, Bucket, Sources
from sockd.units import Rate

RATES = st.builds(Rate, st.integers(1, 1000), st.sampled_from([1.0, 60.0, 3600.0]))
WAITS = st.lists(st.floats(0, 10, allow_nan=False), max_size=200)


@given(rate=RATES, waits=WAITS)
def test_never_more_than_the_rate(rate: Rate, waits: list[float]) -> None:
    """Within any time from the start: at most the burst and the rate times that time."""
    bucket, now, taken = Bucket(rate, 0.0), 0.0, 0
    for wait in waits:
        now += wait
        taken += bucket.take(now)
        assert taken <= bucket.burst + rate.per_second * now + 1e-6


@given(rate=RATES, waits=WAITS)
def test_who_asks_slowly_is_never_refused(rate: Rate, waits: list[float]) -> None:
    """Refusals cost nothing: whoever waits for the rate gets what it gives, however often it asked before."""
    bucket, now = Bucket(rate, 0.0), 0.0
    for wait in waits:
        now += wait
        bucket.take(now)
    now += 1 / rate.per_second + 1e-6
    assert bucket.take(now)


def test_a_second_at_once() -> None:
    """One second's worth may come at once, and at least one of a rate below that."""
    bucket = Bucket(Rate(5, 1.0), 0.0)
    assert [bucket.take(0.0) for _ in range(6)] == [True] * 5 + [False]
    assert bucket.take(0.2)
    assert not bucket.take(0.2)
    slow = Bucket(Rate(1, 60.0), 0.0)
    assert [slow.take(0.0), slow.take(30.0), slow.take(60.0)] == [True, False, True]


def test_sources_are_counted_apart() -> None:
    """One source's flood is nobody else's."""
    sources = Sources(Rate(1, 1.0))
    assert [sources.take("a", 0.0), sources.take("a", 0.0), sources.take("b", 0.0)] == [True, False, True]
    assert len(sources) == 2


def test_table_of_sources_is_bounded() -> None:
    """The source that was seen longest ago makes room for a new one; one that floods on is remembered."""
    sources = Sources(Rate(1, 3600.0), most=3)
    for source in ("flooding", "b", "c", "flooding", "d"):
        sources.take(source, 0.0)
    assert len(sources) == 3
    assert not sources.take("flooding", 0.0)
    assert sources.take("b", 0.0)
    assert len(sources) == 3
    usual = Sources(Rate(1, 1.0))
    for number in range(SOURCES + 10):
        usual.take(number, 0.0)
    assert len(usual) == SOURCES
