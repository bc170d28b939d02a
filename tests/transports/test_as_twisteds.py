"""What protocols do with Twisted's own transports beyond their interfaces, and may do with ours."""

import gc
import json
import socket
import weakref
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IConsumer, IPushProducer, ISystemHandle, ITCPTransport

from sockd.base.peers import Peer
from sockd.transports.connection import Connection
from sockd.transports.flush import Flusher
from sockd.transports.listening import Listening
from sockd.transports.twisted import follow_reactor
from tests.transports.loop import Connect, Loop, Probe, Recorder, tcp_pair


@pytest.mark.parametrize("interface", [ITCPTransport, IPushProducer, IConsumer, ISystemHandle])
def test_interfaces(interface: Any, connect: Connect) -> None:
    """A connection says which of Twisted's interfaces it provides."""
    assert interface.providedBy(connect(Probe()).connection)


def test_attributes_of_the_protocols(connect: Connect) -> None:
    """A protocol may keep something with its transport."""
    connection: Any = connect(Probe()).connection
    connection.session_of_mine = 7
    assert connection.session_of_mine == 7


def test_weak_references() -> None:
    """They end with the connection."""
    loop = Loop()
    ours, theirs = socket.socketpair()
    connection = Connection(ours, Peer.unix(0, 1), Flusher(loop), Recorder(loop), Listening("test"))
    connection.start(Probe())
    reference = weakref.ref(connection)
    assert reference() is connection
    connection.abortConnection()
    theirs.close()
    loop.settle()
    del connection
    gc.collect()
    assert reference() is None


def test_socket(connect: Connect) -> None:
    """`transport.socket` is what many a protocol asks for its options."""
    pair = tcp_pair()
    assert connect(Probe(), pair).connection.socket is pair[0]


def test_reading_is_stopped_and_started(connect: Connect) -> None:
    """By the methods of Twisted's FileDescriptor."""
    exchange = connect(Probe())
    exchange.connection.stopReading()
    exchange.client.send(b"a")
    exchange.loop.settle()
    assert exchange.protocol.data == b""
    exchange.connection.startReading()
    exchange.loop.until(lambda: exchange.protocol.data == b"a")


class Watched(Recorder):
    """Has its connection watched by a reactor that only ever notes what it is asked."""

    def __init__(self, loop: Loop, lane: Any) -> None:
        super().__init__(loop)
        self.watcher = lane

    def lane(self, *, secure: bool) -> Any:
        return self.watcher


@pytest.mark.parametrize("direct", [True, False], ids=["by the reactor", "by a lane"])
def test_the_reactor_is_asked(direct: bool) -> None:
    """`reactor.removeReader(transport)` stops the reading, whoever watches the connection."""
    loop, lane = Loop(), Loop()
    follow_reactor(loop)
    watcher = loop if direct else lane
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    connection = Connection(ours, Peer.unix(0, 1), Flusher(loop), Watched(loop, watcher), Listening("test"))
    protocol = Probe()
    connection.start(protocol)
    assert watcher.readers == {connection}
    loop.removeReader(connection)
    assert (watcher.readers, connection.reading) == (set(), False)
    loop.addReader(connection)
    assert (watcher.readers, connection.reading) == ({connection}, True)
    loop.removeReader(connection)
    connection.abortConnection()
    theirs.close()
    loop.settle()
    loop.addReader(connection)
    assert not loop.readers | lane.readers
    other: Any = socket.socket()
    loop.addReader(other)
    assert loop.readers == {other}
    loop.removeReader(other)
    other.close()


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_the_address_that_a_proxy_names(host: str, connect: Connect) -> None:
    """getHost is where the client has connected to, in another program too."""
    exchange = connect(Probe(), tcp_pair())
    connection = exchange.connection
    connection.destination = host, 80
    kind = IPv6Address if ":" in host else IPv4Address
    assert connection.getHost() == kind("TCP", host, 80)
    frozen = json.loads(json.dumps({**connection.hand_over(), "unsent": "", "rest": ""}))
    other = Connection.take_over(frozen, connection.sock, exchange.turn, exchange.owner, Listening("test"))
    assert other.getHost() == kind("TCP", host, 80)
