"""The patterns of ranges take exactly the numbers of the range."""

import re

from hypothesis import given
from hypothesis import strategies as st

from sockd.config.patterns import pattern_up_to

numbers = st.integers(0, 10**10)


@given(numbers, numbers, st.data())
def test_takes_the_range_and_nothing_else(one: int, other: int, data: st.DataObject) -> None:
    """A number matches when it lies in the range, near its ends too."""
    low, high = sorted((one, other))
    number = data.draw(numbers | st.integers(low, high) | st.sampled_from([low, high, low - 1, high + 1]))
    assert bool(re.fullmatch(pattern_up_to(low, high), str(number))) == (low <= number <= high)


@given(st.integers(0, 300), st.integers(0, 300))
def test_small_ranges(one: int, other: int) -> None:
    """Every number up to 1000 is judged rightly by the pattern of a small range."""
    low, high = sorted((one, other))
    pattern = re.compile(pattern_up_to(low, high))
    assert [n for n in range(1000) if pattern.fullmatch(str(n))] == list(range(low, high + 1))
    assert not pattern.fullmatch(f"0{high}")
