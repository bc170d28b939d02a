"""How results are written down."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks import report, results
from benchmarks.bars import BARS
from benchmarks.plots import plot
from benchmarks.work import Outcome, Settings
from benchmarks.works import streams


def measured(**more: Any) -> dict[str, Any]:
    """A work with one case."""
    cpu = {"median": 6.0, "low": 5.5, "high": 7.25}
    servers = {
        "sockd": {"cpu": cpu, "p50": cpu},
        "C <limit>": {"cpu": {"median": 4.0, "low": 4.0, "high": 4.0}},
    }
    servers["sockd"] |= more
    outcome = Outcome({"100 B": {"unit": "packet", "servers": servers}}, ["Go is left out: no go"])
    found: dict[str, Any] = {}
    results.put(found, "udp", outcome, "a machine", 3)
    return found


def test_a_page_keeps_its_own_words(tmp_path: Path) -> None:
    """What is between the markers is made anew, as often as one likes; plots are next to the page."""
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    for _ in range(2):
        report.write(measured(), page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| 100 B | sockd | 6 | 5.5 to 7.25 |  |" in text
    assert "|  | C <limit> | 4 | 4 to 4 | 1.50 |" in text
    assert "- Go is left out: no go" in text
    assert "| udp | 1,400 B | CPU at most 1 of Go | not measured |  |" in text
    assert (tmp_path / "performance/udp.svg").exists()


def test_a_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    """Nothing is overwritten by guessing."""
    page = tmp_path / "performance.md"
    page.write_text("mine")
    with pytest.raises(ValueError, match="markers"):
        report.write(measured(), page)
    assert page.read_text() == "mine"


def test_the_page_has_a_place_for_results() -> None:
    """`make bench` would end with an error otherwise, after 12 minutes."""
    text = report.PAGE.read_text()
    assert text.index(report.BEGIN) < text.index(report.END)


def test_what_not_every_work_has_is_said_in_words() -> None:
    """Losses only where there were any."""
    size = {"median": 1500.0, "low": 1500.0, "high": 1500.0}
    none = {"median": 0.0, "low": 0.0, "high": 0.0}
    text = report.text(measured(bytes=size, lost=none))
    assert "- 100 B: memory of each idle connection: sockd 1.50 KB" in text
    assert "lost:" not in text
    assert "- 100 B: lost: sockd 0" in report.text(measured(lost=none | {"high": 2.0}))


def test_plots_are_well_formed() -> None:
    """Names are escaped; a case without CPU has no group."""
    cases = measured()["udp"]["cases"]
    cases["empty"] = {"unit": "x", "servers": {"sockd": {"rate": {"median": 1.0}}}}
    tree = ET.fromstring(plot("udp", cases))
    words = ["".join(one.itertext()) for one in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert words == ["udp: 100 B, µs of CPU a packet", "sockd", "6", "C <limit>", "4"]


def test_results_are_kept_by_work(tmp_path: Path) -> None:
    """What is measured anew replaces its own work only; four digits are written."""
    file = tmp_path / "results.json"
    assert results.read(file) == {}
    results.write({"tcp": {"rounds": 3, "cases": {"x": [1.23456, "text"]}}}, file)
    found = results.read(file)
    results.put(found, "udp", Outcome(), "a machine", 1)
    results.write(found, file)
    assert json.loads(file.read_text())["tcp"] == {"rounds": 3, "cases": {"x": [1.235, "text"]}}
    assert set(results.read(file)) == {"tcp", "udp"}


def test_bars_name_cases_that_are_measured() -> None:
    """A case that was renamed would never be judged again."""
    for work in ("tcp", "unix"):
        names = {one.name for one in streams.cases(work, Settings())}
        assert {bar.case for bar in BARS if bar.work == work} <= names
