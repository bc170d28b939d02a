"""Twisted's own tests hold for our reactor, and for our transports in any reactor's hands."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.inapplicable import INAPPLICABLE

OURS = "sockd.reactor.SockdReactor"
STOCK = "twisted.internet.epollreactor.EPollReactor"


def run(suites: str, reactor: str, directory: Path) -> dict[str, Any]:
    """The report of `tests.conformance.run`, with what trial said."""
    result = directory / "result.json"
    command = [sys.executable, "-m", "tests.conformance.run", suites, reactor, str(result)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(result.read_text())
    return report | {"said": done.stdout}


@pytest.mark.parametrize(
    ("suites", "ours", "stock", "least"),
    [
        ("built", OURS, STOCK, 250),
        ("installed", OURS.rpartition(".")[0], STOCK.rpartition(".")[0], 250),
    ],
)
def test_the_reactor(suites: str, ours: str, stock: str, least: int, tmp_path: Path) -> None:
    """What fails, if anything, is what fails with Twisted's epoll reactor too, where the tests are run."""
    (tmp_path / "ours").mkdir()
    report = run(suites, ours, tmp_path / "ours")
    assert report["run"] - len(report["skipped"]) >= least
    if report["failed"]:
        (tmp_path / "stock").mkdir()
        other = run(suites, stock, tmp_path / "stock")
        theirs = {name.replace("EPollReactor", "SockdReactor") for name in other["failed"]}
        assert set(report["failed"]) <= theirs, report["said"]


@pytest.mark.parametrize(
    ("reactor", "least"), [("Servers", 60), ("ServersInALane", 60), ("Clients", 60), ("Both", 50)]
)
def test_the_transports(reactor: str, least: int, tmp_path: Path) -> None:
    """Each test that holds for Twisted's connections holds for ours, but those that are said not to apply."""
    report = run("transports", f"tests.conformance.ours.{reactor}", tmp_path)
    assert report["run"] - len(report["skipped"]) >= least
    assert not report["failed"], report["said"]
    assert {name.rpartition(".")[2] for name in report["skipped"]} == set(INAPPLICABLE[reactor])
