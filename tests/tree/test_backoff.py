"""Delays between tries: doubling, bounded, jittered, forgotten after success."""

from hypothesis import given
from hypothesis import strategies as st

from sockd.config.model import Restart
from sockd.tree.backoff import JITTER, BackOff

SECONDS = st.floats(0.01, 1000)
RANDOM = st.floats(0, 1, exclude_max=True)


def test_doubles_up_to_the_most() -> None:
    """From `delay` to `max_delay`, then always that."""
    back_off = BackOff(Restart(delay=0.5, max_delay=3.0), lambda: 0.0)
    assert [back_off.delay() for _ in range(6)] == [0.5, 1.0, 2.0, 3.0, 3.0, 3.0]


def test_jitter_only_shortens() -> None:
    """What failed together doesn't come back together; nobody waits longer than the file says."""
    numbers = iter([0.0, 0.5, 1.0])
    back_off = BackOff(Restart(delay=4.0, max_delay=4.0), lambda: next(numbers))
    assert [back_off.delay() for _ in range(3)] == [4.0, 4.0 * (1 - JITTER / 2), 4.0 * (1 - JITTER)]


def test_staying_up_is_rewarded() -> None:
    """After `max_delay` of running the delays begin anew; a shorter time counts for nothing."""
    back_off = BackOff(Restart(delay=1.0, max_delay=8.0), lambda: 0.0)
    assert [back_off.delay() for _ in range(3)] == [1.0, 2.0, 4.0]
    back_off.stayed_up(7.9)
    assert back_off.delay() == 8.0
    back_off.stayed_up(8.0)
    assert [back_off.delay() for _ in range(2)] == [1.0, 2.0]


def test_delay_above_the_most() -> None:
    """A first delay longer than the longest is the longest."""
    back_off = BackOff(Restart(delay=10.0, max_delay=2.0), lambda: 0.0)
    assert [back_off.delay() for _ in range(2)] == [2.0, 2.0]


@given(delay=SECONDS, most=SECONDS, random=RANDOM, tries=st.integers(1, 50))
def test_always_within_bounds(delay: float, most: float, random: float, tries: int) -> None:
    """Never more than `max_delay`, and never less than what jitter leaves of the shortest."""
    back_off = BackOff(Restart(delay=delay, max_delay=most), lambda: random)
    for _ in range(tries):
        waited = back_off.delay()
        assert min(delay, most) * (1 - JITTER) <= waited <= most
