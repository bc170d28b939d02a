"""Whatever the surroundings refuse: sockd works without it, or says in one line what is missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end import refusing
from tests.end_to_end.conftest import Serve
from tests.end_to_end.harness import JSON_LOG, ROOT, SOCKD, Daemon, receive
from tests.end_to_end.programs import run
from tests.end_to_end.traffic import until

ALL = """
daemon: {log: {format: json}}
endpoints:
  echo: {listen: ['tcp://127.0.0.1:0', 'udp://127.0.0.1:0', 'unix://echo.sock'], protocol: echo}
  log: {listen: ['unix://log.sock'], protocol: line-log, options: {path: app.log}, socket: {group: 7}}
"""
# Calls that sockd makes use of and can do without.
REFUSED = (
    "madvise,memfd_create,prlimit64,timerfd_settime,fchmod,chmod,fchmodat,fchown,recvmmsg,sendmmsg,"
    "setfsuid,setfsgid"
)


def echoed(daemon: Daemon, kind: str) -> bool:
    with daemon.connect("echo", kind) as one:
        one.sendall(b"hello")
        return receive(one, 5) == b"hello"


@pytest.mark.skipif(refusing.load() is None, reason="libseccomp is not installed")
def test_refused_system_calls(serve: Serve) -> None:
    """Everything works all the same, an upgrade too."""
    door = (sys.executable, refusing.__file__, REFUSED, *SOCKD)
    daemon = serve(ALL, door=door)
    control = ["--control", str(daemon.runtime / "control.sock")]
    assert run([*SOCKD, "upgrade", *control]).returncode == 0
    assert [echoed(daemon, kind) for kind in ("tcp", "udp", "unix")] == [True] * 3
    with daemon.connect("log", "unix") as one:
        one.sendall(b"hello\n")
    assert daemon.stop() == 0
    assert (daemon.logs / "app.log").read_text().endswith(" hello\n")


@pytest.mark.skipif(refusing.load() is None, reason="libseccomp is not installed")
def test_without_epoll() -> None:
    """It can't run: one line, and the status of a system that lacks something."""
    one = run([sys.executable, refusing.__file__, "epoll_create1", *SOCKD, "run"])
    assert one.returncode == 71
    assert one.stdout + one.stderr == (
        "sockd's reactor, which needs epoll(7) and pipes, can't be made: Operation not permitted\n"
    )


def test_closed_standard_streams(directory: Path) -> None:
    """No client gets what is written to the log: nothing else takes the number of standard output."""
    (directory / "run").mkdir()
    file = directory / "sockd.yaml"
    file.write_text(JSON_LOG + "endpoints: {echo: {listen: 'unix://echo.sock', protocol: echo}}\n")
    environment = {**os.environ, "RUNTIME_DIRECTORY": str(directory / "run"), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *SOCKD, "run", "-c", str(file)], env=environment
    ) as one:
        try:
            control = ["--control", str(directory / "run" / "control.sock")]
            until(lambda: run([*SOCKD, "status", *control]).returncode == 0)
            for number in range(3):
                assert os.readlink(f"/proc/{one.pid}/fd/{number}") == "/dev/null"
        finally:
            one.terminate()
    assert one.returncode == 0
