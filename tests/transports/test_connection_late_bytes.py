"""What a peer sends once its connection is to end: a protocol that only receives gets it; else it counts."""

import socket
from typing import Any

import pytest

from sockd.base.metrics import End
from sockd.transports.connection import Connection
from tests.transports.loop import Connect, Exchange, Probe, tcp_pair

PAIRS = [socket.socketpair, tcp_pair]


class Receiver(Probe):
    """A Probe that never answers."""

    only_receives = True


def sent(exchange: Exchange, data: bytes) -> None:
    """The client sends, and the kernel has it."""
    exchange.client.sendall(data)


def settled(exchange: Exchange, condition: Any) -> None:
    exchange.loop.until(condition, exchange.client)


def no_more_is_taken(exchange: Exchange) -> bool:
    """Whether the client learns, with one of its next writes, that nothing is received any more."""
    try:
        exchange.client.send(b"never acknowledged")
    except (BrokenPipeError, ConnectionResetError):
        return True
    return False


@pytest.mark.parametrize("pair", PAIRS)
def test_after_our_fin_a_receiver_gets_what_comes(connect: Connect, pair: Any) -> None:
    """Also what the kernel has taken when the linger time is over; then the peer's writes fail."""
    exchange = connect(Receiver(), pair())
    connection, protocol = exchange.connection, exchange.protocol
    connection.close(End.DRAINED)
    settled(exchange, lambda: connection.lingering)
    sent(exchange, b"late\n")
    settled(exchange, lambda: protocol.data == b"late\n")
    sent(exchange, b"later\n")
    connection.linger_expired()
    settled(exchange, lambda: protocol.lost)
    assert protocol.data == b"late\nlater\n"
    assert connection.received == exchange.counters.bytes_in == 11
    assert (connection.dropped, exchange.counters.dropped) == (0, {})
    assert exchange.owner.ends == [End.DRAINED]
    settled(exchange, lambda: no_more_is_taken(exchange))


@pytest.mark.parametrize("pair", PAIRS)
def test_a_receiver_that_has_paused_takes_the_rest_in_its_own_time(connect: Connect, pair: Any) -> None:
    """A full disk keeps the connection after the linger time; nothing more comes, and nothing is lost."""
    exchange = connect(Receiver(), pair())
    connection, protocol = exchange.connection, exchange.protocol
    connection.pauseProducing()
    sent(exchange, b"waits\n")
    connection.close(End.LIFETIME)
    settled(exchange, lambda: connection.lingering)
    sent(exchange, b"and this\n")
    connection.linger_expired()
    connection.linger_expired()  # as each later sweep does
    settled(exchange, lambda: no_more_is_taken(exchange))
    exchange.loop.settle()
    assert not protocol.data
    assert not protocol.lost
    connection.resumeProducing()
    settled(exchange, lambda: protocol.lost)
    assert protocol.data == b"waits\nand this\n"
    assert not connection.dropped


@pytest.mark.parametrize("pair", PAIRS)
def test_any_other_protocol_has_it_counted(connect: Connect, pair: Any) -> None:
    """What is dropped after its end, and what is unread when the linger time is over."""
    exchange = connect(Probe(), pair())
    connection = exchange.connection
    connection.close(End.DONE)
    settled(exchange, lambda: connection.lingering)
    sent(exchange, b"late\n")
    settled(exchange, lambda: connection.dropped == 5)
    sent(exchange, b"unread\n")
    connection.linger_expired()
    exchange.loop.settle()
    assert not exchange.protocol.data
    assert exchange.counters.dropped == {"done": 12}
    assert exchange.counters.bytes_in == 0


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("protocol", [Probe, Receiver])
def test_an_abort_counts_what_was_unread(connect: Connect, pair: Any, protocol: type[Probe]) -> None:
    """Of a peer that was paused: it was acknowledged, and nobody will read it."""
    exchange = connect(protocol(), pair())
    exchange.connection.pauseProducing()
    sent(exchange, b"x" * 1000)
    exchange.connection.cut(End.KICKED)
    exchange.loop.settle()
    assert exchange.counters.dropped == {"kicked": 1000}


@pytest.mark.parametrize("protocol", [Probe, Receiver])
def test_idle_at_the_moment_when_the_peer_speaks(connect: Connect, protocol: type[Probe]) -> None:
    """There is no linger time after `idle`; what has come by then is accounted for all the same."""
    exchange = connect(protocol())
    sent(exchange, b"just now\n")
    exchange.connection.close(End.IDLE)
    exchange.loop.settle()
    assert exchange.protocol.lost
    assert len(exchange.protocol.data) + exchange.counters.dropped["idle"] == 9
    assert bool(exchange.protocol.data) == (protocol is Receiver)


def test_every_acknowledged_byte_of_a_flood(connect: Connect) -> None:
    """Of a client that never ceases: delivered or counted is all that its kernel may forget."""
    exchange = connect(Probe(), tcp_pair())
    client, connection = exchange.client, exchange.connection
    exchange.loop.until(lambda: connection.received > 100_000 or not flood(client))
    connection.cut(End.KICKED)
    flood(client)
    exchange.loop.settle()
    assert not flood(client)
    counted = connection.received + exchange.counters.dropped["kicked"]
    assert counted >= acknowledged(client) > connection.received


def flood(client: socket.socket) -> bool:
    """Send as much as the kernel takes; False once the connection is gone."""
    try:
        while True:
            client.send(b"x" * 65536)
    except BlockingIOError:
        return True
    except (BrokenPipeError, ConnectionResetError):
        return False


def acknowledged(client: socket.socket) -> int:
    """Bytes of this socket's that the other end's kernel has acknowledged (tcpi_bytes_acked, tcp(7))."""
    info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return int.from_bytes(info[120:128], "little")


def test_what_was_dropped_goes_through_an_upgrade(connect: Connect) -> None:
    """The count of a connection that lingers is handed to the next program."""
    exchange = connect(Probe())
    exchange.connection.close(End.DONE)
    exchange.loop.settle()
    sent(exchange, b"late\n")
    exchange.loop.settle()
    frozen = exchange.connection.hand_over()
    sock = exchange.connection.sock.dup()
    after = Connection.take_over(frozen, sock, exchange.turn, exchange.owner, exchange.connection.listener)
    assert after.dropped == 5
    after.resume(Probe(), None)
    after.cut(End.CUT)
    exchange.loop.settle()
