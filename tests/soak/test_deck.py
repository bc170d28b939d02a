"""The plan of a soak: seeded, fair, within its time."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tests.soak.deck import FIRST, GAPS, LAST, deal

NAMES = ["upgrade", "reload", "rotate", "attack"]


@given(st.integers(0, 2**32), st.floats(0, 100))
def test_the_same_seed_gives_the_same_deeds(seed: int, seconds: float) -> None:
    """In whatever order their names are given."""
    assert deal(NAMES, seed, seconds) == deal(NAMES[::-1], seed, seconds)


@given(st.integers(0, 2**32), st.floats(10, 100))
def test_every_deed_has_its_turn(seed: int, seconds: float) -> None:
    """None comes a second time before all the others came once; they are in order, with time between them."""
    deeds = deal(NAMES, seed, seconds)
    for start in range(0, len(deeds) - len(NAMES) + 1, len(NAMES)):
        assert {deed.name for deed in deeds[start : start + len(NAMES)]} == set(NAMES)
    times = [deed.at for deed in deeds]
    assert times[0] == FIRST
    assert times[-1] < seconds - LAST + 0.001  # times are rounded to milliseconds
    assert all(GAPS[0] - 0.001 <= later - earlier <= GAPS[1] + 0.001 for earlier, later in pairwise(times))


def test_other_seeds_give_others() -> None:
    """So that soaks don't all look alike."""
    assert len({tuple(deal(NAMES, seed, 20)) for seed in range(10)}) == 10
