"""The hot path of a connection does what the plain one would: same bytes, same calls, same ends."""

import errno
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sockd.base.metrics import Counters
from sockd.base.peers import Peer
from sockd.transports.connection import WAITING_LIMIT, Connection
from sockd.transports.fields import BULK_READ_SIZE, HIGH_WATER, READ_SIZE
from sockd.transports.flush import Flusher
from sockd.transports.listening import Listening
from sockd.transports.reading import BY_PROTOCOL
from tests.transports.loop import (
    Connect,
    HalfProbe,
    Loop,
    Probe,
    Recorder,
    noted_reads,
    replace_system_calls,
    tcp_pair,
)

PEERS = 3
AGAIN, GONE, SHORT = -1, -2, -3
WHO = st.integers(0, PEERS - 1)
SIZES = st.one_of(st.integers(0, 200), st.sampled_from([HIGH_WATER - 1, HIGH_WATER + 1, 3 * HIGH_WATER]))
# What the kernel does with each send: takes so many bytes, or says this.
ANSWERS = st.lists(st.sampled_from([AGAIN, AGAIN, GONE, SHORT, 1, 50, 1000, HIGH_WATER, 1 << 30]), max_size=8)
MILD = ["pauseProducing", "resumeProducing", "unregisterProducer"]
ENDS = ["loseConnection", "loseConnection", "loseWriteConnection", "abortConnection", "raise"]
WHOM = st.one_of(st.none(), st.none(), WHO)  # None: whose event it is
WRITE = st.tuples(st.just("write"), WHOM, SIZES)
ACTIONS = st.one_of(
    WRITE,
    WRITE,
    st.tuples(st.sampled_from([*MILD, *ENDS]), WHOM, st.none()),
    st.tuples(st.just("registerProducer"), WHOM, st.booleans()),
)
STEPS: st.SearchStrategy[list[Any]] = st.lists(
    st.one_of(
        st.tuples(st.just("event"), WHO, st.lists(ACTIONS, min_size=1, max_size=5)),
        st.tuples(st.just("event"), WHO, st.lists(ACTIONS, min_size=1, max_size=5)),
        st.tuples(st.just("outside"), WHO, st.lists(ACTIONS, max_size=2)),
        st.tuples(st.sampled_from(["fin", "reset", *["turn"] * 8]), WHO, st.just([])),
    ),
    min_size=1,
    max_size=25,
)


class Fast(Connection):
    """As it is; the test needs to know what its flusher should have counted."""

    __slots__ = ()

    @property
    def counted_waiting(self) -> int:
        return self._writing + (self.connected and self._paused & BY_PROTOCOL)


class Plain(Fast):
    """Without the short cuts: whoever has something to send waits in one queue, and is sent it in one way."""

    __slots__ = ()

    def doRead(self) -> None:
        if not self._reading:
            return
        try:
            data = self._read(self._fd, self._read_size)
        except OSError as error:
            self._broken(error)
            return
        if not data:
            self._peer_finished()
            return
        if self.disconnecting:
            return
        self.received += len(data)
        self.counters.bytes_in += len(data)
        self._flusher.active = True
        try:
            self.protocol.dataReceived(data)
        except ZeroDivisionError:
            self._failed("dataReceived")
        self._flusher.end()

    def flush(self) -> None:
        self._dirty = False
        if self._alive and not self._writing:
            self._send_out()
            self._flushed()


class Kernel:
    """A socket whose sends go as `answers` say, and then all at once; `comes` is what is read next."""

    family = socket.AF_UNIX

    def __init__(self, number: int, answers: Sequence[int]) -> None:
        self.number = number
        self.answers = list(answers)
        self.comes: list[bytes | OSError] = []
        self.calls: list[bytes] = []

    def fileno(self) -> int:
        return self.number

    def read(self, number: int, size: int) -> bytes:
        came = self.comes.pop(0)
        if isinstance(came, OSError):
            raise came
        return came

    def write(self, number: int, data: Any) -> int:
        answer = self.answers.pop(0) if self.answers else len(data)
        if answer == AGAIN:
            raise BlockingIOError
        if answer < 0:
            number = errno.EPIPE if answer == GONE else errno.ENOBUFS
            raise OSError(number, "")
        self.calls.append(bytes(data[:answer]))
        return len(self.calls[-1])

    def shutdown(self, how: int) -> None:
        self.calls.append(b"FIN")

    def close(self) -> None:
        self.calls.append(b"close")


class Producer:
    """Notes what it is told."""

    def __init__(self, told: list[str], connection: Connection) -> None:
        self.told = told
        self.connection = connection

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")
        if self.told.count("resume") > 3:
            self.connection.unregisterProducer()

    def stopProducing(self) -> None:
        self.told.append("stop")


class World:
    """Some connections of one kind, and what has become of them."""

    def __init__(self, kind: type[Fast], answers: Sequence[Sequence[int]], half: bool) -> None:
        self.loop = Loop()
        self.turn = Flusher(self.loop)
        self.owner = Recorder(self.loop)
        self.counters = Counters()
        self.told: list[list[str]] = [[] for _ in answers]
        self.actions: list[tuple[str, int | None, Any]] = []
        self.who = 0
        self.kernels = [Kernel(number, one) for number, one in enumerate(answers)]
        self.connections: list[Fast] = []
        self.probes: list[Probe] = []
        for kernel in self.kernels:
            sock: Any = kernel
            connection = kind(sock, Peer.unix(0, 1), self.turn, self.owner, Listening("test", self.counters))
            replace_system_calls(connection, read=kernel.read, write=kernel.write)
            self.connections.append(connection)
            self.probes.append((HalfProbe if half else Probe)(on_data=lambda *_: self.act()))
            connection.start(self.probes[-1])

    def act(self) -> None:
        actions, self.actions = self.actions, []
        for what, whom, how in actions:
            who = self.who if whom is None else whom
            connection = self.connections[who]
            if what == "raise":
                raise ZeroDivisionError
            if what == "write":
                connection.write(b"x" * how)
            elif what != "registerProducer":
                getattr(connection, what)()
            else:
                with suppress(RuntimeError):  # it has one
                    connection.registerProducer(Producer(self.told[who], connection), how)

    def step(self, what: str, who: int, actions: list[tuple[str, int | None, Any]]) -> None:
        self.actions, self.who = actions, who
        if what == "outside":
            self.actions = [action for action in actions if action[0] != "raise"]
            self.act()
            self.loop.advance(0)
        elif what == "turn":
            for connection in self.connections:
                if connection in self.loop.writers:
                    connection.doWrite()
            self.loop.advance(0)
        elif self.connections[who] in self.loop.readers:
            reset = ConnectionResetError(errno.ECONNRESET, "")
            self.kernels[who].comes = [{"event": b"!", "fin": b"", "reset": reset}[what]]  # type: ignore[list-item]
            self.connections[who].doRead()

    @property
    def state(self) -> list[object]:
        """All that anybody else can see."""
        of_each = [
            (
                kernel.calls, told, one.unsent, one.sent, one.received, one.connected, one.end,
                one.disconnecting, one in self.loop.readers, one in self.loop.writers,
                [lost.type for lost in probe.lost], getattr(probe, "events", None),
            )
            for kernel, told, one, probe in zip(
                self.kernels, self.told, self.connections, self.probes, strict=True
            )
        ]  # fmt: skip
        counters = self.counters
        assert self.turn.waiting == sum(one.counted_waiting for one in self.connections)
        return [*of_each, counters.bytes_in, counters.bytes_out, dict(counters.refused), self.owner.failures]


@settings(max_examples=500)  # with fewer a missing condition may not be seen
@given(answers=st.tuples(*[ANSWERS] * PEERS), steps=STEPS, half=st.booleans())
def test_as_the_plain_path(answers: tuple[list[int], ...], steps: list[Any], half: bool) -> None:
    """Whatever is written, by whom, in an event or outside, and whatever the kernel says to it."""
    fast, plain = World(Fast, answers, half), World(Plain, answers, half)
    for step in steps:
        for world in (fast, plain):
            world.step(*step)
        assert fast.state == plain.state
    for _ in range(6):
        for world in (fast, plain):
            world.loop.advance(1)
            world.step("turn", 0, [])
        assert fast.state == plain.state


@pytest.mark.parametrize(
    ("answer", "unsent", "writing"), [(AGAIN, 6, True), (2, 4, True), (6, 0, False), (GONE, 0, False)]
)
def test_one_answer(answer: int, unsent: int, writing: bool) -> None:
    """What the kernel doesn't take waits until there is room; where there is nobody it is dropped."""
    world = World(Fast, [[answer]], half=False)
    world.step("event", 0, [("write", 0, 6)])
    (connection,), (kernel,) = world.connections, world.kernels
    assert connection.unsent == unsent
    assert (connection in world.loop.writers) == writing
    assert connection in world.loop.readers
    world.step("turn", 0, [])
    assert b"".join(kernel.calls) == (b"" if answer == GONE else b"xxxxxx")
    assert not world.loop.writers


def test_written_before_the_event() -> None:
    """It leaves together with what the event writes, which is before its own turn would have come."""
    world = World(Fast, [[]], half=False)
    world.connections[0].write(b"one, ")
    world.connections[0].write(b"two, ")
    world.step("event", 0, [("write", 0, 2)])
    assert world.kernels[0].calls == [b"one, two, xx"]
    world.connections[0].write(b"three")
    world.step("event", 0, [])
    for _ in range(3):
        world.step("turn", 0, [])
    assert world.kernels[0].calls == [b"one, two, xx", b"three"]


def test_reads_grow_and_shrink(connect: Connect) -> None:
    """A full read has the next one take more, a smaller one brings them back."""
    exchange = connect(Probe(), tcp_pair())
    sizes = noted_reads(exchange.connection)
    exchange.client.setblocking(True)
    for data in (b"x", bytes(READ_SIZE), bytes(READ_SIZE), b"x", b"x"):
        exchange.client.sendall(data)
        wanted = len(exchange.protocol.data) + len(data)
        exchange.loop.until(lambda wanted=wanted: len(exchange.protocol.data) == wanted)  # type: ignore[misc]
    assert set(sizes) == {READ_SIZE, BULK_READ_SIZE}
    assert sizes[0] == sizes[-1] == READ_SIZE


def test_no_bulk_for_many_who_do_not_read(connect: Connect) -> None:
    """What a read took may have to be kept: while many wait for their peers to read, all read little."""
    exchange = connect(Probe(), tcp_pair())
    sizes = noted_reads(exchange.connection)
    exchange.client.setblocking(True)
    for waiting, expected in (
        (0, BULK_READ_SIZE),
        (WAITING_LIMIT, BULK_READ_SIZE),
        (WAITING_LIMIT + 1, READ_SIZE),
        (0, BULK_READ_SIZE),
    ):
        exchange.turn.waiting = waiting
        del sizes[:]
        exchange.client.sendall(bytes(4 * READ_SIZE))
        wanted = len(exchange.protocol.data) + 4 * READ_SIZE
        exchange.loop.until(lambda wanted=wanted: len(exchange.protocol.data) == wanted)  # type: ignore[misc]
        assert max(sizes) == expected


def test_who_is_paused_may_hold_what_was_read(connect: Connect) -> None:
    """It counts among those who wait, once, until its protocol wants more or it ends."""
    exchange = connect(Probe())
    connection, turn = exchange.connection, exchange.turn
    for _ in range(2):
        connection.pauseProducing()
        assert turn.waiting == 1
    connection.resumeProducing()
    connection.resumeProducing()
    assert turn.waiting == 0
    connection.pauseProducing()
    connection.abortConnection()
    exchange.loop.until(lambda: exchange.owner.ends)
    connection.pauseProducing()
    connection.resumeProducing()
    assert turn.waiting == 0
