"""Whether sockd is where it is to be."""

from typing import Any

import pytest

from benchmarks.bars import BARS, Bar, judge


def results(measure: str = "cpu", **servers: float) -> dict[str, Any]:
    found = {name.replace("_", " "): {measure: {"median": value}} for name, value in servers.items()}
    return {"tcp": {"cases": {"case": {"unit": "message", "servers": found}}}}


@pytest.mark.parametrize(
    ("bar", "found", "reached", "met"),
    [
        (Bar("tcp", "case", "cpu", 1.05, ("uvloop",)), results(sockd=5.2, uvloop=5.0), "1.04", True),
        (Bar("tcp", "case", "cpu", 1.05, ("uvloop",)), results(sockd=5.3, uvloop=5.0), "1.06", False),
        (Bar("tcp", "case", "cpu", 1.0, ("a", "b")), results(sockd=3.0, a=4.0, b=2.0), "1.50", False),
        (
            Bar("tcp", "case", "rate", 1.0, ("uvloop",), at_least=True),
            results("rate", sockd=9.0, uvloop=6.0),
            "1.50",
            True,
        ),
        (
            Bar("tcp", "case", "bytes", 1.0, ("uvloop",), plus=1000),
            results("bytes", sockd=2500, uvloop=2000),
            "2.50 KB to 2.00 KB",
            True,
        ),
        (Bar("tcp", "case", "seconds", 0.4), results("seconds", sockd=0.5), "0.50 s", False),
        (Bar("tcp", "case", "resident", 45e6), results("resident", sockd=44e6), "44.0 MB", True),
        (Bar("tcp", "case", "lost", 0), results("lost", sockd=0), "0 lost", True),
        (Bar("tcp", "case", "rate", 5, at_least=True), results("rate", sockd=6), "6.00", True),
    ],
)
def test_judge(bar: Bar, found: dict[str, Any], reached: str, met: bool) -> None:
    """Medians are held against the best of the peers, or against a number."""
    verdict = judge(bar, found)
    assert verdict
    assert (verdict.reached, verdict.met) == (reached, met)


def test_what_was_not_measured_is_not_judged() -> None:
    """Neither met nor missed: without sockd, without the peer, without the work."""
    bar = Bar("tcp", "case", "cpu", 1.0, ("Go",))
    assert judge(bar, results(sockd=1.0)) is None
    assert judge(bar, results(Go=1.0)) is None
    assert judge(bar, {}) is None


def test_bars_say_what_they_ask_for() -> None:
    """In the words of the page."""
    assert Bar("udp", "x", "cpu", 1.3, ("C",)).text == "at most 1.3 of C"
    assert Bar("tcp", "x", "rate", 1.0, ("uvloop",), at_least=True).text == "at least 1 of uvloop"
    assert Bar("x", "x", "bytes", 1.0, ("uvloop",), plus=1000).text == "at most 1 of uvloop + 1 KB"
    assert Bar("start", "x", "seconds", 0.4).text == "at most 0.40 s"
    assert len(set(BARS)) == len(BARS)
