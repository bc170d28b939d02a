"""A protocol that lacks or breaks what it should have: the daemon drains, upgrades and stops all the same."""

import contextlib
import signal
import socket
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Serve
from tests.end_to_end.harness import SOCKD, Daemon, distribution, receive, receive_all
from tests.end_to_end.programs import run

MODULE = '''
"""Does what the first line asks for, and answers `ok`."""

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory

from sockd.protocols import contract


class Odd:
    """A producer that raises for whatever it is asked."""

    def __getattr__(self, name):
        raise SystemExit(name)


class Stream(Protocol):
    state = "ok"

    def dataReceived(self, data):
        what = data.decode().strip()
        if what in ("bare", "odd"):
            self.transport.registerProducer(object() if what == "bare" else Odd(), True)
        elif what == "pull":
            self.transport.registerProducer(object(), False)
        elif what == "deferred":
            self.state = Deferred()
        elif what.isdigit():
            self.transport.write(bytes(int(what) * 2**20))
        else:
            self.state = what
        self.transport.write(b"ok")

    def freeze(self):
        if self.state == "broken":
            raise KeyError("no state")
        return self.state

    def thaw(self, state):
        self.state = state

    def __del__(self):
        if self.state == "clinging":
            raise SystemExit("clinging")

    def last_word(self, reason):
        self.transport.write(reason.encode())
        raise GeneratorExit


class Service:
    """Its stop never ends, and can't be cancelled."""

    def startService(self):
        pass

    def stopService(self):
        return Deferred(lambda _: (_ for _ in ()).throw(SystemExit()))


def stream(host):
    factory = Factory.forProtocol(Stream)
    return WrappingFactory(factory) if host.endpoint == "wrapped" else factory


specification = contract.Specification(
    summary="odd", stream=stream, datagram=lambda host: object(), service=lambda host: Service()
)
'''
FILE = """
daemon: {log: {format: json}, drain: 500ms}
endpoints:
  odd: {listen: ['tcp://127.0.0.1:0', 'udp://127.0.0.1:0'], protocol: odd, limits: {unsent: 4KiB}}
  wrapped: {listen: ['tcp://127.0.0.1:0'], protocol: odd}
"""


@pytest.fixture
def daemon(serve: Serve, directory: Path) -> Daemon:
    environment = distribution(directory, "odd", "odd_protocol:specification", MODULE)
    return serve(FILE, door=SOCKD, environment=environment, tracebacks=True)


def asked(daemon: Daemon, what: str, endpoint: str = "odd") -> socket.socket:
    """A connection whose protocol has done this."""
    one = daemon.connect(endpoint)
    one.sendall(what.encode())
    assert receive(one, 2) == b"ok"
    return one


def test_it_stops(daemon: Daemon) -> None:
    """With peers that have left or stay, and a service that never stops: by the deadline, with status 0."""
    for what in ("bare", "odd", "pull"):
        asked(daemon, what).close()
        daemon.event("connection ended", end="protocol failed" if what == "pull" else "peer closed")
    asked(daemon, "clinging").close()
    daemon.event("protocol failed", where="Stream.__del__")
    stays = [asked(daemon, what) for what in ("bare", "odd")]
    assert daemon.stop() == 0
    for one in stays:
        with one, contextlib.suppress(ConnectionResetError):
            assert receive_all(one) in (b"drained", b"closed by sockd")


def test_it_is_upgraded(daemon: Daemon) -> None:
    """Connections that can't give their state are named and drain; the others go on with theirs."""
    kept = asked(daemon, "kept")
    lost = [asked(daemon, "broken"), asked(daemon, "deferred")]
    wrapped = asked(daemon, "wrapped", "wrapped")
    one = run([*SOCKD, "upgrade", "--control", daemon.runtime / "control.sock"])
    assert one.returncode == 0, one
    for client in lost:
        with client, contextlib.suppress(ConnectionResetError):
            assert receive_all(client) == b"drained"
    whys = [event["why"] for event in daemon.events if event.get("event") == "not handed over"]
    assert len(whys) == 2
    assert whys[0].startswith("KeyError: 'no state'")
    assert "type Deferred" in whys[1]
    for client in (kept, wrapped):
        with client:
            client.sendall(b"again")
            assert receive(client, 2) == b"ok"


def test_a_long_answer(daemon: Daemon) -> None:
    """A peer that reads gets all of it, whatever `limits.unsent` is."""
    with daemon.connect("odd") as one:
        one.sendall(b"20")
        assert len(receive(one, 20 * 2**20 + 2)) == 20 * 2**20 + 2
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
