"""The last word: a protocol says why sockd ends its connection, and the peer reads it."""

import socket
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from twisted.internet.protocol import Factory
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory

from sockd.base.metrics import End
from sockd.transports.fields import HIGH_WATER
from tests.transports.loop import Connect, Exchange, Probe, broken, small_buffers, tcp_pair
from tests.transports.test_tls import Link

PAIRS = {"tcp": tcp_pair, "unix": socket.socketpair}
ENDS: list[Callable[[Any], None]] = [
    lambda connection: connection.dismiss(End.LIFETIME),
    lambda connection: connection.cut(End.LIFETIME),
]


class Polite(Probe):
    """Says the reason; `then` is what it does after that."""

    def __init__(self, then: Callable[[Any], object] | None = None) -> None:
        super().__init__()
        self.reasons: list[str] = []
        self._then = then

    def last_word(self, reason: str) -> None:
        self.reasons.append(reason)
        self.transport.write(b"closed: " + reason.encode())
        if self._then is not None:
            self._then(self.transport)


def heard(exchange: Exchange) -> bytes:
    """What the client reads up to the end, which has to be an orderly one."""
    exchange.loop.settle()
    got = b""
    while data := exchange.client.recv(100_000):
        got += data
    return got


@pytest.mark.parametrize("ends", ENDS, ids=["in order", "at once"])
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_the_peer_reads_the_reason(connect: Connect, pair: Any, ends: Callable[[Any], None]) -> None:
    """However sockd ends the connection, the word arrives whole and is followed by an orderly end."""
    exchange = connect(Polite(), pair())
    exchange.client.send(b"something that nobody has read yet")
    ends(exchange.connection)
    assert heard(exchange) == b"closed: lifetime over"
    exchange.client.close()
    exchange.loop.settle()
    assert exchange.owner.ends == [End.LIFETIME]
    assert exchange.protocol.reasons == ["lifetime over"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("ends", ENDS, ids=["in order", "at once"])
def test_over_tls(ends: Callable[[Any], None]) -> None:
    """It is encrypted like all else, and a close_notify follows."""
    with closing(Link(Polite())) as link:
        link.shaken()
        ends(link.connection)
        link.until(lambda: link.client.closed)
        assert link.client.data == b"closed: lifetime over"


@pytest.mark.parametrize("ends", ENDS, ids=["in order", "at once"])
@pytest.mark.parametrize(
    "then",
    [
        lambda transport: transport.loseConnection(),
        lambda transport: transport.abortConnection(),
        lambda transport: transport.cut(End.SLOW),
        lambda transport: transport.dismiss(End.IDLE),
        lambda transport: transport.write(bytes(20_000_000)),
        lambda transport: transport.pauseProducing(),
        broken,
    ],
)
def test_whatever_it_does(connect: Connect, ends: Any, then: Any) -> None:
    """It is asked once, and the connection ends in any case."""
    exchange = connect(Polite(then), tcp_pair())
    ends(exchange.connection)
    exchange.client.close()
    exchange.loop.until(lambda: exchange.owner.ends)
    assert exchange.protocol.reasons == ["lifetime over"]  # type: ignore[attr-defined]
    assert exchange.owner.failures == (["last_word"] if then is broken else [])
    assert len(exchange.protocol.lost) == 1


def test_said_before_it_closes_itself(connect: Connect) -> None:
    """A protocol that ends its connection has nothing to be asked."""
    exchange = connect(Polite())
    exchange.connection.loseConnection()
    exchange.connection.cut(End.CUT)
    exchange.loop.settle()
    assert exchange.protocol.reasons == []  # type: ignore[attr-defined]


def test_a_peer_that_takes_nothing(connect: Connect) -> None:
    """Nothing waits for it: the connection is reset, with what is unsent."""
    exchange = connect(Polite(), small_buffers())
    exchange.connection.write(bytes(4 * HIGH_WATER))
    exchange.loop.turn()
    exchange.connection.cut(End.STALLED)
    exchange.loop.settle()
    assert exchange.owner.ends == [End.STALLED]


def test_an_answer_that_has_begun(connect: Connect) -> None:
    """What was written before leaves before it."""
    exchange = connect(Polite(), tcp_pair())
    exchange.connection.write(b"half an ans")
    exchange.connection.cut(End.KICKED)
    assert heard(exchange) == b"half an ansclosed: kicked"


class Mirror(Probe):
    """Raises for whatever it doesn't have."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


@pytest.mark.parametrize("ends", ENDS, ids=["in order", "at once"])
def test_without_one(connect: Connect, ends: Any) -> None:
    """A wrapper finds nothing of the transport's, and what raises for the name costs nothing but a line."""
    wrapped = Probe()
    wrapper = ProtocolWrapper(WrappingFactory(Factory()), wrapped)
    for protocol, failures in ((wrapper, []), (Mirror(), ["last_word"])):
        exchange = connect(protocol)
        ends(exchange.connection)
        exchange.client.close()
        exchange.loop.settle()
        assert exchange.owner.ends == [End.LIFETIME]
        assert exchange.owner.failures == failures
