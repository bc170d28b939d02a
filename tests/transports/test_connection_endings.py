"""How a connection ends: by whom, with what reason, in which order, and never twice."""

import socket
import struct
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from sockd.base.metrics import End
from sockd.transports.connection import ConnectionCutError
from sockd.transports.fields import HIGH_WATER
from sockd.transports.twisted import twisted_address
from tests.transports.loop import (
    Connect,
    Exchange,
    HalfProbe,
    Probe,
    broken,
    echo,
    ended,
    small_buffers,
    tcp_pair,
)

RESET = struct.pack("ii", 1, 0)


def finish(exchange: Exchange) -> None:
    """The client's FIN."""
    exchange.client.shutdown(socket.SHUT_WR)


def reset(exchange: Exchange) -> None:
    """The client's RST."""
    exchange.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    exchange.client.close()


# -- the peer ends it


def test_peer_closes(connect: Connect) -> None:
    """A FIN ends the connection of a protocol that knows no half-close, once, cleanly."""
    exchange = connect(Probe())
    exchange.client.close()
    exchange.loop.settle()
    assert ended(exchange.protocol)
    assert exchange.owner.ends == [End.PEER]
    assert exchange.connection.disconnected
    assert not exchange.loop.readers | exchange.loop.writers
    assert exchange.connection.sock.fileno() == -1


def test_what_is_owed_goes_out_after_the_peers_fin(connect: Connect) -> None:
    """All that a client sent before its FIN comes back, though it is slow to read."""
    exchange = connect(Probe(echo), small_buffers())
    sent = bytes(range(256)) * 1000
    view = memoryview(sent)
    got = b""
    while view:
        try:
            view = view[exchange.client.send(view) :]
        except BlockingIOError:
            got += exchange.received()
    finish(exchange)
    assert not exchange.protocol.lost
    assert got + exchange.received() == sent
    assert ended(exchange.protocol)
    assert exchange.owner.ends == [End.PEER]


def test_half_close(connect: Connect) -> None:
    """An IHalfCloseableProtocol goes on writing after the peer's FIN until it has had enough."""
    protocol = HalfProbe(lambda p: p.transport.write(b"one"))
    exchange = connect(protocol)
    finish(exchange)
    assert exchange.received() == b"one"
    assert protocol.events == ["read"]
    assert exchange.connection not in exchange.loop.readers
    assert not exchange.connection.paused
    exchange.connection.write(b"two")
    exchange.connection.loseConnection()
    assert exchange.received() == b"two"
    assert ended(protocol)
    assert exchange.owner.ends == [End.DONE]


def test_half_close_of_ours_first(connect: Connect) -> None:
    """After our FIN the peer may go on sending; its FIN ends the connection."""
    protocol = HalfProbe()
    exchange = connect(protocol)
    exchange.connection.write(b"last")
    exchange.connection.loseWriteConnection()
    exchange.connection.loseWriteConnection()
    assert exchange.received() == b"last"
    assert exchange.client.recv(1) == b""
    assert protocol.events == ["write"]
    exchange.connection.write(b"ignored")
    exchange.client.send(b"more")
    exchange.loop.settle()
    assert protocol.data == b"more"
    finish(exchange)
    exchange.loop.settle()
    assert protocol.events == ["write", "read"]
    assert ended(protocol)


def test_half_close_of_the_peers_first(connect: Connect) -> None:
    """When both directions have ended, so has the connection."""
    protocol = HalfProbe()
    exchange = connect(protocol)
    finish(exchange)
    exchange.loop.settle()
    exchange.connection.loseWriteConnection()
    exchange.loop.settle()
    assert protocol.events == ["read", "write"]
    assert ended(protocol)


def test_half_close_then_close(connect: Connect) -> None:
    """loseConnection after loseWriteConnection waits for the peer's FIN and delivers nothing more."""
    protocol = HalfProbe()
    exchange = connect(protocol)
    exchange.connection.loseWriteConnection()
    exchange.loop.settle()
    exchange.connection.loseConnection()
    exchange.client.send(b"late")
    exchange.loop.settle()
    assert exchange.connection.lingering
    assert not protocol.data
    finish(exchange)
    exchange.loop.settle()
    assert ended(protocol)


def test_write_half_close_needs_no_interface(connect: Connect) -> None:
    """Any protocol may call loseWriteConnection; only those that ask are told of it."""
    exchange = connect(Probe())
    exchange.connection.loseWriteConnection()
    exchange.loop.settle()
    assert exchange.client.recv(1) == b""
    finish(exchange)
    exchange.loop.settle()
    assert ended(exchange.protocol)
    assert exchange.owner.ends == [End.PEER]


@pytest.mark.parametrize("how", ["raises", "aborts"])
@pytest.mark.parametrize("side", ["readConnectionLost", "writeConnectionLost"])
def test_bad_end_of_one_direction(
    how: str, side: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A protocol that raises, or aborts, when told of a half-close is told why it lost the rest."""
    protocol = HalfProbe()
    exchange = connect(protocol)
    monkeypatch.setattr(protocol, side, broken if how == "raises" else exchange.connection.abortConnection)
    exchange.connection.loseWriteConnection()
    finish(exchange)
    exchange.loop.settle()
    assert ended(protocol, ConnectionCutError if how == "raises" else ConnectionAborted)
    assert exchange.owner.ends == [End.FAILED if how == "raises" else End.DONE]
    assert exchange.owner.failures == ([side] if how == "raises" else [])


def test_reset_by_the_peer(connect: Connect) -> None:
    """A RST while we read is told as such."""
    exchange = connect(Probe(), tcp_pair())
    reset(exchange)
    exchange.loop.until(lambda: exchange.protocol.lost)
    assert ended(exchange.protocol, ConnectionLost)
    assert exchange.owner.ends == [End.RESET]


def test_broken_pipe_is_found_by_a_write(connect: Connect) -> None:
    """A write to a peer that is gone ends the connection, but not from inside the write."""
    exchange = connect(Probe())
    exchange.connection.pauseProducing()
    exchange.client.close()
    exchange.connection.limit_unsent(10)
    exchange.connection.write(bytes(100))
    assert not exchange.protocol.lost
    assert exchange.connection.unsent == 0
    exchange.loop.settle()
    assert ended(exchange.protocol, ConnectionLost)
    assert exchange.owner.ends == [End.RESET]


@pytest.mark.parametrize("half", [True, False])
def test_a_peer_that_resets_after_its_fin(half: bool, connect: Connect) -> None:
    """What it didn't take is lost, and the protocol hears of that though nothing was being read."""
    protocol = (HalfProbe if half else Probe)()
    exchange = connect(protocol, small_buffers())
    exchange.connection.write(bytes(60_000))
    finish(exchange)
    exchange.loop.settle()
    exchange.connection.write(bytes(2 * HIGH_WATER))
    exchange.loop.settle()
    assert exchange.connection.unsent > HIGH_WATER
    exchange.client.close()
    exchange.loop.settle()
    assert ended(protocol, ConnectionLost)
    assert exchange.owner.ends == [End.RESET if half else End.PEER]
    assert not exchange.loop.readers | exchange.loop.writers


def test_reactor_finds_the_socket_dead(connect: Connect) -> None:
    """What the reactor reports itself ends the connection once."""
    for reason, end in ((ConnectionDone(), End.PEER), (ConnectionLost(), End.RESET)):
        exchange = connect(Probe())
        exchange.connection.connectionLost(Failure(reason))
        exchange.connection.connectionLost(Failure(reason))
        assert ended(exchange.protocol, type(reason))
        assert exchange.owner.ends == [end]


# -- we end it


def test_close_sends_what_is_owed(connect: Connect) -> None:
    """loseConnection sends everything, then a FIN, then waits for the peer's, delivering nothing."""
    exchange = connect(Probe(), small_buffers())
    exchange.connection.write(bytes(100_000))
    exchange.connection.loseConnection()
    exchange.connection.loseConnection()
    exchange.loop.turn()
    exchange.client.send(b"while it still sends")
    assert len(exchange.received()) == 100_000
    exchange.client.send(b"after our FIN")
    exchange.loop.settle()
    assert exchange.connection.lingering
    assert not exchange.protocol.data
    assert not exchange.protocol.lost
    finish(exchange)
    exchange.loop.settle()
    assert ended(exchange.protocol)
    assert exchange.owner.ends == [End.DONE]


def test_closing_inside_an_event_stops_the_delivery(connect: Connect) -> None:
    """A protocol that said loseConnection gets nothing more, though much is still owed."""

    def once(protocol: Probe, _: bytes) -> None:
        protocol.transport.write(bytes(100_000))
        protocol.transport.loseConnection()
        protocol.transport.write(b"bye")

    exchange = connect(Probe(once), small_buffers())
    exchange.client.send(b"one")
    exchange.loop.settle()
    exchange.client.send(b"two")
    assert exchange.received() == bytes(100_000) + b"bye"
    assert exchange.protocol.data == b"one"
    assert exchange.connection.received == 3


def test_paused_connection_closes(connect: Connect) -> None:
    """Pausing keeps no connection open: while lingering it is read from again."""
    exchange = connect(Probe())
    exchange.connection.pauseProducing()
    exchange.connection.stopProducing()
    exchange.loop.settle()
    assert not exchange.connection.paused
    finish(exchange)
    exchange.loop.settle()
    assert ended(exchange.protocol)


def test_linger_expires(connect: Connect) -> None:
    """A peer that never answers our FIN is let go of; what we sent still reaches it."""
    exchange = connect(Probe(), tcp_pair())
    exchange.connection.write(b"last words")
    exchange.connection.loseConnection()
    exchange.loop.until(lambda: exchange.connection.lingering)
    exchange.connection.linger_expired()
    assert ended(exchange.protocol)
    assert exchange.received() == b"last words"
    assert exchange.owner.ends == [End.DONE]


def test_reset_while_lingering(connect: Connect) -> None:
    """A RST after our FIN doesn't change why the connection ended."""
    exchange = connect(Probe(), tcp_pair())
    exchange.connection.close(End.DRAINED)
    exchange.loop.until(lambda: exchange.connection.lingering)
    reset(exchange)
    exchange.loop.until(lambda: exchange.protocol.lost)
    assert exchange.owner.ends == [End.DRAINED]


def test_fin_to_a_dead_socket(connect: Connect) -> None:
    """When the peer is gone before our FIN, that ends the connection too."""
    exchange = connect(Probe(), tcp_pair())
    exchange.connection.pauseProducing()
    exchange.connection.sock.shutdown(socket.SHUT_RDWR)
    reset(exchange)
    exchange.connection.loseConnection()
    exchange.loop.until(lambda: exchange.protocol.lost)
    assert exchange.owner.ends == [End.DONE]


def test_abort_resets(connect: Connect) -> None:
    """abortConnection drops what is owed with a RST; connectionLost comes after the protocol's own call."""
    seen = []

    def abort(protocol: Probe, _: bytes) -> None:
        protocol.transport.write(b"dropped")
        protocol.transport.abortConnection()
        protocol.transport.write(b"ignored")
        seen.append(len(protocol.lost))

    exchange = connect(Probe(abort), tcp_pair())
    exchange.client.send(b"data")
    exchange.loop.until(lambda: exchange.protocol.lost)
    assert seen == [0]
    assert ended(exchange.protocol, ConnectionAborted)
    exchange.loop.settle()
    with pytest.raises(ConnectionResetError):
        exchange.client.recv(10)


def test_aborted_connection_is_not_written_to(connect: Connect) -> None:
    """epoll may report a socket readable and writable at once: the second half finds it aborted."""
    exchange = connect(Probe(lambda p, _: p.transport.abortConnection()), small_buffers())
    exchange.connection.write(bytes(60_000))
    exchange.loop.turn()
    assert exchange.connection.unsent
    exchange.client.send(b"data")
    exchange.connection.doRead()
    exchange.connection.doWrite()
    assert not exchange.protocol.lost
    exchange.loop.settle()
    assert ended(exchange.protocol, ConnectionAborted)


def test_cut_names_its_reason(connect: Connect) -> None:
    """Whoever cuts a connection says why; a second cut, or a close, changes nothing."""
    exchange = connect(Probe())
    exchange.connection.cut(End.STALLED)
    exchange.connection.cut(End.CUT)
    exchange.connection.close(End.IDLE)
    exchange.connection.abortConnection()
    exchange.loop.settle()
    assert exchange.owner.ends == [End.STALLED]
    (reason,) = exchange.protocol.lost
    why = reason.value
    assert isinstance(why, ConnectionCutError)
    assert why.reason is End.STALLED


def test_cut_of_a_closing_connection(connect: Connect) -> None:
    """A connection that could not finish in time ends as cut, whatever it was closing for."""
    exchange = connect(Probe(), small_buffers())
    exchange.connection.write(bytes(2 * HIGH_WATER))
    exchange.connection.loseConnection()
    exchange.loop.turn()
    exchange.connection.cut(End.CUT)
    exchange.loop.settle()
    assert exchange.owner.ends == [End.CUT]


def test_nothing_works_after_the_end(connect: Connect) -> None:
    """A protocol may keep its transport: whatever it calls then does nothing."""
    exchange = connect(Probe())
    exchange.client.close()
    exchange.loop.settle()
    connection = exchange.connection
    connection.write(b"x")
    connection.writeSequence([b"y"])
    for method in ("loseConnection", "loseWriteConnection", "abortConnection", "pauseProducing"):
        getattr(connection, method)()
    connection.hold(True)
    connection.resumeProducing()
    connection.hold(False)
    connection.flush()
    connection.linger_expired()
    exchange.loop.settle()
    assert connection.unsent == 0
    assert exchange.owner.ends == [End.PEER]
    assert len(exchange.protocol.lost) == 1
    assert not exchange.loop.readers | exchange.loop.writers


# -- who and where


def test_addresses(connect: Connect) -> None:
    """getHost and getPeer are Twisted's address types, on every family."""
    for host, made in (("127.0.0.1", IPv4Address), ("::1", IPv6Address)):
        pair = tcp_pair(host)
        peer = pair[1].getsockname()
        connection = connect(Probe(), pair).connection
        assert connection.getPeer() == twisted_address(pair[0].family, peer)
        assert isinstance(connection.getPeer(), made)
        assert (connection.getHost().host, connection.getHost().port) == pair[1].getpeername()[:2]
        assert connection.getHandle() is pair[0]
    local = connect(Probe()).connection
    assert local.getPeer() == local.getHost() == UNIXAddress(None)
    named: Any = twisted_address(socket.AF_UNIX, "/run/x.sock")
    assert named.name == b"/run/x.sock"


def test_host_of_a_lost_connection(connect: Connect) -> None:
    """A protocol that asks in or after connectionLost gets an answer, not an exception."""
    exchange = connect(Probe(), tcp_pair())
    exchange.client.close()
    exchange.loop.until(lambda: exchange.protocol.lost)
    exchange.loop.settle()
    assert exchange.connection.getHost() == IPv4Address("TCP", "0.0.0.0", 0)
    assert exchange.connection.getPeer().host == "127.0.0.1"


def test_tcp_settings(connect: Connect) -> None:
    """A protocol may set what Twisted lets it set; on a Unix socket that means nothing and does no harm."""
    tcp, local = connect(Probe(), tcp_pair()).connection, connect(Probe()).connection
    for value in (True, False):
        tcp.setTcpNoDelay(value)
        tcp.setTcpKeepAlive(value)
        assert tcp.getTcpNoDelay() == value
        assert tcp.getTcpKeepAlive() == value
        local.setTcpNoDelay(value)
        assert local.getTcpNoDelay()
