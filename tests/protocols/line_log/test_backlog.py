"""The backlog holds what one event may not record; nothing is lost, doubled or out of order."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError
from twisted.logger import Logger, formatEvent

from sockd.base.lines import Sort, split
from sockd.base.reactor import later_by
from sockd.protocols.contract import Host
from sockd.protocols.line_log import stream
from sockd.protocols.line_log.options import LineLogOptions
from sockd.protocols.line_log.records import Mark, records_for
from sockd.protocols.line_log.service import Backlog, LineLogService
from sockd.protocols.line_log.stream import LineLogConnection
from tests.protocols.line_log.connected import MemorySink, Transport, Turns, build, connect, is_paused, thawed
from tests.sinks.stepped import StepWorker, result

READ = 128 * 1024


def plain(data: bytes, max_line: int, form: str) -> bytes:
    """The records of a whole connection, one by one: the plain way."""
    records = records_for(form, "applog")
    marks = {Sort.CUT: Mark.CUT, Sort.UNFINISHED: Mark.NO_NEWLINE}
    found = []
    for sort, part in split(data, max_line):
        if sort is Sort.LINES:
            found += [records.piece(0, "uid=0,pid=7", line) for line in part[:-1].split(b"\n")]
        else:
            found.append(records.piece(0, "uid=0,pid=7", part, marks[sort]))
    return b"".join(found)


@contextmanager
def bounds(step: int, beyond_ascii: int, most: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "STEP_SIZE", step)
        patch.setattr(stream, "STEP_SIZE_NON_ASCII", beyond_ascii)
        patch.setattr(stream, "RECORDS_PER_EVENT", most)
        yield


LINES = st.lists(
    st.one_of(
        st.just(b"\n"),
        st.sampled_from([b"\r\n", b"\r", b"word\n", "ä\u202e\n".encode(), b"\xff\n", b"x" * 40]),
        st.binary(max_size=12),
    ),
    max_size=30,
).map(b"".join)
DEEDS = st.lists(st.sampled_from(["read", "turn", "full", "room", "upgrade"]), max_size=30)


@given(
    LINES,
    DEEDS,
    st.integers(4, 60),
    st.integers(4, 40),
    st.integers(1, 3000),
    st.sampled_from(["text", "json"]),
)
def test_the_same_records_as_the_plain_way(
    data: bytes, deeds: list[str], step: int, beyond_ascii: int, most: int, form: str
) -> None:
    """Whatever the bounds, wherever the sink fills, the program is replaced or the connection ends."""
    sink = MemorySink()
    rest, protocol = data, connect(sink, max_line=16, form=form)
    with bounds(step, beyond_ascii, most):
        for deed in deeds:
            if deed == "read" and not is_paused(protocol):
                protocol.dataReceived(rest[:50])
                rest = rest[50:]
            elif deed == "turn":
                sink.clock.turn()
            elif deed == "full":
                sink.fill()
            elif deed == "room":
                sink.empty()
            elif deed == "upgrade":
                old, full = sink, sink.full
                sink = MemorySink()
                sink.records = old.records
                if full:
                    sink.fill()
                protocol = thawed(protocol, sink, max_line=16, form=form)
        sink.empty()
        while rest or is_paused(protocol):
            sink.turns()
            assert not is_paused(protocol)
            protocol.dataReceived(rest[:50])
            rest = rest[50:]
        protocol.connectionLost()
        sink.turns()
    assert b"".join(sink.records) == plain(data, 16, form)


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("unit", [b"\n", b"x\n", b"\xff\n", b"\x00\n"])
def test_a_read_of_tiny_lines_is_many_events(unit: bytes, form: str) -> None:
    """Each makes about a megabyte of records at most; nothing is read until all of it is recorded."""
    sink = MemorySink()
    protocol = connect(sink, form=form)
    data = unit * (READ // len(unit))
    protocol.dataReceived(data)
    assert is_paused(protocol)
    before = 0
    while sink.backlog:
        made = sum(map(len, sink.records))
        assert made - before < 2 * 1024 * 1024
        before = made
        sink.clock.turn()
    assert not is_paused(protocol)
    assert b"".join(sink.records).count(b"\n") == data.count(b"\n")


def test_a_read_of_ordinary_lines_is_one_event() -> None:
    """Of 120 and of 60 bytes, as text, with nothing left for later."""
    for line in (b"x" * 119 + b"\n", b"x" * 59 + b"\n"):
        sink = MemorySink()
        protocol = connect(sink, max_line=65536)
        protocol.dataReceived((line * (READ // len(line) + 1))[:READ])
        assert not sink.backlog
        assert not is_paused(protocol)


def test_pieces_of_long_lines_count_as_work() -> None:
    """They are recorded one by one, so one event takes a bounded number of them."""
    sink = MemorySink()
    connect(sink, max_line=64).dataReceived(b"x" * READ)
    assert len(sink.backlog) == 1
    assert b"".join(sink.records).count(b"\n") < 600


@pytest.mark.parametrize("end", [b"", b"\n", b"\nmore\n"])
@pytest.mark.parametrize("unit", [b"\xff", "\u202e".encode()])
def test_a_long_line_that_is_slow_to_escape_is_many_events(unit: bytes, end: bytes) -> None:
    """Whether a newline ends it or the connection."""
    sink = MemorySink()
    protocol = connect(sink, max_line=65536)
    line = unit * (60_000 // len(unit))
    protocol.dataReceived(line)
    assert sink.records == []
    if end:
        protocol.dataReceived(end)
        assert is_paused(protocol)
        assert sink.records == []
        assert is_paused(thawed(protocol, MemorySink(), 65536))
    protocol.connectionLost()
    assert sink.turns() > 5
    assert b"".join(sink.records) == plain(line + end, 65536, "text")


def test_connections_take_turns() -> None:
    """One that sends newlines without end delays another's rest by one event."""
    sink = MemorySink()
    one, other = connect(sink, max_line=65536), connect(sink, max_line=65536)
    one.dataReceived(b"\n" * READ)
    other.dataReceived(b"\n" * (3 * stream.STEP_SIZE))
    for _ in range(4):
        sink.clock.turn()
    assert is_paused(other) is False
    assert is_paused(one) is True


def test_what_a_connection_left_is_recorded_after_its_end() -> None:
    """By and by, and its last line is marked."""
    sink = MemorySink()
    protocol = connect(sink)
    data = b"\n" * READ + b"the last"
    protocol.dataReceived(data)
    protocol.connectionLost()
    assert sink.sources == []
    assert sink.turns() > 5
    assert b"".join(sink.records) == plain(data, 64, "text")


def test_nothing_is_recorded_while_the_sink_is_full() -> None:
    """The connection isn't read from either, until the sink and the backlog have gone on."""
    sink = MemorySink()
    protocol = connect(sink, max_line=65536)
    protocol.dataReceived(b"\n" * (2 * stream.STEP_SIZE))
    sink.fill()
    made = len(sink.records)
    sink.clock.turn()
    assert len(sink.records) == made
    sink.empty()
    assert is_paused(protocol)
    sink.fill()
    sink.empty()
    sink.clock.turn()
    assert not is_paused(protocol)
    protocol.dataReceived(b"\n" * (2 * stream.STEP_SIZE))
    sink.fill(but=sink.backlog)
    sink.clock.turn()
    assert not sink.backlog
    assert is_paused(protocol)
    sink.empty()
    assert not is_paused(protocol)


def test_what_comes_though_it_is_paused() -> None:
    """A transport that had more at hand gives it; it is recorded in order."""
    sink = MemorySink()
    protocol = connect(sink)
    protocol.dataReceived(b"\n" * READ)
    protocol.dataReceived(b"more\n")
    sink.turns()
    assert sink.text.endswith(" more\n")


def test_one_that_raises_does_not_stop_the_others() -> None:
    """It has had its turn; who comes after it goes on."""
    clock = Turns()
    backlog = Backlog(later_by(clock))
    done: list[str] = []

    class Work:
        ended = False

        def __init__(self, name: str) -> None:
            self.name = name

        def record_some(self) -> bool:
            if self.name == "faulty":
                raise ValueError(self.name)
            return False

        def all_recorded(self) -> None:
            done.append(self.name)

    backlog.add(Work("faulty"))
    backlog.add(Work("good"))
    with pytest.raises(ValueError, match="faulty"):
        clock.turn()
    clock.turn()
    assert done == ["good"]


class Running:
    """A line-log service on a worker that is stepped by hand."""

    def __init__(self, path: Path) -> None:
        self.clock = Turns()
        self.path = path
        self.logged: list[str] = []
        self.failed: list[Exception] = []
        log = Logger(observer=lambda event: self.logged.append(formatEvent(event)))  # type: ignore[arg-type]
        options = LineLogOptions(path=path)
        self.service = LineLogService(Host("applog", options, self.clock, log, self.failed.append))
        self.worker = self.service.worker = StepWorker(self.clock)

    def start(self) -> None:
        self.service.startService()
        self.worker.steps()

    def connect(self) -> LineLogConnection:
        protocol = build(self.service, 64, "text")
        protocol.makeConnection(Transport())
        return protocol

    def run(self) -> None:
        while self.worker.jobs or self.clock.getDelayedCalls():
            if self.worker.jobs:
                self.worker.step()
            self.clock.turn()


@pytest.fixture
def one(tmp_path: Path) -> Running:
    return Running(tmp_path / "app.log")


def leave(one: Running) -> bytes:
    """A connection that ends with much in the backlog; what the file is to hold of it."""
    data = b"\n" * READ + b"the last"
    protocol = one.connect()
    protocol.dataReceived(data)
    protocol.connectionLost()
    assert one.service.backlog
    return plain(data, 64, "text")


def timeless(records: bytes) -> list[bytes]:
    return [line.split(b" ", 1)[1] for line in records.splitlines()]


def test_a_stop_waits_for_the_backlog(one: Running) -> None:
    """What was accepted is in the file when it has stopped."""
    one.start()
    expected = leave(one)
    done = one.service.stopService()
    one.run()
    assert result(done) is None
    assert one.path.read_bytes() == expected
    assert one.logged == []


def test_the_deadline_of_a_stop_counts_the_backlog(one: Running) -> None:
    """Each line of it is logged as lost."""
    lines = leave(one).count(b"\n")
    done = one.service.stopService()
    done.cancel()
    assert result(done) is None
    assert one.logged == [
        f"applog: {one.path}: {lines} lines were lost: the deadline for stopping has passed"
    ]


def test_the_next_program_gets_what_ended_connections_left(one: Running) -> None:
    """It gets them as records; this program writes them as well, should it go on."""
    one.start()
    expected = leave(one)
    one.worker.steps()
    state = result(one.service.freeze())
    assert not one.service.backlog
    other = Running(one.path.with_name("other.log"))
    other.service.thaw(state)
    other.start()
    other.run()
    one.run()
    written = one.path.read_bytes()
    assert written == expected
    assert written.endswith(other.path.read_bytes())
    assert state["unwritten"] == other.path.read_bytes()


def test_a_freeze_during_a_write(one: Running) -> None:
    """The rest of an ended connection comes after that, once."""
    one.start()
    expected = leave(one)
    states: list[Any] = []
    one.service.freeze().addCallback(states.append)
    assert not states
    one.worker.step()
    (state,) = states
    written = one.path.read_bytes()
    assert written + state["unwritten"] == expected
    one.run()
    assert one.path.read_bytes() == expected
    assert not result(one.service.freeze())["unwritten"]


def test_a_stop_with_a_full_sink(one: Running) -> None:
    """The backlog goes on as the sink gets room, though nothing but the stop writes."""
    expected = b"".join(leave(one) for _ in range(2))
    for _ in range(30):
        one.clock.turn()
    assert one.service.full
    assert one.service.backlog
    done = one.service.stopService()
    one.run()
    assert result(done) is None
    assert sorted(one.path.read_bytes().splitlines()) == sorted(expected.splitlines())


def test_giving_up_a_freeze(one: Running) -> None:
    """Cancelled before the write ends, it has changed nothing."""
    one.start()
    expected = leave(one)
    waits = one.service.freeze()
    waits.cancel()
    assert result(waits).check(CancelledError)
    assert one.service.backlog
    one.run()
    assert one.path.read_bytes() == expected


def test_newcomers_wait_their_turn() -> None:
    """A peer that sends much, resets and connects again fills no memory; others are heard in the end."""
    sink = MemorySink()
    honest = None
    for number in range(300):
        one = connect(sink, max_line=65536)
        if number == 100:
            honest = one
            continue
        if not is_paused(one):
            one.dataReceived(b"\n" * READ)
        one.connectionLost()
        sink.clock.turn()
        assert len(sink.backlog) <= 3 * stream.CROWDED_BACKLOG
    assert honest is not None
    while is_paused(honest):
        assert len(sink.backlog)
        sink.clock.turn()


def crowded() -> MemorySink:
    """A sink whose backlog is just crowded."""
    sink = MemorySink()
    for _ in range(stream.CROWDED_BACKLOG):
        connect(sink, max_line=65536).dataReceived(b"\n" * READ)
    assert len(sink.backlog) == stream.CROWDED_BACKLOG
    return sink


def test_a_newcomer_waits_when_the_sink_has_room_again() -> None:
    """For those before it, as if the sink had never been full; then it goes on."""
    sink = crowded()
    newcomer = connect(sink)
    sink.fill()
    sink.empty()
    assert is_paused(newcomer)
    assert len(sink.backlog) == stream.CROWDED_BACKLOG + 1
    sink.turns()
    assert not is_paused(newcomer)


def test_a_newcomer_waits_for_those_before_it_and_the_sink() -> None:
    """It is read from after whichever comes last."""
    sink = crowded()
    newcomer = connect(sink)
    for one in (newcomer, *sink.sources):
        one.pauseProducing()
    sink.turns()
    assert is_paused(newcomer)
    sink.empty()
    assert not is_paused(newcomer)


def test_a_newcomer_that_brings_something_is_queued_once() -> None:
    """A connection of the old program brings unrecorded bytes: they are recorded in its turn, once."""
    before = connect(MemorySink(), max_line=65536)
    before.dataReceived(b"\n" * READ + b"the last")
    sink = crowded()
    recorded = len(sink.records)
    newcomer = thawed(before, sink, max_line=65536)
    assert len(sink.backlog) == stream.CROWDED_BACKLOG + 1
    assert len(sink.records) == recorded
    newcomer.connectionLost()
    sink.turns()
    assert sink.text.count("the last") == 1
