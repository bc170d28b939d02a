"""What rounds say together."""

import pytest

from benchmarks.measures import Sample, ratio, spread, summary


def test_the_cost_of_a_unit_is_in_microseconds() -> None:
    """A round's CPU is divided by its units; what a work adds stands next to it."""
    measures = Sample(1000, 2.0, 0.003, 0.001, {"p50": 7.0}).measures
    assert measures == pytest.approx({"p50": 7.0, "rate": 500, "cpu": 4.0, "user": 3.0, "system": 1.0})


def test_a_round_without_units_has_no_cost() -> None:
    """Nothing is divided by nothing."""
    assert Sample(0, 1.0, 0.5).measures == {}
    assert Sample(5, 0.0).measures == {}


def test_a_spread_is_the_median_and_both_ends() -> None:
    """In whatever order the rounds came."""
    found = spread([3.0, 1.0, 10.0])
    assert (found.median, found.low, found.high) == (3.0, 1.0, 10.0)


def test_a_summary_has_what_all_rounds_have() -> None:
    """A measure that one round lacks has no median."""
    found = summary([Sample(1, 1.0, more={"p50": 1.0, "p99": 4.0}), Sample(3, 1.0, more={"p50": 3.0})])
    assert found == {
        "p50": {"median": 2.0, "low": 1.0, "high": 3.0},
        "rate": {"median": 2.0, "low": 1.0, "high": 3.0},
    }
    assert summary([]) == {}


def test_a_ratio_needs_both() -> None:
    """A peer that was left out has none."""
    servers = {"sockd": {"cpu": {"median": 6.0}}, "C": {"cpu": {"median": 4.0}}}
    assert ratio(servers, "sockd", "C", "cpu") == 1.5
    assert ratio(servers, "sockd", "Go", "cpu") is None
    assert ratio(servers, "sockd", "C", "rate") is None
