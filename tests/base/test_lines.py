"""Line splitting: any chunking gives the same lines, and nothing is lost or kept without bound."""

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sockd.base.lines import TOO_LONG, LineSplitter, Mark, Part, Sort, split

LIMIT = 8
STREAM = st.lists(
    st.one_of(
        st.sampled_from(
            [b"\n", b"\r\n", b"\r", "é".encode(), "日".encode(), "😀".encode(), b"\x80", b"x" * 7]
        ),
        st.binary(max_size=12),
    ),
    max_size=20,
).map(b"".join)

Line = tuple[bytes, Sort]


def reference(data: bytes, limit: int) -> list[Line]:
    """The lines of a stream, one by one: the plain way."""
    *complete, last = data.split(b"\n")
    lines: list[Line] = []
    for line in complete:
        lines += pieces(line.removesuffix(b"\r"), limit, Sort.LINES)
    if last:
        lines += pieces(last, limit, Sort.UNFINISHED)
    return lines


def pieces(line: bytes, limit: int, last: Sort) -> list[Line]:
    found: list[Line] = []
    while len(line) > limit:
        # Before the character that the limit would cut, unless so many bytes are no character.
        at = next((at for at in range(limit, limit - 4, -1) if not 0x80 <= line[at] < 0xC0), limit)
        found.append((line[:at], Sort.CUT))
        line = line[at:]
    return [*found, (line, last)]


def flat(parts: Iterable[Part]) -> list[Line]:
    lines: list[Line] = []
    for sort, data in parts:
        if sort is Sort.LINES:
            assert data.endswith(b"\n")
            lines += [(line, sort) for line in data[:-1].split(b"\n")]
        else:
            lines.append((data, sort))
    return lines


@given(STREAM, st.lists(st.integers(1, 40), max_size=30), st.integers(4, 20))
@example(b"x" * 8 + b"\r\n", [9], 8)
@example(b"x" * 9 + b"\r\n", [9, 1], 8)
@example(b"x" * 8 + b"\r\r\n", [9, 1], 8)
@example(b"x" * 9 + b"\r", [], 8)
@example(b"short\n" + b"x" * 30 + b"\n\n", [], 8)
def test_any_chunking_gives_the_same_lines(data: bytes, sizes: list[int], limit: int) -> None:
    """However the stream is cut into chunks, its lines are those of the plain way."""
    splitter = LineSplitter(limit)
    parts: list[Part] = []
    rest = data
    for size in sizes:
        parts += splitter.feed(rest[:size])
        rest = rest[size:]
        assert len(splitter.rest) <= limit + 1
    parts += splitter.feed(rest) + splitter.end()
    assert flat(parts) == reference(data, limit)


@given(STREAM)
def test_a_datagram_is_a_stream_that_ends(data: bytes) -> None:
    """`split` gives the same lines as a connection that sends these bytes."""
    assert flat(split(data, LIMIT)) == reference(data, LIMIT)


def test_many_lines_are_one_part() -> None:
    """No work is done for each line when none is too long, and one whole chunk isn't even copied."""
    chunk = b"line\n" * 1000
    (part,) = LineSplitter(64).feed(chunk)
    assert part == (Sort.LINES, chunk)
    assert part.data is chunk


@given(STREAM, STREAM)
@example(b"", b"x" * 8 + b"\n")
@example(b"", b"x" * 9 + b"\n")
def test_a_chunk_alone(before: bytes, chunk: bytes) -> None:
    """One that is said to stand for itself needs no splitter: nothing waits, nothing is cut or kept."""
    splitter = LineSplitter(LIMIT)
    splitter.feed(before)
    if splitter.alone(chunk):
        assert splitter.feed(chunk) == [(Sort.LINES, chunk)]
        assert not splitter.rest


def test_an_endless_line_is_never_kept() -> None:
    """A line of 10 MB comes out as it comes in, in pieces of the limit."""
    splitter = LineSplitter(64)
    total = 0
    for _ in range(160):
        for sort, data in splitter.feed(b"x" * 65536):
            assert (sort, len(data)) == (Sort.CUT, 64)
            total += len(data)
        assert len(splitter.rest) <= 65
    assert total + len(splitter.rest) == 160 * 65536


@pytest.mark.parametrize("character", ["é", "日", "😀"])
def test_a_cut_leaves_characters_whole(character: str) -> None:
    """Wherever the limit falls, each piece is valid UTF-8."""
    for limit in range(4, 16):
        for before in range(4):
            line = ("x" * before + character * 20).encode()
            texts = [data.decode() for data, _sort in flat(split(line + b"\n", limit))]
            assert "".join(texts) == line.decode()


def test_nothing_gives_nothing() -> None:
    """An empty datagram has no line, and a connection without a byte none either."""
    assert split(b"", LIMIT) == []
    assert split(b"\n", LIMIT) == [(Sort.LINES, b"\n")]


@given(STREAM, st.integers(0, 60), st.integers(4, 20))
def test_the_rest_is_all_there_is_to_hand_on(data: bytes, at: int, limit: int) -> None:
    """A new splitter that is fed the unfinished line of another goes on as that would have."""
    old, new, whole = (LineSplitter(limit) for _ in range(3))
    before = old.feed(data[:at])
    assert not new.feed(old.rest)
    after = new.feed(data[at:]) + new.end()
    assert flat(before + after) == flat(whole.feed(data) + whole.end())


# -- one line at a time


def taken(splitter: LineSplitter) -> list[bytes | Mark]:
    return list(iter(splitter.take, None))


def plain(data: bytes, limit: int, *, blank_lines: bool) -> list[bytes | Mark]:
    """The lines that can be taken, by the plain rule; without blank ones, CRs before a line are blank too."""
    *complete, last = data.split(b"\n")
    if not blank_lines:
        complete = [line.removesuffix(b"\r").lstrip(b"\r") for line in complete]
        complete = [line for line in complete if line]
        last = last.lstrip(b"\r")
    lines: list[bytes | Mark] = []
    for line in complete:
        text = line.removesuffix(b"\r") if blank_lines else line
        lines.append(text if len(text) <= limit else TOO_LONG)
    return lines + [TOO_LONG] * (len(last.removesuffix(b"\r")) > limit)


@given(STREAM, st.lists(st.integers(0, 100), max_size=12), st.integers(4, 20), st.booleans(), st.booleans())
@example(b"x" * 9, [], 8, True, False)
@example(b"x" * 8 + b"\r\n", [9], 8, True, False)
@example(b"a\n\r" + b"x" * 8 + b"\n", [3], 8, False, False)
def test_lines_that_are_taken(
    data: bytes, cuts: list[int], limit: int, blank_lines: bool, frozen: bool
) -> None:
    """However the stream is cut into chunks, and handed on between them, its lines are the same."""
    splitter, found = LineSplitter(limit, blank_lines=blank_lines), []
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in pairwise(places):
        splitter.add(data[start:end])
        if frozen:
            state, splitter = splitter.freeze(), LineSplitter(limit, blank_lines=blank_lines)
            splitter.thaw(state)
        found += taken(splitter)
    assert found == plain(data, limit, blank_lines=blank_lines)


def test_lines_that_are_not_taken_wait() -> None:
    """More may be added behind them, and all of it can be handed on."""
    splitter = LineSplitter(LIMIT)
    splitter.add(b"one\ntwo\nthr")
    assert splitter.take() == b"one"
    assert splitter.rest == b"two\nthr"
    splitter.add(b"ee\n")
    assert taken(splitter) == [b"two", b"three"]
    assert splitter.rest == b""


def test_an_endless_line_is_reported_once() -> None:
    """It takes no memory, and what follows its end is taken again."""
    splitter = LineSplitter(64)
    marks = []
    for _ in range(160):
        splitter.add(b"x" * 65536)
        marks += taken(splitter)
        assert splitter.rest == b""
    assert marks == [TOO_LONG]
    splitter.add(b"end of it\nnext\n")
    assert taken(splitter) == [b"next"]


@pytest.mark.parametrize("state", [{}, {"from another version": 1}])
def test_a_state_that_lacks_what_is_needed(state: dict[str, object]) -> None:
    """It is that of a stream which has just begun."""
    splitter = LineSplitter(LIMIT)
    splitter.thaw(state)
    splitter.add(b"one\n")
    assert taken(splitter) == [b"one"]
