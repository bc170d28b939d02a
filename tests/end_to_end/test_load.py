"""Under load a client notices nothing, whatever the daemon is asked to do."""

import json
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end import load
from tests.end_to_end.conftest import Serve
from tests.end_to_end.harness import SOCKD, Daemon, fill, receive
from tests.end_to_end.programs import BOUND, run
from tests.end_to_end.traffic import Residents, Visitors, free_port, until

UNLOGGED = "daemon: {log: {level: warn, format: json}}  # not a line for each visit\n"
RELOADS, UPGRADES = 20, 3
STEPS = 2  # of progress between two of them, a quarter of a second each


class Served:
    """A daemon with an echo and a chat for residents, and one more echo that only visitors come to."""

    def __init__(self, serve: Serve, directory: Path) -> None:
        self._ports = [free_port() for _ in range(3)]
        echo, lobby, other = (f"tcp://127.0.0.1:{port}" for port in self._ports)
        run_in = directory / "run"
        self.echo = [echo, f"unix://{run_in}/echo.sock"]
        self.lobby = [lobby, f"unix://{run_in}/lobby.sock"]
        self.other = [other, f"unix://{run_in}/other.sock"]
        self.daemon: Daemon = serve(self.text(), wait=False)
        for url in (*self.echo, *self.lobby, *self.other):
            wait_for(url, self.daemon)

    def text(
        self, *, other: str = "other", more: Sequence[str] = (), most: int = 1000, history: int = 20
    ) -> str:
        """The file; `other` names the visitors' own echo, `more` are further addresses of the other one."""
        return (
            f"{UNLOGGED}endpoints:\n"
            f"  echo: {{listen: {[*self.echo, *more]}, protocol: echo, limits: {{connections: {most}}}}}\n"
            f"  lobby: {{listen: {self.lobby}, protocol: chat, options: {{history: {history}}}}}\n"
            f"  {other}: {{listen: {self.other}, protocol: echo}}\n"
        )

    def ask(self, command: str) -> subprocess.CompletedProcess[str]:
        """What `sockd COMMAND` says to the daemon."""
        control = self.daemon.runtime / "control.sock"
        return run([*SOCKD, *command.split(), "--control", control])

    def status(self) -> dict[str, Any]:
        one = self.ask("status --json")
        assert one.returncode == 0, one.stderr
        status: dict[str, Any] = json.loads(one.stdout)
        return status

    def has(self, name: str) -> bool:
        return name in [endpoint["name"] for endpoint in self.status()["endpoints"]]

    def changes(self) -> list[tuple[str, int]]:
        """Files to reload one after another, and the exit status of each reload."""
        return [
            (self.text(), 0),
            (self.text(most=500, history=10), 0),
            (self.text(other="another"), 0),
            (self.text(more=["unix://more.sock", "tcp://127.0.0.1:0"]), 0),
            (self.text().replace("protocol: echo", "protocol: ehco"), 78),
        ]


def wait_for(url: str, daemon: Daemon) -> None:
    """Until somebody listens there; fails at the daemon's end, or after the bound."""
    until = time.monotonic() + BOUND
    while True:
        try:
            connect(url).close()
            return
        except OSError:
            assert daemon.process.poll() is None, daemon.text
            assert time.monotonic() < until, daemon.text


def connect(url: str) -> socket.socket:
    family, where = load.destination(url)
    one = socket.socket(family, socket.SOCK_STREAM)
    one.settimeout(BOUND)
    try:
        one.connect(where)
    except OSError:
        one.close()
        raise
    return one


@pytest.fixture
def served(serve: Serve, directory: Path) -> Served:
    return Served(serve, directory)


@pytest.fixture
def visitors(served: Served) -> Iterator[Visitors]:
    one = Visitors([*served.echo, *served.other])
    yield one
    one.end()


@pytest.fixture
def residents(served: Served) -> Iterator[Residents]:
    one = Residents(served.echo, served.lobby)
    yield one
    one.end()


def nobody_noticed(visitors: Visitors, residents: Residents) -> None:
    """Ends the clients; each met nothing but what it should."""
    visits, lines = visitors.finish(), residents.finish()
    print(visits.summary(), lines.summary(), sep="\n")  # noqa: T201
    assert visits.missed == {}, visits
    assert lines.missed == {}, lines
    assert visits.ok > 0
    assert lines.heard > 0


def test_left_alone(visitors: Visitors, residents: Residents) -> None:
    """Nothing is done to the daemon: each visit ends well, and each line is heard once and in its turn."""
    visitors.under_way(STEPS)
    nobody_noticed(visitors, residents)


def test_a_killed_daemon_is_noticed(served: Served, visitors: Visitors, residents: Residents) -> None:
    """The clients do count: visitors are refused, and each resident is dropped."""
    visitors.under_way()
    served.daemon.signal(signal.SIGKILL)
    served.daemon.wait()
    visitors.under_way()
    visits, lines = visitors.finish(), residents.finish()
    assert visits.missed["refused"] > 0
    assert lines.missed == {"dropped": 200}


def test_reloads(served: Served, visitors: Visitors, residents: Residents) -> None:
    """Twenty reloads over ten seconds: limits and options, an endpoint's name, addresses, and wrong files."""
    changes = served.changes()
    for number in range(RELOADS):
        text, status = changes[number % len(changes)]
        visitors.under_way(STEPS)
        served.daemon.file.write_text(text)
        one = served.ask("reload")
        assert one.returncode == status, one
    visitors.under_way(STEPS)
    nobody_noticed(visitors, residents)


def test_reloads_by_signal(served: Served, visitors: Visitors, residents: Residents) -> None:
    """SIGHUP gives the sockets of an endpoint to one of another name, to and fro."""
    for name in ("another", "other") * 2:
        visitors.under_way()
        served.daemon.file.write_text(served.text(other=name))
        served.daemon.signal(signal.SIGHUP)
        until(partial(served.has, name))
    visitors.under_way()
    nobody_noticed(visitors, residents)


def test_upgrades(served: Served, visitors: Visitors, residents: Residents) -> None:
    """Three upgrades: the process stays, and so do all connections."""
    for _ in range(UPGRADES):
        visitors.under_way(STEPS)
        one = served.ask("upgrade")
        assert one.returncode == 0, one
    visitors.under_way(STEPS)
    assert served.status()["pid"] == served.daemon.pid
    nobody_noticed(visitors, residents)


@pytest.mark.slow
def test_an_upgrade_by_signal(served: Served, visitors: Visitors, residents: Residents) -> None:
    """SIGUSR2 does what `sockd upgrade` does."""
    visitors.under_way()
    served.daemon.signal(signal.SIGUSR2)
    until(lambda: served.status()["upgrade"] is not None)
    visitors.under_way()
    nobody_noticed(visitors, residents)


@pytest.mark.slow
def test_what_a_slow_reader_is_owed_survives_upgrades(served: Served) -> None:
    """Bytes that wait in the daemon for a client that doesn't read come after each of three upgrades."""
    data = random.Random(3).randbytes(20_000_000)
    with connect(served.echo[0]) as slow, connect(served.echo[1]) as other:
        for _ in range(UPGRADES):
            taken = fill(slow, other, data)
            one = served.ask("upgrade")
            assert one.returncode == 0, one
            assert receive(slow, taken) == data[:taken]
