"""Whatever a protocol or a producer lacks or raises, its connection ends when it is to end."""

import socket
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.interfaces import IHalfCloseableProtocol
from zope.interface import directlyProvides

from sockd.base.metrics import End
from sockd.transports.fields import HIGH_WATER
from tests.transports.loop import Connect, Exchange, Probe, small_buffers

RAISED: list[type[BaseException]] = [RuntimeError, SystemExit, KeyboardInterrupt, GeneratorExit]


def raising(error: type[BaseException]) -> Any:
    """An object that raises for every attribute, and when it is compared, hashed, tested or shown."""

    def fail(*_: object) -> Any:
        raise error

    special = ("__getattribute__", "__eq__", "__hash__", "__bool__", "__repr__", "__len__")
    return type("Raising", (), dict.fromkeys(special, fail))()


def failing(error: type[BaseException]) -> Any:
    """A producer whose methods raise."""

    def fail(*_: object) -> Any:
        raise error

    methods = ("pauseProducing", "resumeProducing", "stopProducing")
    return type("Failing", (), dict.fromkeys(methods, fail))()


def bare(_: type[BaseException]) -> Any:
    """An object that has nothing."""
    return object()


def missing(_: type[BaseException]) -> Any:
    """Not even an object of its own."""
    return 7


def cut(exchange: Exchange) -> None:
    exchange.connection.cut(End.CUT)


def dismissed(exchange: Exchange) -> None:
    exchange.connection.dismiss(End.DRAINED)


def peer_leaves(exchange: Exchange) -> None:
    exchange.client.close()


def peer_resets(exchange: Exchange) -> None:
    exchange.connection.peer_left(reset=True)


def protocol_closes(exchange: Exchange) -> None:
    exchange.connection.loseConnection()


def protocol_takes_the_socket(exchange: Exchange) -> None:
    exchange.connection.getHandle().close()
    exchange.connection.cut(End.CUT)


ENDS = [cut, dismissed, peer_leaves, peer_resets, protocol_closes, protocol_takes_the_socket]


def end(exchange: Exchange, how: Callable[[Exchange], None]) -> None:
    """It ends in this way, or else by the deadlines of the sweep, which cut it; and once."""
    how(exchange)
    exchange.client.close()
    exchange.loop.settle()
    if exchange.owner.ends == []:  # a producer is waited for; its peer's time is limited by the sweep
        exchange.connection.cut(End.CUT)
        exchange.loop.settle()
    assert len(exchange.owner.ends) == 1
    assert not exchange.connection.connected
    assert not exchange.loop.readers | exchange.loop.writers


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("error", RAISED)
@pytest.mark.parametrize("kind", [bare, failing, raising])
def test_producers(connect: Connect, kind: Any, error: Any, streaming: bool, how: Any) -> None:
    """A producer without methods, or one that raises, costs its connection and is logged."""
    exchange = connect(Probe(), small_buffers())
    exchange.connection.registerProducer(kind(error), streaming)
    exchange.connection.write(bytes(2 * HIGH_WATER))
    end(exchange, how)
    assert len(exchange.protocol.lost) == 1


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("error", RAISED)
@pytest.mark.parametrize("kind", [bare, missing, raising])
def test_rubbish_for_a_protocol(connect: Connect, kind: Any, error: Any, how: Any) -> None:
    """What a factory returns may be anything."""
    end(connect(kind(error)), how)


class Odd(Probe):
    """Raises for whatever it doesn't have, as sloppy proxies do."""

    def __getattr__(self, name: str) -> Any:
        raise SystemExit(name)


@pytest.mark.parametrize("how", ENDS)
def test_attributes_that_raise(connect: Connect, how: Any) -> None:
    """zope and sockd ask for attributes that only some protocols have."""
    exchange = connect(Odd())
    exchange.client.send(b"data")
    exchange.loop.settle()
    end(exchange, how)
    assert exchange.protocol.data == b"data"
    assert len(exchange.protocol.lost) == 1


@pytest.mark.parametrize("how", [lambda one: one.client.shutdown(socket.SHUT_WR), *ENDS])
def test_half_closeable_by_name_only(connect: Connect, how: Any) -> None:
    """A missing method costs the connection."""
    probe = Probe()
    directlyProvides(probe, IHalfCloseableProtocol)
    exchange = connect(probe)
    exchange.connection.loseWriteConnection()
    end(exchange, how)


def test_a_producer_after_the_end(connect: Connect) -> None:
    """Registering with a lost connection raises nothing at the protocol, whatever the producer lacks."""
    exchange = connect(Probe())
    exchange.connection.abortConnection()
    exchange.loop.settle()
    exchange.connection.registerProducer(object(), True)
    assert exchange.owner.failures == ["stopProducing"]
