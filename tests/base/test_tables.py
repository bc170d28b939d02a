"""Tables: in a pipe each row is a line, on a terminal no word is broken and nothing is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockd.base.tables import aligned, laid_out, width_of, wrapped

LONG = "unix:///run/user/1000/sockd/with/a/long/path.sock"
ROWS = [
    ("endpoint", "listener", "state", "for", "connections"),
    ("echo", "tcp://127.0.0.1:7007", "running", "3h", "2, 317 total"),
    ("lobby", LONG, "running, held, suspended", "3h", "11 datagrams, 9 sent"),
]


def test_columns_are_aligned() -> None:
    """Each as wide as its widest cell; no line ends in blanks."""
    assert aligned([("a", "b"), ("long", "x"), ("c", "")]) == "a     b\nlong  x\nc"
    assert aligned([]) == ""


def test_wide_characters() -> None:
    """A cell is as wide as a terminal shows it: one that combines takes no room."""
    assert [width_of(text) for text in ("漢字", "e\u0301", "🦉", "ab")] == [4, 1, 2, 2]
    assert aligned([("漢字", "x"), ("e\u0301", "x"), ("abcd", "x")]) == "漢字  x\ne\u0301     x\nabcd  x"


def test_nothing_drives_the_terminal() -> None:
    """A cell's controls are shown, its newlines too."""
    assert aligned([("a\x1b[2J\n", "\u202e\x9b")]) == "a\\x1b[2J\\x0a  \\u{202e}\\u{9b}"


def test_a_narrow_terminal() -> None:
    """Text continues below itself; a word without room has the rest of the line."""
    assert aligned(ROWS, 66).split("\n") == [
        "endpoint  listener              state      for  connections",
        "echo      tcp://127.0.0.1:7007  running    3h   2, 317 total",
        f"lobby     {LONG}",
        "                                running,   3h   11 datagrams, 9",
        "                                held,           sent",
        "                                suspended",
    ]


def test_a_cell_that_is_moved_to_the_left() -> None:
    """It is whole, on a line of its own, so that a command can be copied."""
    rows = [("a", "try"), ("x" * 20, "ncat --unixsock " + "y" * 40)]
    assert aligned(rows, 60, whole=(1,)) == f"{'a':20}  try\n{'x' * 20}\n    ncat --unixsock {'y' * 40}"
    assert aligned(rows, 57, whole=(1,)) == f"{'a':20}  try\n{'x' * 20}\n ncat --unixsock {'y' * 40}"


def test_a_word_that_is_longer_than_the_line() -> None:
    """Only the terminal breaks it: it can be copied."""
    assert LONG in aligned(ROWS, 40).split("\n")


def test_no_room_for_columns() -> None:
    """The cells follow each other as running text."""
    assert aligned(ROWS[:2], 30).split("\n") == [
        "endpoint listener state for",
        "    connections",
        "echo tcp://127.0.0.1:7007",
        "    running 3h 2, 317 total",
    ]


def test_painted() -> None:
    """Colours take no room."""
    lines = laid_out(
        ROWS[:2], 66, paint=lambda row, column, text: f"<{text}>" if (row, column) == (1, 2) else text
    )
    assert lines[1] == ["echo      tcp://127.0.0.1:7007  <running>  3h   2, 317 total"]


def test_running_text() -> None:
    """It is broken between words."""
    assert wrapped("one two three four", 9) == ["one two", "    three", "    four"]
    assert wrapped("one two", 9) == ["one two"]


@given(
    st.lists(st.tuples(*[st.text("ab 漢é", max_size=40)] * 3), min_size=1, max_size=6),
    st.integers(8, 100),
    st.sets(st.integers(0, 2)),
)
def test_every_word_is_whole(rows: list[tuple[str, str, str]], width: int, whole: set[int]) -> None:
    """Whatever the width: all words are there, and a line is longer only for one."""
    table = laid_out([("h", "i", "j"), *rows], width, whole)
    assert len(table) == len(rows) + 1
    for row, lines in zip(rows, table[1:], strict=True):
        assert sorted(" ".join(lines).split()) == sorted(" ".join(row).split())
        longest = max(width_of(word) for cell in row for word in cell.split(" "))
        cells = [width_of(row[column]) for column in whole]
        for line in lines:
            assert width_of(line) <= max(width, longest, *cells, 0)


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_no_line_is_longer_than_the_terminal(width: int) -> None:
    """But for a word that is longer."""
    for line in aligned(ROWS, width).split("\n"):
        assert width_of(line) <= width or line in (LONG, "tcp://127.0.0.1:7007")
