"""A daemon that is told to stop ends in time, whatever a protocol does to the thread that all runs in."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Serve
from tests.end_to_end.harness import SOCKD, Daemon, distribution, receive

MODULE = '''
"""Answers `ok`, then does for ever what the line asks for; or does it as soon as it is drained."""

import atexit
import ctypes
import multiprocessing
import os
import threading
import time

from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread

from sockd.protocols import contract


def loop():
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass


def wait():
    threading.Event().wait()


def call():
    mutex = ctypes.create_string_buffer(64)
    lock = ctypes.CDLL(None).pthread_mutex_lock
    lock(mutex)
    lock(mutex)  # a call of C that no signal interrupts


def count():
    sum(range(10**14))  # C that doesn't let go of Python's lock


def pool():
    """More than the reactor's pool has threads for."""
    for _ in range(15):
        deferToThread(time.sleep, 20)


def thread():
    threading.Thread(target=time.sleep, args=(20,)).start()


def at_exit():
    atexit.register(time.sleep, 20)


def silent():
    os.closerange(0, 1024)
    time.sleep(20)


def child():
    multiprocessing.get_context("fork").Process(target=silent).start()


class Stream(Protocol):
    def dataReceived(self, data):
        self.what, _, when = data.decode().strip().partition(" ")
        self.transport.write(b"ok")
        if not when:
            self.factory.reactor.callLater(0, globals()[self.what])

    def drain(self):
        globals()[self.what]()


def stream(host):
    factory = Factory.forProtocol(Stream)
    factory.reactor = host.reactor
    return factory


specification = contract.Specification(summary="never returns", stream=stream)
'''
DRAIN = 0.3
FILE = f"""
daemon: {{log: {{format: json}}, drain: {DRAIN * 1000:.0f}ms}}
endpoints:
  stuck: {{listen: ['tcp://127.0.0.1:0'], protocol: stuck}}
"""


@pytest.fixture
def environment(directory: Path) -> dict[str, str]:
    return distribution(directory, "stuck", "stuck_protocol:specification", MODULE)


def stuck(daemon: Daemon, what: str) -> None:
    """Let it be caught in its protocol: it answers nothing any more."""
    with daemon.connect("stuck") as one:
        one.sendall(what.encode())
        assert receive(one, 2) == b"ok"


@pytest.mark.parametrize("what", ["wait", "call"])
def test_a_method_that_never_returns(serve: Serve, environment: dict[str, str], what: str) -> None:
    """The process ends by the deadline, with a status that says so, and names the function."""
    daemon = serve(FILE, door=SOCKD, environment=environment, tracebacks=True)
    stuck(daemon, what)
    assert daemon.stop() == 70
    (event,) = [each for each in daemon.events if each.get("event") == "forced"]
    assert f"asked to stop, {what} is still running (" in event["message"]
    assert "stuck_protocol.py:" in event["message"]
    assert DRAIN < float(event["message"].partition("s after")[0]) < DRAIN + 2


def test_asked_twice(serve: Serve, environment: dict[str, str]) -> None:
    """The second request is none that a protocol could ignore, and `daemon.drain` doesn't matter."""
    daemon = serve(FILE.replace("300ms", "10m"), door=SOCKD, environment=environment, tracebacks=True)
    stuck(daemon, "loop")
    daemon.signal(signal.SIGTERM)
    assert daemon.stop(signal.SIGINT) == 70
    (event,) = [each for each in daemon.events if each.get("event") == "forced"]
    assert "asked again to stop, loop is still running (" in event["message"]


def test_python_itself_held(serve: Serve, environment: dict[str, str]) -> None:
    """Where C keeps Python's lock after the first signal, C ends the process, and shows where it was."""
    daemon = serve(FILE, door=SOCKD, environment=environment, tracebacks=True)
    with daemon.connect("stuck") as one:
        one.sendall(b"count later")
        assert receive(one, 2) == b"ok"
        assert daemon.stop() == 1
    assert "stuck_protocol.py" in daemon.text


def test_at_the_start(serve: Serve, directory: Path) -> None:
    """Also where it hasn't come to serve, because a protocol is built for ever."""
    module = MODULE.replace(
        "def stream(host):", "def stream(host):\n    print('begun', flush=True)\n    wait()"
    )
    environment = distribution(directory, "stuck", "stuck_protocol:specification", module)
    daemon = serve(FILE, door=SOCKD, environment=environment, wait=False, tracebacks=True)
    daemon.expect("begun")
    assert daemon.stop() == 70


@pytest.mark.parametrize("what", ["pool", "thread", "at_exit", "child"])
def test_nobodys_threads_are_waited_for(serve: Serve, environment: dict[str, str], what: str) -> None:
    """Those of hosted code go on for 20 s: a reload isn't kept, and a stop ends in order, in its time."""
    daemon = serve(FILE, door=SOCKD, environment=environment, tracebacks=True)
    stuck(daemon, what)
    daemon.signal(signal.SIGHUP)
    daemon.event("reloaded")
    before = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - before < DRAIN + 2
    assert [event["event"] for event in daemon.events if event.get("event") in ("stopped", "forced")] == (
        ["stopped"] if what == "pool" else ["stopped", "forced"]
    )


def test_what_a_sink_had_not_written_is_logged(
    serve: Serve, environment: dict[str, str], directory: Path
) -> None:
    """The process is ended from outside: lines of line-log are lost, but not in silence."""
    fifo = directory / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    daemon = serve(
        f"{FILE}  applog: {{listen: 'tcp://127.0.0.1:0', protocol: line-log, options: {{path: {fifo}}}}}\n",
        door=SOCKD,
        environment=environment,
        tracebacks=True,
    )
    with daemon.connect("applog") as one:
        one.sendall(b"line\n" * 100_000)
        stuck(daemon, "wait")
        assert daemon.stop() == 70
    assert daemon.event("lost", endpoint="applog")["unwritten"] > 0
    os.close(reader)
