"""Bounds are read as they were written, and what is over one is said to be."""

import pytest

from benchmarks.check import bounds
from benchmarks.check.bounds import Bound, Bounds, Count
from benchmarks.check.scenarios import SCENARIOS

THREE = {"epoll_wait": 1.0, "recvfrom": 1.0, "sendto": 1.0}


def bound(counts: dict[str, float], slack: float = 0.1) -> Bound:
    return Bound(*bounds.system_calls(counts, slack))


def test_system_calls_are_summed_and_named() -> None:
    """The most frequent first; seldom ones have no name, and those by chance no part in the sum either."""
    count, most = bounds.system_calls({"read": 1.0, "brk": 0.01, "futex": 7.0, "write": 2.0}, 0.1)
    assert list(count.kinds) == ["write", "read"]
    assert (count.counted, most) == (3.01, 3.11)
    assert count.text == "3.01 (write 2, read 1)"


def test_instructions_may_be_a_tenth_more() -> None:
    """A number without kinds, shown with its thousands."""
    count, most = bounds.instructions({"instructions": 47_800.4})
    assert (count, most) == (Count(47_800.0), 52_580.0)
    assert count.text == "47,800"


@pytest.mark.parametrize(
    ("counts", "fails", "said"),
    [
        (THREE, False, "at most 3.1"),
        ({**THREE, "sendto": 1.05}, False, "at most 3.1"),
        ({**THREE, "getpid": 1.0}, True, "TOO MUCH: the bound is 3.1; when it was recorded: 3 (epoll_wait 1"),
        ({"recvmmsg": 0.1}, False, "less than the 3 (epoll_wait 1"),
    ],
)
def test_a_count_is_judged(counts: dict[str, float], fails: bool, said: str) -> None:
    """A little more is a timer's; one call more a unit is too much; much less should be recorded."""
    count, _ = bounds.system_calls(counts, 0.1)
    assert bounds.too_much(count, bound(THREE)) == fails
    assert bounds.verdict(count, bound(THREE)).startswith(said)


def test_what_has_no_bound_says_how_to_get_one() -> None:
    """The line ends in the command."""
    assert "make bench-check RECORD=1" in bounds.verdict(Count(1.0), None)


def test_bounds_survive_their_file() -> None:
    """What is written is read again, a line a unit; no file is no bounds."""
    some = Bounds(
        {"echo": bound(THREE), "chat": bound({"sendto": 1.0})}, {"P 3.11": {"echo": Bound(Count(9.0), 10.0)}}
    )
    text = bounds.written(some)
    assert bounds.read(text) == some
    assert sum('"counted"' in line for line in text.splitlines()) == 3
    assert bounds.read("") == bounds.read(bounds.written(Bounds())) == Bounds()


def test_bounds_of_units_that_are_gone_are_dropped() -> None:
    """Of every build."""
    some = Bounds({"echo": bound(THREE), "old": bound(THREE)}, {"P": {"old": Bound(Count(1.0), 2.0)}})
    some.forget(["echo"])
    assert (list(some.system_calls), some.instructions) == (["echo"], {"P": {}})


def test_the_recorded_bounds_are_of_the_units_that_there_are() -> None:
    """Neither is a unit without a bound, nor a bound without a unit."""
    recorded = bounds.read(bounds.FILE.read_text())
    units = {one.name for one in SCENARIOS}
    busy = {one.name for one in SCENARIOS if not one.at_rest}
    assert set(recorded.system_calls) == units
    assert all(set(one) == busy for one in recorded.instructions.values())
