"""Durations, sizes and rates: what is written shortest reads as the same value."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockd.base.units import Rate, duration, format_duration, format_size, rate, size


@given(st.integers(1, 10**9))
def test_durations_round_trip(milliseconds: int) -> None:
    """Every duration of whole milliseconds can be written and read again."""
    assert duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


@given(st.integers(0, 10**9 - 1))
def test_sizes_round_trip(count: int) -> None:
    """Every size can be written and read again."""
    assert size(format_size(count)) == count


@given(st.integers(0, 10**9 - 1), st.sampled_from([1.0, 60.0, 3600.0]))
def test_rates_round_trip(count: int, per: float) -> None:
    """Every rate can be written and read again."""
    assert rate(str(Rate(count, per))) == Rate(count, per)


@given(st.text())
def test_nothing_but_a_value_error(text: str) -> None:
    """Whatever is written is a value or an error that shows the form."""
    for read in (duration, size, rate):
        with suppress(ValueError):
            assert read(text) is not None


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("30s", 30.0), ("5m", 300.0), ("1h", 3600.0), ("2d", 172800.0)]
)
def test_durations(text: str, seconds: float) -> None:
    """Each unit means what it says."""
    assert duration(text) == seconds
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("5B", 5),
        ("64KiB", 65536),
        ("1MB", 10**6),
        ("2kB", 2000),
        ("2KB", 2000),
        ("1GiB", 2**30),
        ("1GB", 10**9),
    ],
)
def test_sizes(text: str, count: int) -> None:
    """Each unit means what it says, binary or decimal."""
    assert size(text) == count


def test_shortest_forms() -> None:
    """What is shown is exact first, and short second."""
    assert [format_duration(seconds) for seconds in (0, 0.001, 90, 86400, 3601)] == [
        "0ms",
        "1ms",
        "90s",
        "1d",
        "3601s",
    ]
    assert [format_size(count) for count in (0, 1023, 1024, 3 * 2**20)] == ["0B", "1023B", "1KiB", "3MiB"]


def test_rate_per_second() -> None:
    """A rate knows its speed."""
    assert Rate(120, 60.0).per_second == 2.0
