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


def finish(connection: Exchange) -> None:
    """The client's FIN."""
    connection.client.shutdown(socket.SHUT_WR)


def reset(connection: Exchange) -> None:
    """The client's RST."""
    connection.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.client.close()


# -- the peer ends it


def test_peer_closes(connect: Connect) -> None:
    """A FIN ends the connection of a protocol that knows no half-close, once, cleanly."""
    connection = connect(Probe())
    connection.client.close()
    connection.loop.settle()
    assert ended(connection.protocol)
    assert connection.owner.ends == [End.PEER]
    assert connection.server.disconnected
    assert not connection.loop.readers | connection.loop.writers
    assert connection.server.sock.fileno() == -1


def test_what_is_owed_goes_out_after_the_peers_fin(connect: Connect) -> None:
    """All that a client sent before its FIN comes back, though it is slow to read."""
    connection = connect(Probe(echo), small_buffers())
    sent = bytes(range(256)) * 1000
    view = memoryview(sent)
    got = b""
    while view:
        try:
            view = view[connection.client.send(view) :]
        except BlockingIOError:
            got += connection.received()
    finish(connection)
    assert not connection.protocol.lost
    assert got + connection.received() == sent
    assert ended(connection.protocol)
    assert connection.owner.ends == [End.PEER]


def test_half_close(connect: Connect) -> None:
    """An IHalfCloseableProtocol goes on writing after the peer's FIN until it has had enough."""
    protocol = HalfProbe(lambda p: p.transport.write(b"one"))
    connection = connect(protocol)
    finish(connection)
    assert connection.received() == b"one"
    assert protocol.events == ["read"]
    assert connection.server not in connection.loop.readers
    assert not connection.server.paused
    connection.server.write(b"two")
    connection.server.loseConnection()
    assert connection.received() == b"two"
    assert ended(protocol)
    assert connection.owner.ends == [End.DONE]


def test_half_close_of_ours_first(connect: Connect) -> None:
    """After our FIN the peer may go on sending; its FIN ends the connection."""
    protocol = HalfProbe()
    connection = connect(protocol)
    connection.server.write(b"last")
    connection.server.loseWriteConnection()
    connection.server.loseWriteConnection()
    assert connection.received() == b"last"
    assert connection.client.recv(1) == b""
    assert protocol.events == ["write"]
    connection.server.write(b"ignored")
    connection.client.send(b"more")
    connection.loop.settle()
    assert protocol.data == b"more"
    finish(connection)
    connection.loop.settle()
    assert protocol.events == ["write", "read"]
    assert ended(protocol)


def test_half_close_of_the_peers_first(connect: Connect) -> None:
    """When both directions have ended, so has the connection."""
    protocol = HalfProbe()
    connection = connect(protocol)
    finish(connection)
    connection.loop.settle()
    connection.server.loseWriteConnection()
    connection.loop.settle()
    assert protocol.events == ["read", "write"]
    assert ended(protocol)


def test_half_close_then_close(connect: Connect) -> None:
    """loseConnection after loseWriteConnection waits for the peer's FIN and delivers nothing more."""
    protocol = HalfProbe()
    connection = connect(protocol)
    connection.server.loseWriteConnection()
    connection.loop.settle()
    connection.server.loseConnection()
    connection.client.send(b"late")
    connection.loop.settle()
    assert connection.server.lingering
    assert not protocol.data
    finish(connection)
    connection.loop.settle()
    assert ended(protocol)


def test_write_half_close_needs_no_interface(connect: Connect) -> None:
    """Any protocol may call loseWriteConnection; only those that ask are told of it."""
    connection = connect(Probe())
    connection.server.loseWriteConnection()
    connection.loop.settle()
    assert connection.client.recv(1) == b""
    finish(connection)
    connection.loop.settle()
    assert ended(connection.protocol)
    assert connection.owner.ends == [End.PEER]


@pytest.mark.parametrize("how", ["raises", "aborts"])
@pytest.mark.parametrize("side", ["readConnectionLost", "writeConnectionLost"])
def test_bad_end_of_one_direction(
    how: str, side: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A protocol that raises, or aborts, when told of a half-close is told why it lost the rest."""
    protocol = HalfProbe()
    connection = connect(protocol)
    monkeypatch.setattr(protocol, side, broken if how == "raises" else connection.server.abortConnection)
    connection.server.loseWriteConnection()
    finish(connection)
    connection.loop.settle()
    assert ended(protocol, ConnectionCutError if how == "raises" else ConnectionAborted)
    assert connection.owner.ends == [End.FAILED if how == "raises" else End.DONE]
    assert connection.owner.failures == ([side] if how == "raises" else [])


def test_reset_by_the_peer(connect: Connect) -> None:
    """A RST while we read is told as such."""
    connection = connect(Probe(), tcp_pair())
    reset(connection)
    connection.loop.until(lambda: connection.protocol.lost)
    assert ended(connection.protocol, ConnectionLost)
    assert connection.owner.ends == [End.RESET]


def test_broken_pipe_is_found_by_a_write(connect: Connect) -> None:
    """A write to a peer that is gone ends the connection, but not from inside the write."""
    connection = connect(Probe())
    connection.server.pauseProducing()
    connection.client.close()
    connection.server.limit_unsent(10)
    connection.server.write(bytes(100))
    assert not connection.protocol.lost
    assert connection.server.unsent == 0
    connection.loop.settle()
    assert ended(connection.protocol, ConnectionLost)
    assert connection.owner.ends == [End.RESET]


@pytest.mark.parametrize("half", [True, False])
def test_a_peer_that_resets_after_its_fin(half: bool, connect: Connect) -> None:
    """What it didn't take is lost, and the protocol hears of that though nothing was being read."""
    protocol = (HalfProbe if half else Probe)()
    connection = connect(protocol, small_buffers())
    connection.server.write(bytes(60_000))
    finish(connection)
    connection.loop.settle()
    connection.server.write(bytes(2 * HIGH_WATER))
    connection.loop.settle()
    assert connection.server.unsent > HIGH_WATER
    connection.client.close()
    connection.loop.settle()
    assert ended(protocol, ConnectionLost)
    assert connection.owner.ends == [End.RESET if half else End.PEER]
    assert not connection.loop.readers | connection.loop.writers


def test_reactor_finds_the_socket_dead(connect: Connect) -> None:
    """What the reactor reports itself ends the connection once."""
    for reason, end in ((ConnectionDone(), End.PEER), (ConnectionLost(), End.RESET)):
        connection = connect(Probe())
        connection.server.connectionLost(Failure(reason))
        connection.server.connectionLost(Failure(reason))
        assert ended(connection.protocol, type(reason))
        assert connection.owner.ends == [end]


# -- we end it


def test_close_sends_what_is_owed(connect: Connect) -> None:
    """loseConnection sends everything, then a FIN, then waits for the peer's, delivering nothing."""
    connection = connect(Probe(), small_buffers())
    connection.server.write(bytes(100_000))
    connection.server.loseConnection()
    connection.server.loseConnection()
    connection.loop.turn()
    connection.client.send(b"while it still sends")
    assert len(connection.received()) == 100_000
    connection.client.send(b"after our FIN")
    connection.loop.settle()
    assert connection.server.lingering
    assert not connection.protocol.data
    assert not connection.protocol.lost
    finish(connection)
    connection.loop.settle()
    assert ended(connection.protocol)
    assert connection.owner.ends == [End.DONE]


def test_closing_inside_an_event_stops_the_delivery(connect: Connect) -> None:
    """A protocol that said loseConnection gets nothing more, though much is still owed."""

    def once(protocol: Probe, _: bytes) -> None:
        protocol.transport.write(bytes(100_000))
        protocol.transport.loseConnection()
        protocol.transport.write(b"bye")

    connection = connect(Probe(once), small_buffers())
    connection.client.send(b"one")
    connection.loop.settle()
    connection.client.send(b"two")
    assert connection.received() == bytes(100_000) + b"bye"
    assert connection.protocol.data == b"one"
    assert connection.server.received == 3


def test_paused_connection_closes(connect: Connect) -> None:
    """Pausing keeps no connection open: while lingering it is read from again."""
    connection = connect(Probe())
    connection.server.pauseProducing()
    connection.server.stopProducing()
    connection.loop.settle()
    assert not connection.server.paused
    finish(connection)
    connection.loop.settle()
    assert ended(connection.protocol)


def test_linger_expires(connect: Connect) -> None:
    """A peer that never answers our FIN is let go of; what we sent still reaches it."""
    connection = connect(Probe(), tcp_pair())
    connection.server.write(b"last words")
    connection.server.loseConnection()
    connection.loop.until(lambda: connection.server.lingering)
    connection.server.linger_expired()
    assert ended(connection.protocol)
    assert connection.received() == b"last words"
    assert connection.owner.ends == [End.DONE]


def test_reset_while_lingering(connect: Connect) -> None:
    """A RST after our FIN doesn't change why the connection ended."""
    connection = connect(Probe(), tcp_pair())
    connection.server.close(End.DRAINED)
    connection.loop.until(lambda: connection.server.lingering)
    reset(connection)
    connection.loop.until(lambda: connection.protocol.lost)
    assert connection.owner.ends == [End.DRAINED]


def test_fin_to_a_dead_socket(connect: Connect) -> None:
    """When the peer is gone before our FIN, that ends the connection too."""
    connection = connect(Probe(), tcp_pair())
    connection.server.pauseProducing()
    connection.server.sock.shutdown(socket.SHUT_RDWR)
    reset(connection)
    connection.server.loseConnection()
    connection.loop.until(lambda: connection.protocol.lost)
    assert connection.owner.ends == [End.DONE]


def test_abort_resets(connect: Connect) -> None:
    """abortConnection drops what is owed with a RST; connectionLost comes after the protocol's own call."""
    seen = []

    def abort(protocol: Probe, _: bytes) -> None:
        protocol.transport.write(b"dropped")
        protocol.transport.abortConnection()
        protocol.transport.write(b"ignored")
        seen.append(len(protocol.lost))

    connection = connect(Probe(abort), tcp_pair())
    connection.client.send(b"data")
    connection.loop.until(lambda: connection.protocol.lost)
    assert seen == [0]
    assert ended(connection.protocol, ConnectionAborted)
    connection.loop.settle()
    with pytest.raises(ConnectionResetError):
        connection.client.recv(10)


def test_aborted_connection_is_not_written_to(connect: Connect) -> None:
    """epoll may report a socket readable and writable at once: the second half finds it aborted."""
    connection = connect(Probe(lambda p, _: p.transport.abortConnection()), small_buffers())
    connection.server.write(bytes(60_000))
    connection.loop.turn()
    assert connection.server.unsent
    connection.client.send(b"data")
    connection.server.doRead()
    connection.server.doWrite()
    assert not connection.protocol.lost
    connection.loop.settle()
    assert ended(connection.protocol, ConnectionAborted)


def test_cut_names_its_reason(connect: Connect) -> None:
    """Whoever cuts a connection says why; a second cut, or a close, changes nothing."""
    connection = connect(Probe())
    connection.server.cut(End.STALLED)
    connection.server.cut(End.CUT)
    connection.server.close(End.IDLE)
    connection.server.abortConnection()
    connection.loop.settle()
    assert connection.owner.ends == [End.STALLED]
    (reason,) = connection.protocol.lost
    why = reason.value
    assert isinstance(why, ConnectionCutError)
    assert why.reason is End.STALLED


def test_cut_of_a_closing_connection(connect: Connect) -> None:
    """A connection that could not finish in time ends as cut, whatever it was closing for."""
    connection = connect(Probe(), small_buffers())
    connection.server.write(bytes(2 * HIGH_WATER))
    connection.server.loseConnection()
    connection.loop.turn()
    connection.server.cut(End.CUT)
    connection.loop.settle()
    assert connection.owner.ends == [End.CUT]


def test_nothing_works_after_the_end(connect: Connect) -> None:
    """A protocol may keep its transport: whatever it calls then does nothing."""
    connection = connect(Probe())
    connection.client.close()
    connection.loop.settle()
    server = connection.server
    server.write(b"x")
    server.writeSequence([b"y"])
    for method in ("loseConnection", "loseWriteConnection", "abortConnection", "pauseProducing"):
        getattr(server, method)()
    server.hold(True)
    server.resumeProducing()
    server.hold(False)
    server.flush()
    server.linger_expired()
    connection.loop.settle()
    assert server.unsent == 0
    assert connection.owner.ends == [End.PEER]
    assert len(connection.protocol.lost) == 1
    assert not connection.loop.readers | connection.loop.writers


# -- who and where


def test_addresses(connect: Connect) -> None:
    """getHost and getPeer are Twisted's address types, on every family."""
    for host, made in (("127.0.0.1", IPv4Address), ("::1", IPv6Address)):
        pair = tcp_pair(host)
        peer = pair[1].getsockname()
        server = connect(Probe(), pair).server
        assert server.getPeer() == twisted_address(pair[0].family, peer)
        assert isinstance(server.getPeer(), made)
        assert (server.getHost().host, server.getHost().port) == pair[1].getpeername()[:2]
        assert server.getHandle() is pair[0]
    local = connect(Probe()).server
    assert local.getPeer() == local.getHost() == UNIXAddress(None)
    named: Any = twisted_address(socket.AF_UNIX, "/run/x.sock")
    assert named.name == b"/run/x.sock"


def test_host_of_a_lost_connection(connect: Connect) -> None:
    """A protocol that asks in or after connectionLost gets an answer, not an exception."""
    connection = connect(Probe(), tcp_pair())
    connection.client.close()
    connection.loop.until(lambda: connection.protocol.lost)
    connection.loop.settle()
    assert connection.server.getHost() == IPv4Address("TCP", "0.0.0.0", 0)
    assert connection.server.getPeer().host == "127.0.0.1"


def test_tcp_settings(connect: Connect) -> None:
    """A protocol may set what Twisted lets it set; on a Unix socket that means nothing and does no harm."""
    tcp, local = connect(Probe(), tcp_pair()).server, connect(Probe()).server
    for value in (True, False):
        tcp.setTcpNoDelay(value)
        tcp.setTcpKeepAlive(value)
        assert tcp.getTcpNoDelay() == value
        assert tcp.getTcpKeepAlive() == value
        local.setTcpNoDelay(value)
        assert local.getTcpNoDelay()
