"""An upgrade of a real daemon in whose surroundings something went missing, or looks odd."""

import json
import shutil
from pathlib import Path
from typing import Any

from tests.end_to_end.conftest import Serve
from tests.end_to_end.harness import SOCKD, Daemon
from tests.end_to_end.programs import run
from tests.end_to_end.traffic import until

ECHO = """
daemon: {log: {format: json}}
endpoints: {echo: {listen: ['unix://echo.sock'], protocol: echo}}
"""


def upgraded(daemon: Daemon) -> dict[str, Any]:
    """Have it upgraded; its status afterwards, which is that of the same process."""
    control: list[str | Path] = ["--control", daemon.runtime / "control.sock"]
    one = run([*SOCKD, "upgrade", *control])
    assert one.returncode == 0, one
    status: dict[str, Any] = json.loads(run([*SOCKD, "status", "--json", *control]).stdout)
    assert status["pid"] == daemon.pid
    assert status["upgrade"]["ok"]
    return status


def test_the_logs_directory_is_gone(serve: Serve, directory: Path) -> None:
    """The log that is open goes on: it may be impossible to open it again."""
    logs = directory / "logs"
    logs.mkdir()
    daemon = serve(ECHO, f"--logfile={logs}/sockd.log", wait=False)
    with (logs / "sockd.log").open("a+") as kept:
        until(lambda: "serving" in (logs / "sockd.log").read_text())
        shutil.rmtree(logs)
        upgraded(daemon)
        upgraded(daemon)
        kept.seek(0)
        assert kept.read().count('"event": "upgraded"') == 2
    assert daemon.stop() == 0


def test_the_working_directory_is_gone(serve: Serve, directory: Path) -> None:
    """Nothing is relative to it."""
    here = directory / "gone"
    here.mkdir()
    daemon = serve(ECHO, f"--rundir={here}")
    here.rmdir()
    upgraded(daemon)


def test_the_name_stays(serve: Serve) -> None:
    """ps and pgrep find it as before."""
    daemon = serve(ECHO)
    comm = Path(f"/proc/{daemon.pid}/comm")
    before = comm.read_text()
    upgraded(daemon)
    assert comm.read_text() == before
