"""What hosted code logs without saying whose it is: the log names the endpoint, of two of one protocol."""

import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.certificates import made
from tests.end_to_end.harness import SOCKD, Daemon, distribution, events, receive
from tests.end_to_end.programs import BOUND

MODULE = '''
"""Logs, or fails, as it is asked: a way and a mark."""

import gc
from twisted.internet import reactor, threads
from twisted.internet.defer import Deferred, fail, inlineCallbacks
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python import log

from sockd.api import DatagramProtocol, Specification

gc.disable()


class Ways:
    log = Logger(namespace="mine")

    def do(self, way, mark):
        getattr(self, way)(mark)

    def collect(self, mark):
        gc.collect()

    def msg(self, mark):
        log.msg(mark)

    def twisted(self, mark):
        Logger(namespace="twisted.x").info(mark)

    def mine(self, mark):
        self.log.info(mark)

    def host(self, mark):
        reactor.callLater(0, self.the_host.log.info, mark)

    def err(self, mark):
        log.err(ValueError(mark), "why")

    def fail(self, mark):
        fail(ValueError(mark))

    def raised(self, mark):
        Deferred().addCallback(raises).callback(mark)

    def method(self, mark):
        deferred = Deferred().addCallback(self.raises)
        reactor.callLater(0, deferred.callback, mark)

    def cycle(self, mark):
        deferred = Deferred().addCallback(raises)
        deferred.itself = deferred
        deferred.callback(mark)

    def later(self, mark):
        reactor.callLater(0, self.raises, mark)

    def closure(self, mark):
        host = self.the_host
        reactor.callLater(0, lambda: raises(mark, host))

    def thread(self, mark):
        reactor.callInThread(reactor.callFromThread, self.raises, mark)

    def in_thread(self, mark):
        threads.deferToThread(self.raises, mark)

    def coroutine(self, mark):
        Deferred.fromCoroutine(self.slow(mark))

    async def slow(self, mark):
        done = Deferred()
        reactor.callLater(0, done.callback, None)
        await done
        raise ValueError(mark)

    def dropped(self, mark):
        self.slow(mark)

    @inlineCallbacks
    def inline(self, mark):
        done = Deferred()
        reactor.callLater(0, done.callback, None)
        yield done
        raise ValueError(mark)

    def lost(self, mark):
        deferred = Deferred()
        deferred.itself = deferred
        deferred.errback(ValueError(mark))

    def anybody(self, mark):
        reactor.callLater(0, raises, mark)

    def raises(self, mark):
        raise ValueError(mark)


def raises(mark, host=None):
    raise ValueError(mark)


class Stream(Ways, Protocol):
    def __init__(self, host):
        self.the_host = host

    def dataReceived(self, data):
        self.do(*data.decode().split())
        self.transport.write(b"+")


class Datagrams(Ways, DatagramProtocol):
    def __init__(self, host):
        self.the_host = host

    def datagram(self, data, peer):
        self.do(*data.decode().split())
        self.transport.send(b"+", peer)


specification = Specification(
    "logs", stream=lambda host: Factory.forProtocol(lambda: Stream(host)), datagram=Datagrams
)
'''
FILE = """
daemon: {log: {format: json, level: debug}, drain: 500ms}
endpoints:
  one:
    listen: ['tcp://127.0.0.1:0', 'udp://127.0.0.1:0', 'unix://one.socket', 'tls://127.0.0.1:0']
    protocol: logs
    tls: {certificate: server.pem, key: server.key}
  two:
    listen: ['tcp://127.0.0.1:0', 'udp://127.0.0.1:0', 'unix://two.socket', 'tls://127.0.0.1:0']
    protocol: logs
    tls: {certificate: server.pem, key: server.key}
"""
KNOWN = (
    "msg", "twisted", "mine", "host", "err", "fail", "raised", "method", "cycle", "later", "closure",
    "thread", "in_thread", "coroutine", "inline",
)  # fmt: skip


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One for all of these tests, as each asks for lines with a mark of its own."""
    directory = tmp_path_factory.mktemp("logs")
    made("localhost").write(directory)
    environment = distribution(directory, "logs", "logs_protocol:specification", MODULE)
    (directory / "sockd.yaml").write_text(FILE)
    daemon = Daemon(directory, directory / "sockd.yaml", SOCKD, environment=environment).serving()
    yield daemon
    daemon.stop()
    daemon.end()


def connected(daemon: Daemon, endpoint: str, kind: str) -> socket.socket:
    if kind != "tls":
        return daemon.connect(endpoint, kind)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection(("127.0.0.1", daemon.port(endpoint, "tls")), BOUND)
    return context.wrap_socket(plain)


def ask(one: socket.socket, way: str, mark: str) -> None:
    one.send(f"{way} {mark}".encode())
    assert receive(one, 1) == b"+"


def logged(daemon: Daemon, mark: str, other: socket.socket) -> dict[str, Any]:
    """The line that has this mark, once it is there; garbage is collected in an event of the `other` one."""
    until = time.monotonic() + BOUND
    while time.monotonic() < until:
        ask(other, "collect", "-")
        for event in events(daemon.output):
            if mark in event["message"]:
                return event
    raise AssertionError(f"no line with {mark}: {daemon.text}")


@pytest.mark.parametrize("kind", ["tcp", "unix", "tls", "udp"])
def test_every_way(daemon: Daemon, kind: str) -> None:
    """Each line has the field `endpoint`, and begins with it, also on a connection that a lane watches."""
    for endpoint, another in (("one", "two"), ("two", "one")):
        other = daemon.connect(another)
        several = [connected(daemon, endpoint, kind) for _ in range(10)]
        for number in (0, 9):
            for way in KNOWN:
                mark = f"{way}-{kind}-{endpoint}-{number}-"
                ask(several[number], way, mark)
                event = logged(daemon, mark, other)
                assert (way, event.get("endpoint")) == (way, endpoint)
                assert event["message"].startswith(f"{endpoint}: ")
        for one in (*several, other):
            one.close()


def test_nobody_can_know(daemon: Daemon) -> None:
    """A timer's call of a mere function shows its package alone: the line names all that it may come from."""
    one = daemon.connect("one")
    ask(one, "anybody", "anybody-")
    event = logged(daemon, "anybody-", one)
    assert "endpoint" not in event
    assert event["message"].startswith("one or two: ")
    one.close()


def test_who_collects_it_is_not_blamed(daemon: Daemon) -> None:
    """A failure without a traceback, collected in an event of another endpoint, is nobody's."""
    one, two = daemon.connect("one"), daemon.connect("two")
    ask(one, "lost", "lost-")
    event = logged(daemon, "lost-", two)
    assert "endpoint" not in event
    assert event["message"].startswith("Traceback")
    one.close()
    two.close()


def test_a_coroutine_that_nobody_awaits(daemon: Daemon) -> None:
    """Python's warning of it names the endpoint too."""
    one = daemon.connect("one")
    ask(one, "dropped", "-")
    event = logged(daemon, "'Ways.slow' was never awaited", one)
    assert (event["endpoint"], event["level"]) == ("one", "warn")
    one.close()


def test_the_announcement(daemon: Daemon) -> None:
    """What Twisted logs before a Deferred's failure names the endpoint too."""
    one = daemon.connect("two")
    ask(one, "raised", "announced-")
    logged(daemon, "announced-", one)
    assert [each for each in daemon.events if each["message"] == "two: Unhandled error in Deferred:"]
    one.close()


def test_what_sockd_says_itself(daemon: Daemon) -> None:
    """Its own lines are as they were."""
    assert all("endpoint" not in each for each in daemon.events if each.get("event") == "serving")
