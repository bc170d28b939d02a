"""line-log over datagrams, on a sink that keeps what it is given."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockd.base.lines import Sort, split
from sockd.base.peers import Peer
from sockd.protocols.line_log.datagram import SINK_FULL, WAITING_LIMIT, LineLogDatagrams
from sockd.protocols.line_log.records import Mark, records_for
from sockd.protocols.line_log.stream import RECORDS_PER_EVENT, STEP_SIZE
from tests.protocols.line_log.connected import MemorySink

ONE = Peer.inet(("127.0.0.1", 40122))
OTHER = Peer.unix(0, 7)


def listening(sink: Any, max_line: int = 64, form: str = "text") -> LineLogDatagrams:
    protocol = LineLogDatagrams(sink, sink.backlog, records_for(form, "applog"), max_line, lambda: 0)
    refused: Counter[str] = Counter()
    transport: Any = SimpleNamespace(
        counters=SimpleNamespace(refused=refused),
        refuse=lambda reason, peers: refused.update({reason: len(peers)}),
    )
    protocol.start(transport)
    return protocol


def plain(data: bytes, peer: str, max_line: int, form: str) -> bytes:
    """The records of one datagram, line by line: the plain way."""
    records, found = records_for(form, "applog"), []
    for sort, part in split(data, max_line):
        lines = part[:-1].split(b"\n") if sort is Sort.LINES else [part]
        mark = Mark.CUT if sort is Sort.CUT else None
        found += [records.piece(0, peer, line, mark) for line in lines]
    return b"".join(found)


def texts(sink: MemorySink) -> list[str]:
    lines = b"".join(sink.records).decode().splitlines()
    return [line.removeprefix("1970-01-01T00:00:00.000000Z applog ") for line in lines]


def test_a_batch_is_one_write() -> None:
    """The records of datagrams that came together, each with its peer, are one piece for the sink."""
    sink = MemorySink()
    listening(sink).datagrams([(b"one", ONE), (b"two\nthree\n", OTHER), (b"four\r\n", ONE)])
    assert len(sink.records) == 1
    assert texts(sink) == [f"{ONE.text} one", "uid=0,pid=7 two", "uid=0,pid=7 three", f"{ONE.text} four"]


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"no newline", ["no newline"]),
        (b"a\n\nb", ["a", "", "b"]),
        (b"a\r", ["a\\x0d"]),
        (b"a\r\nb\r", ["a", "b\\x0d"]),
        (b"x" * 65, ["x" * 64 + "\\{cut}", "x"]),
        (b"x" * 64, ["x" * 64]),
        (b"x" * 70 + b"\ny\n", ["x" * 64 + "\\{cut}", "x" * 6, "y"]),
        (b"\x1b[2J\x00", ["\\x1b[2J\\x00"]),
    ],
)
def test_the_lines_of_a_datagram(data: bytes, lines: list[str]) -> None:
    """Each line is a record; the last needs no newline; no byte, no record."""
    sink = MemorySink()
    listening(sink).datagrams([(data, OTHER)])
    assert texts(sink) == [f"uid=0,pid=7 {line}" for line in lines]


def test_a_full_sink_drops_and_counts() -> None:
    """There is nobody to slow down: what can't be taken is counted under its reason."""
    sink = MemorySink()
    protocol = listening(sink)
    sink.full = True
    protocol.datagrams([(b"one", ONE), (b"two", ONE)])
    assert sink.records == []
    assert protocol.transport.counters.refused == {SINK_FULL: 2}


PEERS = [ONE, OTHER, Peer.inet(("2001:db8::1", 5))]
LINES = st.binary(max_size=100) | st.sampled_from(
    [b"a", b"b\n", b"\n", b"a\r\n", "\u202ex".encode(), b"\xff", b"x" * 70]
)


@pytest.mark.parametrize("form", ["text", "json", "raw"])
@given(batch=st.lists(st.tuples(LINES, st.sampled_from(PEERS)), max_size=6), alike=st.booleans())
def test_datagrams_do_not_touch_each_other(form: str, batch: list[tuple[bytes, Peer]], alike: bool) -> None:
    """A batch gives what its datagrams give one by one, of one peer or of several."""
    if alike:
        batch = [(data, ONE) for data, _ in batch]
    together, apart = MemorySink(), MemorySink()
    listening(together, form=form).datagrams(batch)
    for one in batch:
        listening(apart, form=form).datagrams([one])
    assert b"".join(together.records) == b"".join(apart.records)
    assert len(together.records) <= 1


LONG = [
    b"\n" * 65_507,
    b"a\r\n" * 20_000,
    bytes(range(256)) * 250,
    "\u202e\x85".encode() * 13_000,
    ("é" * 60 + "\n").encode() * 500,
    b"x" * 65_507,
    b"x" * 5000 + b"\r",
    b"\x1b" * 64_000 + b"\r",
]


@pytest.mark.parametrize("form", ["text", "json", "raw"])
@pytest.mark.parametrize("max_line", [64, 65_536])
@pytest.mark.parametrize("data", LONG)
def test_long_datagrams_are_recorded_in_steps(data: bytes, max_line: int, form: str) -> None:
    """The records are the plain ones, in order, and no step makes much more than an event may."""
    sink = MemorySink()
    protocol = listening(sink, max_line, form)
    protocol.datagrams([(b"before", ONE), (data, OTHER), (b"a\nb", ONE)])
    protocol.datagrams([(b"after\n", OTHER)])
    steps = []
    while sink.backlog:
        before = len(sink.records)
        sink.clock.turn()
        steps.append(sum(map(len, sink.records[before:])))
    assert (
        max(steps, default=0) < RECORDS_PER_EVENT + 100 * STEP_SIZE
    )  # a step of newlines may give as much more
    assert b"".join(sink.records) == b"".join(
        plain(one, peer.text, max_line, form)
        for one, peer in ((b"before", ONE), (data, OTHER), (b"a\nb", ONE), (b"after\n", OTHER))
    )


def test_what_waits_is_bounded() -> None:
    """While datagrams take long others wait, up to a bound; what comes then is counted as dropped."""
    sink = MemorySink()
    protocol = listening(sink, 65_536)
    count = 0
    while not protocol.transport.counters.refused:
        protocol.datagrams([(b"\n" * 60_000, ONE), (b"x", OTHER)])
        count += 1
    assert protocol.transport.counters.refused == {SINK_FULL: 2}
    assert WAITING_LIMIT < protocol.held < WAITING_LIMIT + 70_000
    sink.turns()
    assert sink.text.count("\n") == (count - 1) * 60_001
    assert protocol.held == 0
    protocol.datagrams([(b"x", OTHER)])
    assert sink.text.count("\n") == (count - 1) * 60_001 + 1


def test_all_is_recorded_before_an_end() -> None:
    """A stop or an upgrade doesn't wait for later turns."""
    sink = MemorySink()
    listening(sink, 65_536).datagrams([(b"\n" * 60_000, ONE)] * 4)
    assert sink.backlog
    sink.backlog.finish()
    assert not sink.backlog
    assert sink.text.count("\n") == 240_000


def test_many_that_are_slow_to_escape() -> None:
    """Lines that aren't ASCII, more than an event may escape, are recorded in several turns, in order."""
    sink = MemorySink()
    batch = [(f"{number} ".encode() + "é".encode() * 1500, ONE) for number in range(32)]
    listening(sink, 65_536).datagrams(batch)
    assert sink.turns() > 1
    assert [text.split()[1] for text in texts(sink)] == [str(number) for number in range(32)]
