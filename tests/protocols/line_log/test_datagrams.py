"""line-log over datagrams, on a sink that keeps what it is given."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockd.peers import Peer
from sockd.protocols.line_log.datagram import SINK_FULL, LineLogDatagrams
from sockd.protocols.line_log.records import records_for

ONE = Peer.inet(("127.0.0.1", 40122))
OTHER = Peer.unix(0, 7)


class MemorySink:
    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.full = False

    def write(self, records: bytes) -> None:
        self.records.append(records)


def listening(sink: Any, max_line: int = 64, form: str = "text") -> LineLogDatagrams:
    protocol = LineLogDatagrams(sink, records_for(form, "applog"), max_line, lambda: 0)
    transport: Any = SimpleNamespace(counters=SimpleNamespace(refused=Counter()))
    protocol.start(transport)
    return protocol


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
