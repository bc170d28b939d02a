"""What a peer sent before it left is delivered, though nobody takes what we write to it."""

import socket
from collections.abc import Callable

import pytest

from sockd.base.metrics import End
from tests.transports.loop import Exchange, Probe

Connect = Callable[..., Exchange]


class Producer:
    """Counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def pauseProducing(self) -> None:
        self.asked.append("pause")

    def resumeProducing(self) -> None:
        self.asked.append("resume")

    def stopProducing(self) -> None:
        self.asked.append("stop")


def test_last_words_are_heard(connect: Connect) -> None:
    """A line and an end, while we write first: the line is delivered, then the end."""
    probe = Probe()
    exchange = connect(probe)
    exchange.client.send(b"last words")
    exchange.client.close()
    exchange.connection.write(b"news for nobody")
    exchange.loop.settle()
    assert probe.data == b"last words"
    assert exchange.owner.ends == [End.PEER]


def test_a_producer_learns_that_nobody_takes_it(connect: Connect) -> None:
    """It is stopped once, and what it writes afterwards goes nowhere."""
    producer = Producer()
    probe = Probe()
    exchange = connect(probe)
    exchange.connection.registerProducer(producer, True)
    exchange.client.send(b"last words")
    exchange.client.close()
    exchange.connection.write(b"news for nobody")
    exchange.loop.settle()
    assert probe.data == b"last words"
    assert producer.asked == ["stop"]


def test_who_is_not_read_from_ends_at_once(connect: Connect) -> None:
    """A protocol that paused reads nothing more: there is nothing to wait for."""
    exchange = connect(Probe())
    exchange.connection.pauseProducing()
    exchange.client.close()
    exchange.connection.write(b"news for nobody")
    exchange.loop.settle()
    assert exchange.owner.ends == [End.RESET]


@pytest.mark.parametrize("streaming", [True, False])
def test_no_producer_after_our_fin(connect: Connect, streaming: bool) -> None:
    """Nothing of it could be sent: it is stopped, and keeps no connection open."""
    exchange = connect(Probe())
    exchange.connection.loseWriteConnection()
    exchange.loop.settle()
    producer = Producer()
    exchange.connection.registerProducer(producer, streaming)
    assert producer.asked == ["stop"]
    exchange.client.shutdown(socket.SHUT_WR)
    exchange.loop.settle()
    assert exchange.owner.ends == [End.PEER]


def test_paused_within_the_same_turn(connect: Connect) -> None:
    """epoll reported it readable together with the event that paused it: nothing is delivered."""
    probe = Probe()
    exchange = connect(probe)
    exchange.client.send(b"early")
    exchange.connection.hold(True)
    exchange.connection.doRead()
    assert probe.data == b""
    exchange.connection.hold(False)
    exchange.loop.settle()
    assert probe.data == b"early"
