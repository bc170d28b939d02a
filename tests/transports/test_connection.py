"""A connection while it lasts: order, coalescing, back-pressure, bounds, faults of its protocol."""

import errno
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from sockd.base.metrics import End
from sockd.transports.connection import Connection, ConnectionCutError
from sockd.transports.fields import HIGH_WATER, READ, UNSENT
from tests.transports.loop import (
    Connect,
    Exchange,
    Probe,
    broken,
    echo,
    ended,
    noted_reads,
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
    connection = connect(Probe(echo), pair())
    sent, got = pattern(MEGABYTE), bytearray()
    at = 0

    def exchange() -> bool:
        nonlocal at
        with suppress(BlockingIOError):
            at += connection.client.send(sent[at : at + 50_000])
        with suppress(BlockingIOError):
            got.extend(connection.client.recv(20_000))
        return len(got) == len(sent)

    connection.loop.until(exchange, connection.client)
    assert got == sent
    assert connection.server.received == connection.server.sent == connection.counters.bytes_in == MEGABYTE
    assert connection.counters.bytes_out == MEGABYTE


def counting(connection: Exchange) -> list[int]:
    """Have the sizes of all sends told."""
    sends: list[int] = []
    server: Any = connection.server
    write = server._write

    def counted(number: int, data: bytes) -> Any:
        sends.append(len(data))
        return write(number, data)

    server._write = counted
    return sends


def test_answers_of_one_event_leave_together(connect: Connect) -> None:
    """Three writes in one event are one system call, made before the event ends."""

    def answer(protocol: Probe, _: bytes) -> None:
        for _i in range(3):
            protocol.transport.write(b"x")

    connection = connect(Probe(answer))
    sends = counting(connection)
    connection.client.send(b"?")
    connection.server.doRead()
    assert sends == [3]
    assert connection.client.recv(10) == b"xxx"
    assert connection.server.unsent == 0


def test_fan_out_leaves_together(connect: Connect) -> None:
    """What one connection's event writes to another leaves in one system call too."""
    other = connect(Probe())

    def tell(_: Probe, data: bytes) -> None:
        for _i in range(3):
            other.server.write(data)

    both = connect(Probe(tell), None, other)
    sends = counting(other)
    both.client.send(b"?")
    both.server.doRead()
    assert sends == [3]


def test_write_outside_an_event_leaves_soon(connect: Connect) -> None:
    """Without an event, say from a timer, writes leave in the reactor's next turn."""
    connection = connect(Probe())
    connection.server.writeSequence([b"a", b"b"])
    connection.server.write(b"c")
    assert connection.server.unsent == 3
    assert connection.received() == b"abc"


def test_write_takes_what_has_bytes(connect: Connect) -> None:
    """bytearray and memoryview are taken as they are now; str and int are errors; nothing is nothing."""
    connection = connect(Probe())
    write: Any = connection.server.write
    buffer = bytearray(b"one")
    write(buffer)
    buffer[:] = b"two"
    write(memoryview(b"three")[1:])
    write(b"")
    for wrong in ("text", 5):
        with pytest.raises(TypeError):
            write(wrong)
    assert connection.received() == b"onehree"


def test_long_rest_is_not_copied_for_each_write(connect: Connect) -> None:
    """Behind a long unsent rest, later writes wait their turn and arrive in order."""
    connection = connect(Probe(), small_buffers())
    long = pattern(4 * HIGH_WATER)
    connection.server.write(long)
    connection.loop.turn()
    for piece in (b"one", b"two", pattern(2 * HIGH_WATER), b"three"):
        connection.server.write(piece)
    assert connection.received() == long + b"onetwo" + pattern(2 * HIGH_WATER) + b"three"
    assert connection.server.unsent == 0
    assert connection.server not in connection.loop.writers


def test_spurious_wake_up_does_nothing(connect: Connect) -> None:
    """An event without data, which epoll may report, is no end of the connection."""
    connection = connect(Probe())
    connection.server.doRead()
    connection.server.doWrite()
    assert connection.server.connected
    assert not connection.protocol.data


# -- back-pressure


def test_reading_stops_when_the_peer_does_not_read(connect: Connect) -> None:
    """Above HIGH_WATER unsent nothing more is read, so that memory stays bounded; it goes on afterwards."""
    connection = connect(Probe(echo), small_buffers())
    sent = pattern(MEGABYTE)
    view = memoryview(sent)
    most = 0
    while not connection.server.paused:
        view = view[connection.client.send(view) :]
        connection.loop.turn()
        most = max(most, connection.server.unsent)
    stopped_at = connection.server.received
    connection.loop.settle()
    assert connection.server.received == stopped_at
    assert HIGH_WATER < most < HIGH_WATER + 256 * 1024
    rest = connection.received()
    while view:
        view = view[connection.client.send(view) :]
        rest += connection.received()
    assert rest == sent
    assert not connection.server.paused


def test_bound_of_unsent_bytes(connect: Connect) -> None:
    """A protocol that goes on writing to a peer that doesn't read loses it as too slow a reader."""
    connection = connect(Probe())
    for _ in range(UNSENT // MEGABYTE + 2):
        connection.server.write(bytes(MEGABYTE))
    assert connection.server.unsent == 0
    connection.loop.settle()
    assert connection.owner.ends == [End.SLOW]
    assert ended(connection.protocol, ConnectionCutError)


def test_protocols_own_bound(connect: Connect) -> None:
    """No more than `limit_unsent` is kept; the connection is lost, but not from inside the write."""
    connection = connect(Probe(), small_buffers())
    connection.server.limit_unsent(10_000)
    most = 0
    while not connection.server.disconnecting:
        connection.server.write(bytes(1000))
        most = max(most, connection.server.unsent)
    assert most == 10_000
    assert connection.server.unsent == 0
    assert not connection.protocol.lost
    connection.loop.settle()
    assert connection.owner.ends == [End.SLOW]


def test_bound_does_not_count_what_the_kernel_takes(connect: Connect) -> None:
    """A write above the bound that the kernel takes at once is none of the slow reader's."""
    connection = connect(Probe())
    connection.server.limit_unsent(1000)
    connection.server.write(bytes(50_000))
    assert connection.server.unsent == 0
    assert len(connection.received()) == 50_000
    assert connection.server.connected


def test_holding_and_pausing_are_independent(connect: Connect) -> None:
    """What was paused for two reasons is read again when both are gone."""
    connection = connect(Probe())
    server = connection.server
    server.hold(True)
    server.pauseProducing()
    server.pauseProducing()
    connection.client.send(b"data")
    server.hold(False)
    connection.loop.settle()
    assert server.paused
    assert not connection.protocol.data
    server.hold(True)
    server.resumeProducing()
    connection.loop.settle()
    assert not connection.protocol.data
    server.hold(False)
    connection.loop.settle()
    assert connection.protocol.data == b"data"
    assert not server.paused


# -- faults of the protocol


def test_fault_in_connection_made(connect: Connect) -> None:
    """A protocol that raises at the start loses this connection, and is told so."""
    connection = connect(Probe(on_made=broken))
    connection.loop.settle()
    assert connection.owner.failures == ["connectionMade"]
    assert connection.owner.ends == [End.FAILED]
    assert ended(connection.protocol, ConnectionCutError)


def test_fault_in_data_received(connect: Connect) -> None:
    """The same while it runs; what it had written in that event is dropped with it."""

    def half(protocol: Probe, data: bytes) -> None:
        protocol.transport.write(data)
        broken()

    connection = connect(Probe(half))
    connection.client.send(b"data")
    connection.loop.settle()
    assert connection.owner.failures == ["dataReceived"]
    assert connection.owner.ends == [End.FAILED]
    assert connection.received() == b""


def test_fault_in_connection_lost(connect: Connect) -> None:
    """A protocol that raises at the end changes neither the end nor its reason."""
    connection = connect(Probe(on_lost=broken))
    connection.client.close()
    connection.loop.settle()
    assert connection.owner.failures == ["connectionLost"]
    assert connection.owner.ends == [End.PEER]


def test_a_fault_leaves_the_others_alone(connect: Connect) -> None:
    """What the faulty event wrote to another connection still leaves."""
    other = connect(Probe())

    def tell(_: Probe, data: bytes) -> None:
        other.server.write(data)
        broken()

    faulty = connect(Probe(tell), None, other)
    faulty.client.send(b"news")
    faulty.loop.settle()
    assert faulty.owner.ends == [End.FAILED]
    assert other.client.recv(10) == b"news"
    assert other.server.connected


def test_names_in_messages(connect: Connect) -> None:
    """A connection says whose it is, and under which name the reactor logs."""
    server: Connection = connect(Probe()).server
    assert repr(server) == "<connection of uid=0,pid=1 to test://here>"
    assert server.logPrefix() == "test://here"


@pytest.mark.parametrize("error", [errno.ENOBUFS, errno.ENOMEM])
@pytest.mark.parametrize("before", [b"", b"x" * 3 * MEGABYTE])
def test_the_kernel_has_no_buffers(before: bytes, error: int, connect: Connect) -> None:
    """It isn't the connection's fault: what is owed goes out a moment later, and nobody spins meanwhile."""
    connection = connect(Probe(echo), small_buffers())
    server: Any = connection.server
    server.write(before)
    connection.loop.settle()
    write, tries = server._write, 0

    def full(_number: int, _data: bytes) -> int:
        nonlocal tries
        tries += 1
        raise OSError(error, "no room")

    server._write = full
    connection.client.send(b"answer me")

    def tried() -> int:
        with suppress(BlockingIOError):
            connection.client.recv(MEGABYTE)
        return tries

    connection.loop.until(tried)
    for _ in range(5):
        connection.loop.turn()
    assert tries == 1
    assert connection.counters.refused == {f"kernel: {errno.errorcode[error]}": 1}
    assert server.unsent
    connection.loop.advance(1)
    connection.loop.turn()
    assert tries == 2
    server._write = write
    connection.loop.advance(1)
    assert connection.received().endswith(b"answer me")


def test_no_buffers_and_then_nobody(connect: Connect) -> None:
    """A connection that ends meanwhile isn't watched again."""
    connection = connect(Probe(echo))
    server: Any = connection.server

    def full(_number: int, _data: bytes) -> int:
        raise OSError(errno.ENOBUFS, "no room")

    server._write = full
    server.write(b"x")
    connection.loop.settle()
    server.abortConnection()
    connection.loop.settle()
    connection.loop.advance(1)
    assert not connection.loop.writers
    assert connection.owner.ends == [End.DONE]


def test_what_was_read_outlasts_its_peer(connect: Connect) -> None:
    """What came with a PROXY header is the protocol's, though the peer has left before it was wanted."""
    got = Probe(on_made=lambda probe: probe.transport.pauseProducing())
    connection = connect(got)
    connection.server.give(b"accepted")
    connection.client.close()
    connection.server.peer_left(reset=False)  # as a sweep does after limits.stall
    connection.loop.settle()
    connection.server.resumeProducing()
    connection.loop.until(lambda: connection.owner.ends)
    assert got.data == b"accepted"


def test_what_was_read_outlasts_a_failed_answer(connect: Connect) -> None:
    """Nobody takes what we write any more; what came before is the protocol's all the same."""
    got = Probe(on_made=lambda probe: probe.transport.pauseProducing())
    connection = connect(got)
    connection.server.give(b"accepted")
    connection.client.close()
    connection.server.write(b"an answer")
    connection.loop.settle()
    assert connection.server.unsent == 0
    connection.server.resumeProducing()
    connection.loop.until(lambda: connection.owner.ends)
    assert got.data == b"accepted"
    assert connection.owner.ends == [End.PEER]


def test_reads_that_a_protocol_bounds(connect: Connect) -> None:
    """They stay as short, whatever comes."""
    pieces: list[int] = []
    connection = connect(Probe(lambda _probe, data: pieces.append(len(data))))
    connection.server.limit_read(1000)
    connection.client.send(bytes(2500))
    connection.loop.settle()
    assert pieces == [1000, 1000, 500]


def test_a_bound_of_a_whole_read_is_one(connect: Connect) -> None:
    """Full reads are followed by larger ones only where a protocol has said nothing."""
    connection = connect(Probe(), tcp_pair())
    sizes = noted_reads(connection.server)
    connection.server.limit_read(READ)
    connection.client.setblocking(True)
    connection.client.sendall(bytes(4 * READ))
    connection.loop.until(lambda: len(connection.protocol.data) == 4 * READ)
    assert max(sizes) <= READ
