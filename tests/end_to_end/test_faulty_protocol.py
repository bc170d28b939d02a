"""A third party's protocol that raises, wherever it may, disturbs no other endpoint."""

import contextlib
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Serve
from tests.end_to_end.harness import Daemon, distribution, receive, receive_all

MODULE = '''
"""Answers `ok`, and raises at the place its option names."""

from twisted.internet.protocol import Factory, Protocol

from sockd.config.types import Text
from sockd.protocols import contract


class Options(contract.Options):
    at: Text


class Fault:
    def __init__(self, host):
        self.host = host

    def reached(self, place):
        if self.host.options.at == place:
            raise RuntimeError(f"fault in {place}")


class Stream(Protocol):
    def connectionMade(self):
        self.factory.fault.reached("connectionMade")

    def dataReceived(self, data):
        if data == b"bad":
            self.factory.fault.reached("dataReceived")
        self.transport.write(b"ok")

    def connectionLost(self, reason):
        self.factory.fault.reached("connectionLost")

    def drain(self):
        self.factory.fault.reached("drain")
        self.transport.loseConnection()


class StreamFactory(Factory):
    protocol = Stream

    def __init__(self, fault):
        self.fault = fault

    def buildProtocol(self, address):
        self.fault.reached("buildProtocol")
        return super().buildProtocol(address)


class Datagrams(contract.DatagramProtocol):
    def __init__(self, fault):
        self.fault = fault

    def start(self, transport):
        super().start(transport)
        self.fault.reached("start")

    def datagrams(self, batch):
        for data, peer in batch:
            if data == b"bad":
                self.fault.reached("datagrams")
            self.transport.send(b"ok", peer)

    def drain(self):
        self.fault.reached("datagram drain")

    def stop(self):
        self.fault.reached("stop")


class Service:
    def __init__(self, fault):
        self.fault = fault
        self.starts = 0

    def startService(self):
        self.starts += 1
        if self.starts == 1:
            self.fault.reached("startService")
            if self.fault.host.options.at == "fail":
                self.fault.host.reactor.callLater(0, self.fault.host.fail, RuntimeError("fault in fail"))

    def stopService(self):
        self.fault.reached("stopService")


specification = contract.Specification(
    summary="raises",
    options=Options,
    stream=lambda host: StreamFactory(Fault(host)),
    datagram=lambda host: Datagrams(Fault(host)),
    service=lambda host: Service(Fault(host)),
)
'''
FILE = """
endpoints:
  faulty:
    listen: ['tcp://127.0.0.1:0', 'udp://127.0.0.1:0']
    protocol: faulty
    options: {at: '%s'}
    restart: {delay: 20ms, max_delay: 100ms}
  fine: {listen: ['tcp://127.0.0.1:0', 'udp://127.0.0.1:0'], protocol: echo}
"""


@pytest.fixture
def environment(directory: Path) -> dict[str, str]:
    return distribution(directory, "faulty", "faulty_protocol:specification", MODULE)


def answered(daemon: Daemon, endpoint: str, kind: str) -> bytes:
    with daemon.connect(endpoint, kind) as one:
        one.sendall(b"ok")
        return receive(one, 2) if kind == "tcp" else one.recv(2)


def bad_stream(daemon: Daemon) -> None:
    """The connection ends; nothing else is promised to this client."""
    with (
        contextlib.suppress(ConnectionResetError, BrokenPipeError),
        daemon.connect("faulty") as one,
    ):
        one.sendall(b"bad")
        receive_all(one)


def bad_datagram(daemon: Daemon) -> None:
    with daemon.connect("faulty", "udp") as one:
        one.send(b"bad")


def nothing(daemon: Daemon) -> None:
    """The fault needs no help."""


@pytest.mark.parametrize(
    ("at", "provoke", "answers"),
    [
        ("nowhere", nothing, ["tcp", "udp"]),
        ("buildProtocol", bad_stream, ["udp"]),
        ("connectionMade", bad_stream, ["udp"]),
        ("dataReceived", bad_stream, ["tcp", "udp"]),
        ("connectionLost", lambda daemon: answered(daemon, "faulty", "tcp"), ["tcp", "udp"]),
        ("datagrams", bad_datagram, ["tcp", "udp"]),
        ("start", nothing, ["tcp"]),
        ("startService", nothing, ["tcp", "udp"]),
        ("fail", nothing, ["tcp", "udp"]),
        ("stopService", nothing, ["tcp", "udp"]),
        ("drain", nothing, ["tcp", "udp"]),
        ("datagram drain", nothing, ["tcp", "udp"]),
        ("stop", nothing, ["tcp", "udp"]),
    ],
)
def test_a_fault_stays_where_it_is(
    serve: Serve,
    environment: dict[str, str],
    at: str,
    provoke: Callable[[Daemon], object],
    answers: list[str],
) -> None:
    """It is logged with its endpoint's name; the endpoint goes on or comes back, the other never notices."""
    daemon = serve(FILE % at, environment=environment, tracebacks=True)
    provoke(daemon)
    for kind in ("tcp", "udp"):
        assert answered(daemon, "fine", kind) == b"ok"
    for kind in answers:
        assert answered(daemon, "faulty", kind) == b"ok"
    still_open = [daemon.connect("faulty")] if "tcp" in answers else []
    daemon.signal(signal.SIGTERM)
    for one in still_open:
        with one, contextlib.suppress(ConnectionResetError):
            receive_all(one)
    assert daemon.wait() == 0
    if at != "nowhere":
        match = daemon.expect(f"^.*fault in {at}.*$").group().decode()
        assert "faulty" in match
    assert not [one for one in daemon.events if one.get("endpoint") == "fine" and one["level"] == "error"]
