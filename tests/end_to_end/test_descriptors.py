"""A daemon that has no file descriptors left: it rests, answers on its control socket, logs, and recovers."""

import os
import resource
import signal
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from sockd.base import descriptors
from sockd.transports.acceptor import SHORTAGE_PAUSE
from tests.end_to_end.conftest import Serve, write
from tests.end_to_end.harness import SCRIPTS, SOCKD, Daemon, receive
from tests.end_to_end.programs import BOUND, Process, run

DESCRIPTORS = 96
FILE = """
endpoints:
  echo: {listen: ['tcp://127.0.0.1:0', unix://echo.sock], protocol: echo, limits: {idle: off}}
  log: {listen: unix://log.sock, protocol: line-log, options: {path: app.log}}
"""
TAIL = "/usr/bin/tail"
FOREGROUND = (str(SCRIPTS / "twistd"), "-n", "--pidfile=")


def few() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))


def ask(daemon: Daemon, *command: str) -> str:
    """What the sockd command says; it must be pleased."""
    one = run([*SOCKD, *command, "--control", daemon.runtime / "control.sock"])
    assert one.returncode == 0, one.stderr
    return one.stdout


def open_files(daemon: Daemon) -> int:
    return len(os.listdir(f"/proc/{daemon.pid}/fd"))


def cpu(daemon: Daemon) -> float:
    """Seconds of CPU time that it has used."""
    fields = Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_none_left(serve: Serve, directory: Path) -> None:
    """Newcomers wait and cost nothing, every command is answered, logs are reopened; then all are served."""
    log = directory / "sockd.log"
    daemon = serve(FILE, f"--logfile={log}", door=FOREGROUND, preexec_fn=few, wait=False)
    with ExitStack() as stack:
        tail = Process([TAIL, "-n", "+1", "-F", log])
        stack.callback(tail.end)
        assert f" {DESCRIPTORS} " in tail.expect('"event": "file".*').group().decode()
        port = int(tail.expect(rb"tcp://127.0.0.1:(\d+)").group(1))
        tail.expect('"event": "serving"')
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), BOUND))
            for _ in range(2 * DESCRIPTORS)
        ]
        tail.expect('"event": "short"')
        assert open_files(daemon) == DESCRIPTORS - descriptors.reserved(DESCRIPTORS)
        used, began = cpu(daemon), time.monotonic()
        while time.monotonic() < began + 3 * SHORTAGE_PAUSE:
            told = ask(daemon, "status")
        assert cpu(daemon) - used < (time.monotonic() - began) / 4
        assert "accepting failed" in told
        ask(daemon, "connections")
        ask(daemon, "restart", "log")
        assert "nothing would change" in ask(daemon, "diff")
        ask(daemon, "reload")
        for name in (log, directory / "log" / "app.log"):
            name.rename(f"{name}.1")
        daemon.signal(signal.SIGUSR1)
        tail.expect('"event": "reopened"')
        assert (directory / "log" / "app.log").exists()
        assert open_files(daemon) < DESCRIPTORS - descriptors.reserved(DESCRIPTORS) // 2
        for one in clients:  # in the order in which they came: each that leaves makes room for another
            with one:
                one.sendall(b"hello")
                assert receive(one, 5) == b"hello"
    with socket.create_connection(("127.0.0.1", port), BOUND) as one:
        one.sendall(b"hello")
        assert receive(one, 5) == b"hello"
    assert daemon.stop() == 0
    assert daemon.output == b""


def test_an_upgrade_with_none_left(serve: Serve) -> None:
    """The new program comes to life in a process that has no descriptors, and everybody is still there."""
    daemon = serve(FILE, preexec_fn=few)
    with ExitStack() as stack:
        clients = [stack.enter_context(daemon.connect("echo")) for _ in range(2 * DESCRIPTORS)]
        daemon.event("short", endpoint="echo")
        assert "0 drained" in ask(daemon, "upgrade")
        for one in clients:
            with one:
                one.sendall(b"hello")
                assert receive(one, 5) == b"hello"
    assert daemon.stop() == 0


START = """
import os, resource, signal, sys
from twisted.internet import reactor
from twisted.scripts.twistd import run

def say(when):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    print(when, hard - soft, file=sys.__stdout__, flush=True)

pipe = os.pipe  # the last that Twisted opens before the reactor runs
os.pipe = lambda: (say("starting"), pipe())[1]
reactor.callWhenRunning(lambda: reactor.callLater(0, lambda: (say("running"), signal.raise_signal(15))))
run()
"""


def test_what_the_start_may_have(directory: Path) -> None:
    """All descriptors, Twisted's own start of the reactor included; then some are reserved."""
    place = {name: str(directory) for name in ("RUNTIME_DIRECTORY", "LOGS_DIRECTORY")}
    file = write(directory, FILE)
    arguments = ["-n", "--pidfile=", f"--logfile={directory / 'log'}", "sockd", "-c", str(file)]
    done = run([sys.executable, "-c", START, *arguments], place, preexec_fn=few)
    *starting, running = done.stdout.splitlines()
    assert set(starting) == {"starting 0"}
    assert running == f"running {descriptors.reserved(DESCRIPTORS)}"


def test_control_connections_that_take_the_last(serve: Serve) -> None:
    """Clients that ask nothing take even what is kept back: they don't have long."""
    daemon = serve(FILE, preexec_fn=few)
    with ExitStack() as stack:
        for _ in range(DESCRIPTORS):
            stack.enter_context(daemon.connect("echo"))
        daemon.event("short", endpoint="echo")
        for _ in range(descriptors.reserved(DESCRIPTORS) + 2):
            one = stack.enter_context(socket.socket(socket.AF_UNIX))
            one.settimeout(BOUND)
            one.connect(str(daemon.runtime / "control.sock"))
        assert "accepting failed" in ask(daemon, "status")
    assert daemon.stop() == 0
