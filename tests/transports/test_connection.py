"""A connection while it lasts: order, coalescing, back-pressure, bounds, faults of its protocol."""

import errno
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from sockd.base.metrics import End
from sockd.transports.connection import Connection, ConnectionCutError
from sockd.transports.fields import HIGH_WATER, READ_SIZE, UNSENT_LIMIT
from sockd.transports.sending import WRITE_SIZE
from tests.transports.loop import (
    Connect,
    Probe,
    broken,
    echo,
    ended,
    noted_reads,
    noted_writes,
    replace_system_calls,
    small_buffers,
    tcp_pair,
)

MEGABYTE = 1 << 20


def pattern(length: int) -> bytes:
    """Bytes of which no two stretches are alike."""
    return b"".join(number.to_bytes(4, "big") for number in range(length // 4))


@pytest.mark.parametrize("pair", [small_buffers, socket.socketpair, tcp_pair, lambda: tcp_pair("::1")])
def test_echo_keeps_the_order(pair: Callable[[], Any], connect: Connect) -> None:
    """What comes back is what was sent, though the kernel takes it in pieces."""
    exchange = connect(Probe(echo), pair())
    sent, got = pattern(MEGABYTE), bytearray()
    at = 0

    def all_came_back() -> bool:
        nonlocal at
        with suppress(BlockingIOError):
            at += exchange.client.send(sent[at : at + 50_000])
        with suppress(BlockingIOError):
            got.extend(exchange.client.recv(20_000))
        return len(got) == len(sent)

    exchange.loop.until(all_came_back, exchange.client)
    assert got == sent
    assert exchange.connection.received == exchange.connection.sent == exchange.counters.bytes_in == MEGABYTE
    assert exchange.counters.bytes_out == MEGABYTE


def test_answers_of_one_event_leave_together(connect: Connect) -> None:
    """Three writes in one event are one system call, made before the event ends."""

    def answer(protocol: Probe, _: bytes) -> None:
        for _i in range(3):
            protocol.transport.write(b"x")

    exchange = connect(Probe(answer))
    sends = noted_writes(exchange.connection)
    exchange.client.send(b"?")
    exchange.connection.doRead()
    assert sends == [3]
    assert exchange.client.recv(10) == b"xxx"
    assert exchange.connection.unsent == 0


def test_fan_out_leaves_together(connect: Connect) -> None:
    """What one connection's event writes to another leaves in one system call too."""
    other = connect(Probe())

    def tell(_: Probe, data: bytes) -> None:
        for _i in range(3):
            other.connection.write(data)

    both = connect(Probe(tell), None, other)
    sends = noted_writes(other.connection)
    both.client.send(b"?")
    both.connection.doRead()
    assert sends == [3]


def test_write_outside_an_event_leaves_soon(connect: Connect) -> None:
    """Without an event, say from a timer, writes leave in the reactor's next turn."""
    exchange = connect(Probe())
    exchange.connection.writeSequence([b"a", b"b"])
    exchange.connection.write(b"c")
    assert exchange.connection.unsent == 3
    assert exchange.received() == b"abc"


def test_write_takes_what_has_bytes(connect: Connect) -> None:
    """bytearray and memoryview are taken as they are now; str and int are errors; nothing is nothing."""
    exchange = connect(Probe())
    write: Any = exchange.connection.write
    buffer = bytearray(b"one")
    write(buffer)
    buffer[:] = b"two"
    write(memoryview(b"three")[1:])
    write(b"")
    for wrong in ("text", 5):
        with pytest.raises(TypeError):
            write(wrong)
    assert exchange.received() == b"onehree"


def test_long_rest_is_not_copied_for_each_write(connect: Connect) -> None:
    """Behind a long unsent rest, later writes wait their turn and arrive in order."""
    exchange = connect(Probe(), small_buffers())
    long = pattern(4 * HIGH_WATER)
    exchange.connection.write(long)
    exchange.loop.turn()
    for piece in (b"one", b"two", pattern(2 * HIGH_WATER), b"three"):
        exchange.connection.write(piece)
    assert exchange.received() == long + b"onetwo" + pattern(2 * HIGH_WATER) + b"three"
    assert exchange.connection.unsent == 0
    assert exchange.connection not in exchange.loop.writers


def test_spurious_wake_up_does_nothing(connect: Connect) -> None:
    """An event without data, which epoll may report, is no end of the connection."""
    exchange = connect(Probe())
    exchange.connection.doRead()
    exchange.connection.doWrite()
    assert exchange.connection.connected
    assert not exchange.protocol.data


# -- back-pressure


def test_reading_stops_when_the_peer_does_not_read(connect: Connect) -> None:
    """Above HIGH_WATER unsent nothing more is read, so that memory stays bounded; it goes on afterwards."""
    exchange = connect(Probe(echo), small_buffers())
    sent = pattern(MEGABYTE)
    view = memoryview(sent)
    most = 0
    while not exchange.connection.paused:
        view = view[exchange.client.send(view) :]
        exchange.loop.turn()
        most = max(most, exchange.connection.unsent)
    stopped_at = exchange.connection.received
    exchange.loop.settle()
    assert exchange.connection.received == stopped_at
    assert HIGH_WATER < most < HIGH_WATER + 256 * 1024
    rest = exchange.received()
    while view:
        view = view[exchange.client.send(view) :]
        rest += exchange.received()
    assert rest == sent
    assert not exchange.connection.paused


def test_bound_of_unsent_bytes(connect: Connect) -> None:
    """A protocol that goes on writing, event after event, to a peer that doesn't read loses it."""
    exchange = connect(Probe())
    most = 0
    for _ in range(UNSENT_LIMIT // MEGABYTE + 2):
        exchange.connection.write(bytes(MEGABYTE))
        exchange.loop.turn()
        most = max(most, exchange.connection.unsent)
    assert most <= UNSENT_LIMIT + MEGABYTE
    exchange.loop.settle()
    assert exchange.owner.ends == [End.SLOW]
    assert ended(exchange.protocol, ConnectionCutError)


PIECES = {"one": [20 * MEGABYTE], "header": [200, 20 * MEGABYTE], "many": [65_000] * 320}


@pytest.mark.parametrize("sizes", PIECES.values(), ids=PIECES)
def test_a_long_answer(connect: Connect, sizes: list[int]) -> None:
    """What one event writes may be of any size, in any pieces, and arrives; so do a few bytes after it."""
    exchange = connect(Probe(), tcp_pair())
    for size in sizes:
        exchange.connection.write(bytes(size))
    exchange.loop.turn()
    assert exchange.connection.unsent > UNSENT_LIMIT
    exchange.connection.write(b"end")
    exchange.connection.loseConnection()
    count = sum(sizes) + 3
    got = 0
    while got < count:
        got += len(exchange.received())
    exchange.client.close()
    exchange.loop.until(lambda: exchange.owner.ends)
    assert exchange.owner.ends == [End.DONE]


def test_what_follows_a_long_answer(connect: Connect) -> None:
    """Later events may write no more than the peer has taken since, until it is below the bound."""
    exchange = connect(Probe(), small_buffers())
    connection = exchange.connection
    connection.bound_unsent(100_000)
    connection.write(bytes(500_000))
    exchange.loop.turn()
    assert connection.least_progress == HIGH_WATER
    before = connection.unsent
    while connection.unsent > before - 2000:
        exchange.client.recv(1000)
        exchange.loop.turn()
    connection.write(bytes(1000))
    exchange.loop.turn()
    assert not connection.disconnecting
    connection.write(bytes(300_000))
    assert connection.disconnecting
    exchange.loop.settle()
    assert exchange.owner.ends == [End.SLOW]


def test_after_a_long_answer_has_gone(connect: Connect) -> None:
    """Then all is as before: the next one may be as long."""
    exchange = connect(Probe(), tcp_pair())
    connection = exchange.connection
    connection.bound_unsent(100_000)
    for _ in range(3):
        connection.write(bytes(20 * MEGABYTE))
        exchange.loop.turn()
        got = 0
        while got < 20 * MEGABYTE:
            got += len(exchange.received())
        assert connection.least_progress == 1


def test_one_event_sends_a_bounded_part(connect: Connect) -> None:
    """A peer that reads as fast as we write has the reactor no longer than others."""
    exchange = connect(Probe(), tcp_pair())
    exchange.connection.write(bytes(20 * MEGABYTE))
    exchange.loop.turn()
    while exchange.connection.unsent:
        before = exchange.connection.sent
        with suppress(BlockingIOError):
            exchange.client.recv(4 * MEGABYTE)
        exchange.connection.doWrite()
        assert exchange.connection.sent - before <= 2 * WRITE_SIZE


def test_protocols_own_bound(connect: Connect) -> None:
    """No more than `limit_unsent` is kept; the connection is lost, but not from inside the write."""
    exchange = connect(Probe(), small_buffers())
    exchange.connection.limit_unsent(10_000)
    most = 0
    while not exchange.connection.disconnecting:
        exchange.connection.write(bytes(1000))
        most = max(most, exchange.connection.unsent)
    assert most == 10_000
    assert exchange.connection.unsent == 0
    assert not exchange.protocol.lost
    exchange.loop.settle()
    assert exchange.owner.ends == [End.SLOW]


def test_bound_does_not_count_what_the_kernel_takes(connect: Connect) -> None:
    """A write above the bound that the kernel takes at once is none of the slow reader's."""
    exchange = connect(Probe())
    exchange.connection.limit_unsent(1000)
    exchange.connection.write(bytes(50_000))
    assert exchange.connection.unsent == 0
    assert len(exchange.received()) == 50_000
    assert exchange.connection.connected


def test_holding_and_pausing_are_independent(connect: Connect) -> None:
    """What was paused for two reasons is read again when both are gone."""
    exchange = connect(Probe())
    connection = exchange.connection
    connection.hold(True)
    connection.pauseProducing()
    connection.pauseProducing()
    exchange.client.send(b"data")
    connection.hold(False)
    exchange.loop.settle()
    assert connection.paused
    assert not exchange.protocol.data
    connection.hold(True)
    connection.resumeProducing()
    exchange.loop.settle()
    assert not exchange.protocol.data
    connection.hold(False)
    exchange.loop.settle()
    assert exchange.protocol.data == b"data"
    assert not connection.paused


# -- faults of the protocol


def test_fault_in_connection_made(connect: Connect) -> None:
    """A protocol that raises at the start loses this connection, and is told so."""
    exchange = connect(Probe(on_made=broken))
    exchange.loop.settle()
    assert exchange.owner.failures == ["connectionMade"]
    assert exchange.owner.ends == [End.FAILED]
    assert ended(exchange.protocol, ConnectionCutError)


def test_fault_in_data_received(connect: Connect) -> None:
    """The same while it runs; what it had written in that event is dropped with it."""

    def half(protocol: Probe, data: bytes) -> None:
        protocol.transport.write(data)
        broken()

    exchange = connect(Probe(half))
    exchange.client.send(b"data")
    exchange.loop.settle()
    assert exchange.owner.failures == ["dataReceived"]
    assert exchange.owner.ends == [End.FAILED]
    assert exchange.received() == b""


def test_fault_in_connection_lost(connect: Connect) -> None:
    """A protocol that raises at the end changes neither the end nor its reason."""
    exchange = connect(Probe(on_lost=broken))
    exchange.client.close()
    exchange.loop.settle()
    assert exchange.owner.failures == ["connectionLost"]
    assert exchange.owner.ends == [End.PEER]


def test_a_fault_leaves_the_others_alone(connect: Connect) -> None:
    """What the faulty event wrote to another connection still leaves."""
    other = connect(Probe())

    def tell(_: Probe, data: bytes) -> None:
        other.connection.write(data)
        broken()

    faulty = connect(Probe(tell), None, other)
    faulty.client.send(b"news")
    faulty.loop.settle()
    assert faulty.owner.ends == [End.FAILED]
    assert other.client.recv(10) == b"news"
    assert other.connection.connected


def test_names_in_messages(connect: Connect) -> None:
    """A connection says whose it is, and under which name the reactor logs."""
    connection: Connection = connect(Probe()).connection
    assert repr(connection) == "<connection of uid=0,pid=1 to test://here>"
    assert connection.logPrefix() == "test://here"


@pytest.mark.parametrize("error", [errno.ENOBUFS, errno.ENOMEM])
@pytest.mark.parametrize("before", [b"", b"x" * 3 * MEGABYTE])
def test_the_kernel_has_no_buffers(before: bytes, error: int, connect: Connect) -> None:
    """It isn't the connection's fault: what is owed goes out a moment later, and nobody spins meanwhile."""
    exchange = connect(Probe(echo), small_buffers())
    connection: Any = exchange.connection
    connection.write(before)
    exchange.loop.settle()
    tries = 0

    def full(_number: int, _data: bytes) -> int:
        nonlocal tries
        tries += 1
        raise OSError(error, "no room")

    kernel = replace_system_calls(connection, write=full)
    exchange.client.send(b"answer me")

    def tried() -> int:
        with suppress(BlockingIOError):
            exchange.client.recv(MEGABYTE)
        return tries

    exchange.loop.until(tried)
    for _ in range(5):
        exchange.loop.turn()
    assert tries == 1
    assert exchange.counters.refused == {f"kernel: {errno.errorcode[error]}": 1}
    assert connection.unsent
    exchange.loop.advance(1)
    exchange.loop.turn()
    assert tries == 2
    replace_system_calls(connection, write=kernel.write)
    exchange.loop.advance(1)
    assert exchange.received().endswith(b"answer me")


def test_no_buffers_and_then_nobody(connect: Connect) -> None:
    """A connection that ends meanwhile isn't watched again."""
    exchange = connect(Probe(echo))
    connection: Any = exchange.connection

    def full(_number: int, _data: bytes) -> int:
        raise OSError(errno.ENOBUFS, "no room")

    replace_system_calls(connection, write=full)
    connection.write(b"x")
    exchange.loop.settle()
    connection.abortConnection()
    exchange.loop.settle()
    exchange.loop.advance(1)
    assert not exchange.loop.writers
    assert exchange.owner.ends == [End.DONE]


def test_what_was_read_outlasts_its_peer(connect: Connect) -> None:
    """What came with a PROXY header is the protocol's, though the peer has left before it was wanted."""
    got = Probe(on_made=lambda probe: probe.transport.pauseProducing())
    exchange = connect(got)
    exchange.connection.give(b"accepted")
    exchange.client.close()
    exchange.connection.peer_left(reset=False)  # as a sweep does after limits.stall
    exchange.loop.settle()
    exchange.connection.resumeProducing()
    exchange.loop.until(lambda: exchange.owner.ends)
    assert got.data == b"accepted"


def test_what_was_read_outlasts_a_failed_answer(connect: Connect) -> None:
    """Nobody takes what we write any more; what came before is the protocol's all the same."""
    got = Probe(on_made=lambda probe: probe.transport.pauseProducing())
    exchange = connect(got)
    exchange.connection.give(b"accepted")
    exchange.client.close()
    exchange.connection.write(b"an answer")
    exchange.loop.settle()
    assert exchange.connection.unsent == 0
    exchange.connection.resumeProducing()
    exchange.loop.until(lambda: exchange.owner.ends)
    assert got.data == b"accepted"
    assert exchange.owner.ends == [End.PEER]


def test_reads_that_a_protocol_bounds(connect: Connect) -> None:
    """They stay as short, whatever comes."""
    pieces: list[int] = []
    exchange = connect(Probe(lambda _probe, data: pieces.append(len(data))))
    exchange.connection.limit_read(1000)
    exchange.client.send(bytes(2500))
    exchange.loop.settle()
    assert pieces == [1000, 1000, 500]


def test_a_bound_of_a_whole_read_is_one(connect: Connect) -> None:
    """Full reads are followed by larger ones only where a protocol has said nothing."""
    exchange = connect(Probe(), tcp_pair())
    sizes = noted_reads(exchange.connection)
    exchange.connection.limit_read(READ_SIZE)
    exchange.client.setblocking(True)
    exchange.client.sendall(bytes(4 * READ_SIZE))
    exchange.loop.until(lambda: len(exchange.protocol.data) == 4 * READ_SIZE)
    assert max(sizes) <= READ_SIZE
