"""Rates: never more than a burst and what time gives, for any order of asking; memory bounded."""

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockd.base.units import Rate
from sockd.base.units import rate as written
from sockd.limits.rates import SHARED_BUCKETS, SOURCE_LIMIT, Bucket, Buckets


class Source:
    """One of many sources, used as a bucket of its own; with `most=0` it shares one."""

    def __init__(self, rate: Rate, most: int = SOURCE_LIMIT) -> None:
        self._all = Buckets[str](rate, most)

    def take(self, now: float) -> bool:
        return self._all.take("one", now)


RATES = st.builds(Rate, st.integers(1, 1000), st.sampled_from([1.0, 60.0, 3600.0]))
WAITS = st.lists(st.floats(0, 10, allow_nan=False), max_size=200)


@given(rate=RATES, waits=WAITS)
def test_never_more_than_the_rate(rate: Rate, waits: list[float]) -> None:
    """Within any time from the start: at most the burst and the rate times that time."""
    bucket, now, taken = Bucket(rate, 0.0), 0.0, 0
    for wait in waits:
        now += wait
        taken += bucket.take(now)
        assert taken <= rate.count + rate.per_second * now + 1e-3


@given(rate=RATES, waits=WAITS)
def test_a_slow_source_is_never_refused(rate: Rate, waits: list[float]) -> None:
    """Refusals cost nothing: whoever waits for the rate gets what it gives, however often it asked before."""
    bucket, now = Bucket(rate, 0.0), 0.0
    for wait in waits:
        now += wait
        bucket.take(now)
    now += 1 / rate.per_second + 1e-6
    assert bucket.take(now)


@pytest.mark.parametrize(
    ("text", "at_once", "interval"),
    [("20/s", 20, 0.05), ("1/s", 1, 1.0), ("60/m", 60, 1.0), ("1/m", 1, 60.0), ("60/h", 60, 60.0)],
)
def test_a_rate_has_one_meaning(text: str, at_once: int, interval: float) -> None:
    """A burst of its count, then one at a time, evenly; for a bucket and for many sources."""
    for bucket in (Bucket(written(text), 0.0), Source(written(text)), Source(written(text), most=0)):
        assert [bucket.take(0.0) for _ in range(at_once + 1)] == [True] * at_once + [False]
        assert not bucket.take(0.99 * interval)
        assert [bucket.take(interval), bucket.take(interval)] == [True, False]
        assert [bucket.take(3 * interval) for _ in range(3)] == [True, at_once > 1, False]


def test_sources_are_counted_apart() -> None:
    """One source's flood is nobody else's."""
    buckets = Buckets[str](Rate(1, 1.0))
    assert [buckets.take("a", 0.0), buckets.take("a", 0.0), buckets.take("b", 0.0)] == [True, False, True]
    assert len(buckets) == 2


# Whole sixteenths of a second: what is filled in then is a multiple of far more than rounding.
ASKED = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 64).map(lambda n: n / 16)), max_size=200)


MANY = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 64).map(lambda n: n / 16), st.integers(0, 70)), max_size=50
)


@given(rate=RATES, asked=MANY)
def test_many_at_once(rate: Rate, asked: list[tuple[int, float, int]]) -> None:
    """The number taken is that of taking one by one, also where sources share buckets."""
    for most in (SOURCE_LIMIT, 2):
        at_once, by_one, now = Buckets[int](rate, most), Buckets[int](rate, most), 0.0
        all_at_once, all_by_one = Bucket(rate, 0.0), Bucket(rate, 0.0)
        for source, wait, count in asked:
            now += wait
            assert all_at_once.take_many(count, now) == sum(all_by_one.take(now) for _ in range(count))
            if count:
                taken = sum(by_one.take(source, now) for _ in range(count))
                assert at_once.take_many(source, count, now) == taken


@given(rate=RATES, asked=ASKED)
def test_as_a_bucket_for_each(rate: Rate, asked: list[tuple[int, float]]) -> None:
    """While there is room, each source has as much as with a bucket of its own for ever."""
    buckets, now = Buckets[int](rate), Fraction(0)
    per_second = Fraction(rate.count) / Fraction(rate.per)
    burst = Fraction(rate.count)
    plain = dict.fromkeys(range(6), (burst, now))
    for source, wait in asked:
        now += Fraction(wait)
        level, at = plain[source]
        level = min(burst, level + (now - at) * per_second)
        taken = buckets.take(source, float(now))
        assert taken == (level >= 1)
        plain[source] = level - taken, now


@given(rate=RATES, asked=ASKED, most=st.integers(0, 4))
def test_never_more_than_the_rate_however_many_ask(
    rate: Rate, asked: list[tuple[int, float]], most: int
) -> None:
    """No source gets more than a bucket of its own would give, nor are there more buckets than allowed."""
    buckets, now = Buckets[int](rate, most), 0.0
    taken: Counter[int] = Counter()
    for source, wait in asked:
        now += wait
        taken[source] += buckets.take(source, now)
        assert taken[source] <= rate.count + rate.per_second * now + 1e-3
        assert len(buckets) <= most


def test_nobody_is_evicted_by_the_number_of_others() -> None:
    """A tripped source stays tripped while others fill the table; those that find no room share buckets."""
    buckets = Buckets[int](Rate(1, 3600.0), limit=3)
    assert [buckets.take(source, 0.0) for source in (1, 2, 3)] == [True] * 3
    shared = [buckets.take(source, 1.0) for source in range(10, 10 + 2 * SHARED_BUCKETS)]
    assert shared == [True] * SHARED_BUCKETS + [False] * SHARED_BUCKETS  # a number is its own hash
    assert not any(buckets.take(source, 2.0) for source in (1, 2, 3))
    assert len(buckets) == 3


def test_neighbours_share_one_bucket() -> None:
    """The owner of a whole network uses up one shared bucket, not all of them."""
    buckets = Buckets[int](Rate(1, 3600.0), limit=0, neighbours=lambda source: source // 100)
    assert [buckets.take(source, 0.0) for source in (100, 101, 199, 200)] == [True, False, False, True]


def test_a_source_stays_with_its_shared_bucket_until_that_is_full() -> None:
    """A source doesn't get a second bucket by there being room again."""
    buckets = Buckets[int](Rate(2, 1.0), limit=1)
    assert buckets.take(1, 0.0)
    assert [buckets.take(2, 0.4) for _ in range(3)] == [True, True, False]
    assert not buckets.take(2, 0.6)  # 1 is forgotten by now
    assert len(buckets) == 0
    assert buckets.take(2, 1.5)
    assert len(buckets) == 1


def test_full_buckets_are_forgotten() -> None:
    """Full buckets are forgotten when others are asked for, a few at a time, or by `forget`."""
    buckets = Buckets[int](Rate(2, 1.0))
    for source in range(100):
        buckets.take(source, source / 1000)
    buckets.forget(0.5)
    assert len(buckets) == 99  # the first is full half a second after it gave one of two
    for source in range(200, 300):
        buckets.take(source, 10.0)
    assert len(buckets) == 100
    buckets.forget(20.0)
    assert len(buckets) == 0


def test_table_of_sources_is_bounded() -> None:
    """The number of buckets is bounded, by default too."""
    buckets = Buckets[int](Rate(1, 3600.0))
    for source in range(SOURCE_LIMIT + 10):
        buckets.take(source, 0.0)
    assert len(buckets) == SOURCE_LIMIT


FIVE = Rate(5, 1.0)


def test_burst_then_rate() -> None:
    """A burst of the rate's count, then one for each interval."""
    bucket = Bucket(FIVE, 100.0)
    for _ in range(5):
        assert bucket.delay(100.0) == 0
        bucket.spend(100.0)
    assert bucket.delay(100.0) == pytest.approx(0.2)
    assert bucket.delay(100.2) == 0
    assert not bucket.is_full(100.9)
    assert bucket.is_full(101.01)


@given(RATES, st.lists(st.floats(0, 1e5)), st.floats(-3e-6, 3e-6))
def test_no_delay_means_one_can_be_taken(rate: Rate, waits: list[float], off: float) -> None:
    """`delay` and `take` agree, also within a rounding of the moment when there is one again."""
    now = 1000.0
    bucket = Bucket(rate, now)
    for wait in waits:
        now += wait
        while bucket.take(now):
            bucket.spend(now, rate.count // 3)
        now += max(0.0, bucket.delay(now) + off)
        free = bucket.delay(now) == 0
        assert bucket.take(now) == free


def test_debt_is_bounded() -> None:
    """The wait is never longer than the rate's time and one interval, however much came at once."""
    bucket = Bucket(FIVE, 0.0)
    assert not bucket.in_debt(0.0)
    bucket.spend(0.0, 1_000_000)
    assert bucket.in_debt(0.0)
    assert bucket.delay(0.0) == pytest.approx(1.2)


def test_spent_is_no_debt() -> None:
    """A source that used up exactly its rate is not in debt."""
    bucket = Bucket(FIVE, 0.0)
    bucket.spend(0.0, 5)
    assert bucket.delay(0.0) > 0
    assert not bucket.in_debt(0.0)


@given(
    st.builds(Rate, st.integers(1, 1000), st.sampled_from([1.0, 60.0, 3600.0])),
    st.lists(st.floats(0, 10), max_size=50),
)
def test_waiting_for_the_delay_is_never_more_than_the_rate(rate: Rate, pauses: list[float]) -> None:
    """A source that waits for `delay` gets at most the burst and what the passed time allows."""
    now, taken = 1000.0, 0
    bucket = Bucket(rate, now)
    for pause in pauses:
        now += pause
        if bucket.delay(now) == 0:
            bucket.spend(now)
            taken += 1
    assert taken <= rate.count + (now - 1000.0) * rate.per_second + 0.01


@given(st.builds(Rate, st.integers(1, 10**9), st.sampled_from([1.0, 60.0, 3600.0])), st.floats(0, 1e9))
def test_waiting_helps(rate: Rate, now: float) -> None:
    """After the delay one more is allowed, or all but a rounding of it."""
    bucket = Bucket(rate, now)
    bucket.spend(now, rate.count)
    assert bucket.delay(now + bucket.delay(now) + 1e-6) == 0
