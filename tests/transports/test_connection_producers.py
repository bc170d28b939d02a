"""Producers, both kinds, as Twisted's protocols register them with their transport."""

from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPullProducer, IPushProducer
from twisted.protocols.portforward import Proxy
from twisted.python.failure import Failure
from zope.interface import implementer

from sockd.base.metrics import End
from sockd.transports.fields import HIGH_WATER
from tests.transports.loop import Connect, Probe, broken, echo, ended, small_buffers


@implementer(IPushProducer)
class Push:
    """Writes until it is paused, in one call, as push producers do."""

    def __init__(self, transport: Any, pieces: int) -> None:
        self.transport = transport
        self.left = pieces
        self.paused = False
        self.stopped = 0

    def resumeProducing(self) -> None:
        self.paused = False
        while not self.paused and self.left:
            self.left -= 1
            self.transport.write(bytes(10_000))

    def pauseProducing(self) -> None:
        self.paused = True

    def stopProducing(self) -> None:
        self.stopped += 1


@implementer(IPullProducer)
class Pull:
    """Writes one piece each time it is asked, then unregisters; `end` is what it does after that."""

    def __init__(self, transport: Any, pieces: int) -> None:
        self.transport = transport
        self.left = pieces
        self.stopped = 0

    def resumeProducing(self) -> None:
        if self.left:
            self.left -= 1
            self.transport.write(b"piece")
        else:
            self.transport.unregisterProducer()

    def stopProducing(self) -> None:
        self.stopped += 1


def test_push_producer_is_paused(connect: Connect) -> None:
    """One that writes in a loop is paused little above HIGH_WATER, and resumed when that has gone."""
    exchange = connect(Probe(), small_buffers())
    producer = Push(exchange.connection, 100)
    exchange.connection.registerProducer(producer, True)
    producer.resumeProducing()
    assert producer.paused
    assert HIGH_WATER < exchange.connection.unsent <= HIGH_WATER + 10_000
    assert len(exchange.received()) == 1_000_000
    assert not producer.left
    assert not producer.paused
    assert exchange.connection.connected


def test_push_producer_registered_late(connect: Connect) -> None:
    """Registering while much is owed pauses at once."""
    exchange = connect(Probe(), small_buffers())
    exchange.connection.write(bytes(4 * HIGH_WATER))
    exchange.loop.turn()
    producer = Push(exchange.connection, 1)
    exchange.connection.registerProducer(producer, True)
    assert producer.paused
    assert len(exchange.received()) == 4 * HIGH_WATER + 10_000
    assert not producer.paused


def test_transport_as_its_own_producer(connect: Connect) -> None:
    """The idiom for echoing with bounded memory: the peer's FIN ends it though nobody unregisters."""
    exchange = connect(Probe(echo, on_made=lambda p: p.transport.registerProducer(p.transport, True)))
    exchange.client.send(b"data")
    assert exchange.received() == b"data"
    exchange.client.close()
    exchange.loop.settle()
    assert ended(exchange.protocol)
    assert exchange.owner.ends == [End.PEER]


def test_own_producer_with_much_owed(connect: Connect) -> None:
    """The same when the FIN comes while it is paused: everything goes out, then it ends."""
    exchange = connect(Probe(), small_buffers())
    exchange.connection.registerProducer(exchange.connection, True)
    exchange.connection.write(bytes(4 * HIGH_WATER))
    exchange.loop.turn()
    assert exchange.connection.paused
    exchange.connection.loseConnection()
    assert len(exchange.received()) == 4 * HIGH_WATER
    exchange.client.close()
    exchange.loop.settle()
    assert ended(exchange.protocol)


def test_twins_close_each_other(connect: Connect) -> None:
    """Twisted's port forwarder registers each side as the other's producer, and still closes."""
    one, other = Proxy(), Proxy()
    sides: Any = connect(one), connect(other)
    one.setPeer(other)
    other.setPeer(one)
    for proxy, twin in ((one, other), (other, one)):
        transport: Any = proxy.transport
        transport.registerProducer(twin.transport, True)
    sides[0].client.send(b"through")
    sides[0].loop.settle()
    assert sides[1].received() == b"through"
    sides[0].client.close()
    sides[0].loop.settle()
    sides[1].loop.settle()
    assert sides[1].connection.lingering
    assert sides[1].client.recv(1) == b""


def test_pull_producer(connect: Connect) -> None:
    """It is asked each time everything has gone, until it unregisters; then what was asked for happens."""
    exchange = connect(Probe())
    producer = Pull(exchange.connection, 3)
    exchange.connection.registerProducer(producer, False)
    exchange.connection.loseConnection()
    assert exchange.received() == b"piece" * 3
    assert exchange.connection.lingering
    assert exchange.connection not in exchange.loop.writers


def test_idle_pull_producer_costs_nothing(connect: Connect) -> None:
    """One that has nothing to write when asked isn't asked over and over, but after the next write."""
    exchange = connect(Probe())
    producer = Pull(exchange.connection, 0)
    asked = []
    producer.resumeProducing = lambda: asked.append(True)  # type: ignore[method-assign]
    exchange.connection.registerProducer(producer, False)
    exchange.loop.settle()
    assert len(asked) == 1
    exchange.connection.write(b"late")
    assert exchange.received() == b"late"
    assert len(asked) == 2


def test_pull_producer_may_outlast_the_peers_fin(connect: Connect) -> None:
    """A client that half-closes after its request still gets the whole answer."""
    exchange = connect(Probe())
    producer = Pull(exchange.connection, 5)
    exchange.connection.registerProducer(producer, False)
    exchange.client.shutdown(1)
    assert exchange.received() == b"piece" * 5
    assert ended(exchange.protocol)
    assert exchange.owner.ends == [End.PEER]


def test_unregistering_late_finishes(connect: Connect) -> None:
    """loseConnection waits for a producer that still has to give; unregistering lets it happen."""
    exchange = connect(Probe())
    producer = Pull(exchange.connection, 0)
    producer.resumeProducing = lambda: None  # type: ignore[method-assign]
    exchange.connection.registerProducer(producer, False)
    exchange.connection.loseConnection()
    exchange.loop.settle()
    assert not exchange.connection.lingering
    exchange.connection.unregisterProducer()
    exchange.loop.settle()
    assert exchange.connection.lingering


def test_one_producer_at_a_time(connect: Connect) -> None:
    """A second one is refused, and leaves the first in place."""
    exchange = connect(Probe())
    first = Push(exchange.connection, 0)
    exchange.connection.registerProducer(first, True)
    with pytest.raises(RuntimeError, match="never unregistered"):
        exchange.connection.registerProducer(Push(exchange.connection, 0), True)
    exchange.connection.unregisterProducer()
    exchange.connection.registerProducer(first, True)
    exchange.client.close()
    exchange.loop.settle()
    assert first.stopped == 1


def test_producer_of_a_lost_connection(connect: Connect) -> None:
    """It is told to stop at once."""
    exchange = connect(Probe())
    exchange.connection.connectionLost(Failure(ConnectionDone()))
    producer = Push(exchange.connection, 0)
    exchange.connection.registerProducer(producer, True)
    assert producer.stopped == 1


@pytest.mark.parametrize("method", ["pauseProducing", "resumeProducing", "stopProducing"])
def test_faulty_producer(method: str, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that raises costs its connection, nobody else anything."""
    exchange = connect(Probe(), small_buffers())
    producer = Push(exchange.connection, 0)
    monkeypatch.setattr(producer, method, broken)
    exchange.connection.registerProducer(producer, True)
    exchange.connection.write(bytes(4 * HIGH_WATER))
    if method == "stopProducing":
        exchange.connection.abortConnection()
    exchange.received()
    assert exchange.owner.failures == [method]
    assert exchange.owner.ends == [End.DONE if method == "stopProducing" else End.FAILED]
    assert len(exchange.protocol.lost) == 1
