"""A log on a disk that doesn't answer keeps the daemon from nothing: serving, stopping, ending by force."""

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Serve
from tests.end_to_end.harness import Daemon, distribution, events, receive
from tests.end_to_end.programs import BOUND, Process

MODULE = '''
"""Lets write(2) on the log wait until somebody opens the gate, a FIFO; or logs; or does not return."""

import os
import threading

from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger

from sockd.protocols import contract

GATE = os.environ["GATE"]
LOG = os.environ["LOG"]
write = os.write


def hanging(descriptor, data):
    if os.readlink(f"/proc/self/fd/{descriptor}") == LOG:
        with open(GATE, "rb") as gate:
            gate.read()
        os.write = write
    return write(descriptor, data)


def hang():
    os.write = hanging


def flood():
    for number in range(LINES):
        Logger("flood").info("{filler}", filler="x" * 3500, number=number)


def wait():
    threading.Event().wait()


class Stream(Protocol):
    def dataReceived(self, data):
        what = data.decode()
        if what == "wait":
            self.transport.write(b"ok")
            self.factory.reactor.callLater(0, wait)
        else:
            globals()[what]()
            self.transport.write(b"ok")


def stream(host):
    factory = Factory.forProtocol(Stream)
    factory.reactor = host.reactor
    return factory


specification = contract.Specification(summary="has the log hang", stream=stream)
'''
LINES = 1000  # of 2 KB: more than may wait for a disk
DRAIN = 0.3
FILE = """
daemon: {log: {format: json}, drain: 300ms}
endpoints:
  echo: {listen: 'unix://echo.sock', protocol: echo}
  fault: {listen: 'unix://fault.sock', protocol: fault}
"""


@pytest.fixture
def log(directory: Path) -> Path:
    return directory / "sockd.log"


@pytest.fixture
def tail(log: Path, program: Callable[..., Process]) -> Process:
    """Shows the log as it grows."""
    log.touch()
    return program("tail", "-n", "+1", "-f", log)


@pytest.fixture
def daemon(serve: Serve, directory: Path, log: Path, tail: Process) -> Daemon:
    """It serves, and logs to a file."""
    os.mkfifo(directory / "gate")
    environment = distribution(
        directory, "fault", "fault_protocol:specification", MODULE.replace("LINES", str(LINES))
    )
    environment |= {"GATE": str(directory / "gate"), "LOG": str(log)}
    daemon = serve(FILE, f"--logfile={log}", environment=environment, wait=False)
    tail.expect('"serving"')
    return daemon


def asked(daemon: Daemon, endpoint: str, data: bytes) -> bytes:
    """What an endpoint answers on a fresh connection, which then ends, and has a line in the log."""
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(BOUND)
        one.connect(str(daemon.runtime / f"{endpoint}.sock"))
        one.sendall(data)
        return receive(one, 2)


def test_all_goes_on(daemon: Daemon, directory: Path, log: Path, tail: Process) -> None:
    """Connections are served; once the disk answers the log has its lines in order, or says how many not."""
    assert asked(daemon, "fault", b"hang") == b"ok"
    for _ in range(20):
        assert asked(daemon, "echo", b"on") == b"on"
    assert asked(daemon, "fault", b"flood") == b"ok"
    with (directory / "gate").open("wb"):
        pass
    tail.expect('"number": 0,')
    assert asked(daemon, "echo", b"on") == b"on"
    tail.expect("of the log lost: its file didn't answer")
    assert daemon.stop() == 0
    logged = events(log.read_bytes())
    numbers = [one["number"] for one in logged if "number" in one]
    lost = sum(one["lines"] for one in logged if one.get("event") == "log lost")
    assert numbers == [*range(len(numbers))]
    assert LINES <= len(numbers) + lost <= LINES + 2  # the ends of connections may be lost as well


def test_a_stop(daemon: Daemon) -> None:
    """It ends in order, and in its time."""
    assert asked(daemon, "fault", b"hang") == b"ok"
    before = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - before < DRAIN + 2


@pytest.mark.parametrize("hangs", [False, True])
def test_an_end_by_force(daemon: Daemon, log: Path, hangs: bool) -> None:
    """It has its status; a disk that answers has the reason."""
    if hangs:
        assert asked(daemon, "fault", b"hang") == b"ok"
    assert asked(daemon, "fault", b"wait") == b"ok"
    assert daemon.stop(signal.SIGTERM) == 70
    assert [one for one in events(log.read_bytes()) if one.get("event") == "forced"] or hangs
