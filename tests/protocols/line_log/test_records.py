"""The three formats: one record a line, whose bytes can be got back and whose marks can't be forged."""

import base64
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockd.base.lines import Sort, split
from sockd.base.text import UNSAFE, escape
from sockd.protocols.line_log.records import Mark, Records, records_for, timestamp

NOW = 1_795_150_800_123_456_789  # nanoseconds
TIME = "2026-11-20T05:00:00.123456Z"
PEER = "127.0.0.1:40122"
HEAD = f"{TIME} applog {PEER} ".encode()

LINES = st.lists(
    st.one_of(
        st.binary(max_size=10),
        st.text(max_size=10).map(str.encode),
        st.sampled_from([b'"', b"\\", b'\\"', b"\\{cut}", b"\x1b[31m", "\u2028\U000e0041".encode(), b"\xff"]),
    ).map(lambda line: line.replace(b"\n", b"")),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize(
    ("now", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (NOW, TIME),
        (NOW + 1000, "2026-11-20T05:00:00.123457Z"),
        (1_709_251_199_999_999_999, "2024-02-29T23:59:59.999999Z"),
    ],
)
def test_times(now: int, text: str) -> None:
    """UTC, microseconds, cut and not rounded, so that a time is never in the future."""
    assert timestamp(now) == text


@given(LINES, st.sampled_from(["text", "json", "raw"]))
def test_many_lines_give_what_each_gives_alone(lines: list[bytes], form: str) -> None:
    """The records of a chunk are those of its lines one by one, marks apart."""
    records = records_for(form, "applog")
    together = records.lines(NOW, PEER, b"".join(line + b"\n" for line in lines))
    assert together == b"".join(records.piece(NOW, PEER, line) for line in lines)


@given(LINES)
def test_text_is_the_head_and_the_escaped_line(lines: list[bytes]) -> None:
    """The plain way of writing the same."""
    text = records_for("text", "applog").lines(NOW, PEER, b"".join(line + b"\n" for line in lines))
    assert text == b"".join(HEAD + escape(line) + b"\n" for line in lines)


def of_json(record: bytes) -> bytes:
    value = json.loads(record)
    assert (value["time"], value["endpoint"], value["peer"]) == (TIME, "applog", PEER)
    if "text" in value:
        text: str = value["text"]
        return text.encode()
    line = base64.b64decode(value["base64"])
    with pytest.raises(UnicodeDecodeError):
        line.decode()
    return line


@given(LINES)
def test_json_gives_the_bytes_back(lines: list[bytes]) -> None:
    """Each record is an object whose text, or base64 where it isn't UTF-8, is the line."""
    written = records_for("json", "applog").lines(NOW, PEER, b"".join(line + b"\n" for line in lines))
    assert [of_json(record) for record in written.splitlines()] == lines
    assert not UNSAFE.search(written.decode().replace("\n", ""))


def test_json_is_readable() -> None:
    """Harmless bytes stay as they are; all others are escaped in JSON's own way."""
    written = records_for("json", "applog").piece(NOW, PEER, 'naïve "\\" \x1b\x7f\u2028\U000e0041'.encode())
    head = f'{{"time":"{TIME}","endpoint":"applog","peer":"{PEER}","text":"'
    assert written.decode() == head + r'naïve \"\\\" \u001b\u007f\u2028\udb40\udc41"}' + "\n"


@pytest.mark.parametrize(
    ("form", "mark", "end"),
    [
        ("text", Mark.CUT, b"tail\\{cut}\n"),
        ("text", Mark.NO_NEWLINE, b"tail\\{no newline}\n"),
        ("json", Mark.CUT, b'"text":"tail","cut":true}\n'),
        ("json", Mark.NO_NEWLINE, b'"text":"tail","newline":false}\n'),
        ("raw", Mark.CUT, b"tail\n"),
        ("raw", Mark.NO_NEWLINE, b"tail\n"),
    ],
)
def test_marks(form: str, mark: Mark, end: bytes) -> None:
    """The mark that sockd adds to a record, in each format; raw has none."""
    assert records_for(form, "applog").piece(NOW, PEER, b"tail", mark).endswith(end)


@given(
    LINES.map(b"".join),
    st.integers(4, 20),
    st.sampled_from(["text", "json", "raw"]),
    st.sampled_from([None, *Mark]),
)
def test_slices_make_the_same_record(line: bytes, size: int, form: str, mark: Mark | None) -> None:
    """Wherever it is sliced."""
    records = records_for(form, "applog")
    mark = None if mark is Mark.TORN else mark
    assert b"".join(records.slices(NOW, PEER, line, size, mark)) == records.piece(NOW, PEER, line, mark)


MARK = re.compile(rb"(?:[^\\]|\\(?:\\|x[0-9a-f]{2}|u\{[0-9a-f]+\}))*(\\\{(?:cut|no newline)\})?")


@given(st.binary(max_size=20) | st.sampled_from([b"\\{cut}", b"\\\\{cut}", b"x\\{no newline}", b" \\{torn}"]))
def test_no_peer_forges_a_mark(line: bytes) -> None:
    """Read from the left, a record has a mark exactly if sockd set it."""
    records = records_for("text", "applog")
    line = line.replace(b"\n", b"")
    for mark in (None, Mark.CUT, Mark.NO_NEWLINE):
        found = MARK.fullmatch(records.piece(NOW, PEER, line, mark).removeprefix(HEAD)[:-1])
        assert found
        assert found[1] == (mark and f"\\{{{mark}}}".encode())


@given(st.binary(max_size=20), st.integers(0, 200))
def test_a_torn_record_differs_from_every_whole_one(line: bytes, at: int) -> None:
    """Wherever a crash cuts a record, what ends it makes a line that no record equals."""
    records = records_for("text", "applog")
    whole = records.piece(NOW, PEER, line.replace(b"\n", b""))
    torn = whole[: min(at, len(whole) - 1)] + records.repair()
    assert torn.endswith(b" \\{torn}\n")
    assert torn.count(b"\n") == 1
    assert not re.fullmatch(rb"(?:[^\\]|\\[\\xu])*\\\\\{torn\}\n", torn)


def test_json_and_raw_end_a_torn_record() -> None:
    """JSON ends the line and says so in a record of its own; raw can only end it."""
    ended, marked = records_for("json", "applog").repair().splitlines()
    assert ended == b""
    assert json.loads(marked)["mark"] == "torn"
    assert records_for("raw", "applog").repair() == b"\n"


@given(st.binary(max_size=200), st.integers(4, 30))
def test_a_cut_line_is_put_together_again(data: bytes, limit: int) -> None:
    """The records of a line that was cut, their marks taken off, hold its bytes."""
    records: Records = records_for("text", "applog")
    line = data.replace(b"\n", b"")
    texts = []
    for sort, part in split(line, limit):
        mark = Mark.CUT if sort is Sort.CUT else Mark.NO_NEWLINE
        record = records.piece(NOW, PEER, part, mark)
        assert record.endswith(f"\\{{{mark}}}\n".encode())
        texts.append(record.removeprefix(HEAD).removesuffix(f"\\{{{mark}}}\n".encode()))
    assert b"".join(texts) == b"".join(escape(part) for _sort, part in split(line, limit))


def test_the_name_that_a_certificate_proves() -> None:
    """It follows the peer, in one field of its own in text, however it is spelt; raw has none."""
    name = 'Jöhn "x" Smith\u202e'
    text, values, raw = (records_for(form, "applog").identified(name) for form in ("text", "json", "raw"))
    assert text.lines(NOW, PEER, b"one\ntwo\n").decode().splitlines() == [
        rf"{HEAD.decode().rstrip()},identity=Jöhn\x20\"x\"\x20Smith\u{{202e}} {line}".replace('\\"', '"')
        for line in ("one", "two")
    ]
    (record,) = map(json.loads, values.piece(NOW, PEER, b"one").splitlines())
    assert list(record) == ["time", "endpoint", "peer", "identity", "text"]
    assert (record["peer"], record["identity"]) == (PEER, name)
    assert raw.lines(NOW, PEER, b"one\n") == b"one\n"
