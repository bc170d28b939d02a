"""How chat splits bytes into lines: blank ones skipped, a mark in place of one that is too long."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sockd.base.lines import TOO_LONG, LineSplitter, Mark
from sockd.protocols.chat.lines import LONGEST_LINE

PIECES = st.sampled_from(
    [
        b"\n",
        b"\r\n",
        b"\r",
        b"a",
        b"hello",
        b"\xff",
        b"x" * (LONGEST_LINE - 1),
        b"y" * LONGEST_LINE,
        b"z" * (LONGEST_LINE + 1),
        b"\n" * 3000,
    ]
)


def new_lines() -> LineSplitter:
    """A splitter as chat has for each member."""
    return LineSplitter(LONGEST_LINE, blank_lines=False)


def taken(lines: LineSplitter) -> list[bytes | Mark]:
    return list(iter(lines.take, None))


def plain(data: bytes) -> list[bytes | Mark]:
    """The plain rule: lines end in LF or CRLF, CRs before a line are blank, a mark replaces one too long."""
    whole, _, rest = data.rpartition(b"\n")
    result: list[bytes | Mark] = []
    for line in [each.removesuffix(b"\r") for each in whole.split(b"\n")]:
        text = line.lstrip(b"\r")
        if text:
            result.append(text if len(text) <= LONGEST_LINE else TOO_LONG)
    if len(rest.lstrip(b"\r").removesuffix(b"\r")) > LONGEST_LINE:
        result.append(TOO_LONG)
    return result


@given(st.lists(PIECES, max_size=12).map(b"".join), st.lists(st.integers(0, 4000), max_size=12))
def test_any_chunking(data: bytes, cuts: list[int]) -> None:
    """However the bytes are cut into chunks, the lines are those that the plain rule gives."""
    lines, found = new_lines(), []
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in pairwise(places):
        lines.add(data[start:end])
        found += taken(lines)
    assert found == plain(data)


def test_taken_one_by_one() -> None:
    """Lines that are not taken yet wait while more is added."""
    lines = new_lines()
    lines.add(b"one\ntwo\nthr")
    assert lines.take() == b"one"
    lines.add(b"ee\n")
    assert taken(lines) == [b"two", b"three"]


def test_longest() -> None:
    """A line of exactly the bound is kept with either end, one byte more is not."""
    lines = new_lines()
    lines.add(
        b"x" * LONGEST_LINE + b"\r\n" + b"y" * LONGEST_LINE + b"\n" + b"z" * (LONGEST_LINE + 1) + b"\nok\n"
    )
    assert taken(lines) == [b"x" * LONGEST_LINE, b"y" * LONGEST_LINE, TOO_LONG, b"ok"]


def test_endless_line_is_not_kept() -> None:
    """A line that goes on and on is marked once and takes no memory."""
    lines = new_lines()
    marks = []
    for _ in range(1000):
        lines.add(b"x" * 65536)
        marks += taken(lines)
    assert marks == [TOO_LONG]
    assert lines.rest == b""
    lines.add(b"end of it\nnext\n")
    assert taken(lines) == [b"next"]
