"""Twisted's own tests hold for our reactor, and for our transports in any reactor's hands."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.inapplicable import INAPPLICABLE
from tests.hostile.scene import loudly_skip

# Each of Twisted's tests has a limit of its own; all of a suite take as long as the machine makes them.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

OURS = "sockd.process.reactor.SockdReactor"
STOCK = "twisted.internet.epollreactor.EPollReactor"


# pyOpenSSL, for Twisted's own TLS: outside the environment, as Twisted imports it wherever it is found, and
# sockd must not need it.
PYOPENSSL = Path(sys.prefix) / "conformance"


def run(suites: str, reactor: str, directory: Path, *paths: Path) -> dict[str, Any]:
    """The report of `tests.conformance.run`, with what trial said; imports look into `paths` first."""
    result = directory / "result.json"
    command = [sys.executable, "-m", "tests.conformance.run", suites, reactor, str(result)]
    search = os.pathsep.join([*map(str, paths), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": search}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
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
    ("suites", "reactor", "least"),
    [
        ("transports", "Servers", 60),
        ("transports", "ServersInALane", 60),
        ("transports", "Clients", 60),
        ("transports", "Both", 50),
        ("installed-transports", "ServersInstalled", 70),
    ],
)
def test_the_transports(suites: str, reactor: str, least: int, tmp_path: Path) -> None:
    """Each test that holds for Twisted's connections holds for ours, but those that are said not to apply."""
    check_transports(suites, reactor, least, tmp_path)


@pytest.mark.parametrize(
    ("suites", "reactor", "least"),
    [
        ("tls-servers", "TlsServers", 11),
        ("tls-servers", "TlsServersInALane", 11),
        ("tls-clients", "TlsClients", 12),
        ("servers-over-tls", "ServersOverTls", 4),
        ("clients-over-tls", "ClientsOverTls", 9),
    ],
)
def test_tls(suites: str, reactor: str, least: int, tmp_path: Path) -> None:
    """The same, where Twisted's own TLS talks to ours."""
    if not PYOPENSSL.is_dir():
        loudly_skip(f"pyOpenSSL is not in {PYOPENSSL} (see the Makefile)")
    check_transports(suites, reactor, least, tmp_path, PYOPENSSL)


def check_transports(suites: str, reactor: str, least: int, directory: Path, *paths: Path) -> None:
    report = run(suites, f"tests.conformance.ours.{reactor}", directory, *paths)
    assert report["run"] - len(report["skipped"]) >= least
    assert not report["failed"], report["said"]
    assert {name.rpartition(".")[2] for name in report["skipped"]} == set(INAPPLICABLE[reactor])
