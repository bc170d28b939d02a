"""Lays out rows of text as a table, in the width of a terminal where there is one.

In a pipe a row is a line, however long. On a terminal that is too narrow for the columns, text continues
below itself in its column, between words and never inside one. A word that has no room in its column, such as
the path of a socket, stays whole: it has the rest of the line, and the row's further columns continue below.
"""

import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence

from sockd.base.text import visible

_GAP = 2  # spaces between two columns
_INDENT = 4  # of what continues a row outside its column
_SHORT = 12  # columns of a terminal: a word that is no longer always has room in its column

# How a piece of a cell looks: it is called with the row's number, the column's, and the piece.
Paint = Callable[[int, int, str], str]


def width_of(text: str) -> int:
    """How many columns of a terminal the text takes: two for a wide character, none for one that combines."""
    if text.isascii():
        return len(text)
    return sum(map(_width, text))


def _width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def aligned(rows: Iterable[Sequence[str]], width: int | None = None, whole: Collection[int] = ()) -> str:
    """The rows, all of as many cells, as text with aligned columns, in characters that are safe to show.

    `width` is the terminal's; None is for a pipe. The cells in the columns `whole` aren't broken at all.
    """
    return "\n".join(line for lines in laid_out(rows, width, whole) for line in lines)


def wrapped(line: str, width: int) -> list[str]:
    """A line as lines of this width, broken between words; a word that is longer stays whole."""
    return [line] if width_of(line) <= width else _filled(line.split(" "), width, _INDENT)


def laid_out(
    rows: Iterable[Sequence[str]],
    width: int | None = None,
    whole: Collection[int] = (),
    paint: Paint = lambda _row, _column, piece: piece,
) -> list[list[str]]:
    """As `aligned`, but the lines of each row."""
    table = [[_Cell(visible(text), column in whole) for column, text in enumerate(row)] for row in rows]
    if not table:
        return []
    widths = _widths(table, width)
    if widths is None:
        assert width is not None  # noqa: S101 - a pipe has room
        return [_folded(row, width) for row in table]
    return [_row(number, row, widths, width, paint) for number, row in enumerate(table)]


class _Cell:
    """A cell's text, its words, and their widths."""

    __slots__ = ("longest", "text", "width", "words")

    def __init__(self, text: str, whole: bool) -> None:
        self.text = text
        self.width = width_of(text)
        self.words = [text] if whole else text.split(" ")
        self.longest = max(map(width_of, self.words))

    def within(self, width: int) -> list[str]:
        """Its text in lines of this width; a word that is longer has a line of its own."""
        if self.width <= width:
            return [self.text]
        return _filled(self.words, width)


def _filled(words: Iterable[str], width: int, indent: int = 0) -> list[str]:
    """The words in lines of this width, all but the first of which are indented as far as there is room."""
    lines: list[str] = []
    line, used = "", -1
    for word in words:
        size = width_of(word)
        if used >= 0 and used + 1 + size > width:
            lines.append(line)
            margin = max(0, min(indent, width - size))
            line, used = " " * margin + word, margin + size
        else:
            line, used = (f"{line} {word}", used + 1 + size) if used >= 0 else (word, size)
    return [*lines, line]


def _widths(table: Sequence[Sequence[_Cell]], width: int | None) -> list[int] | None:
    """The columns' widths; None where there is no room for columns."""
    columns = list(zip(*table, strict=True))
    full = [max(cell.width for cell in column) for column in columns]
    gaps = _GAP * (len(columns) - 1)
    if width is None or sum(full) + gaps <= width:
        return full
    # From the narrowest in which no word is broken. As long as there is no room for these, the widest one
    # becomes as wide as its next shorter word: the longer ones are those that have the rest of the line.
    # The first row, which is the head, always has room.
    words = [
        sorted({cell.longest for cell in column if cell.longest >= column[0].longest}) for column in columns
    ]
    while sum(each[-1] for each in words) + gaps > width:
        shrinking = [each for each in words if each[1:] and each[-1] > _SHORT]
        if not shrinking:
            return None
        max(shrinking, key=lambda each: each[-1]).pop()
    found = [each[-1] for each in words]
    left = width - gaps - sum(found)
    # What is left goes where the least of it lets another cell stand on one line.
    sizes = [sorted({cell.width for cell in column}) for column in columns]
    while left:
        more, number = min(
            (next(size for size in sizes[number] if size > found[number]) - found[number], number)
            for number in range(len(columns))
            if full[number] > found[number]
        )
        more = min(more, left)
        found[number] += more
        left -= more
    return found


def _row(
    number: int, row: Sequence[_Cell], widths: Sequence[int], width: int | None, paint: Paint
) -> list[str]:
    """The lines of a row in columns."""
    done: list[str] = []
    lines: list[str] = [""]
    used = [0]  # of each of these lines
    start = 0

    def put(line: int, at: int, column: int, piece: str) -> None:
        while line >= len(lines):
            lines.append("")
            used.append(0)
        if piece:
            lines[line] += " " * (at - used[line]) + paint(number, column, piece)
            used[line] = at + width_of(piece)

    for column, cell in enumerate(row):
        room = widths[column]
        if cell.longest <= room:
            for line, piece in enumerate(cell.within(room)):
                put(line, start, column, piece)
        else:
            # At its column's beginning, or on a line of its own.
            at = start
            if width is not None and start + cell.longest > width:
                at = max(0, min(start, _INDENT, width - cell.longest))
            pieces = cell.within(cell.width if width is None else max(cell.longest, width - at))
            # Below every line that reaches as far.
            taken = [line for line, end in enumerate(used) if end > max(0, at - _GAP)]
            first = taken[-1] + 1 if taken else 0
            for line, piece in enumerate(pieces, first):
                put(line, at, column, piece)
            done += lines
            lines, used = [""], [0]
        start += room + _GAP
    if any(used) or not done:
        done += lines
    return done


def _folded(row: Sequence[_Cell], width: int) -> list[str]:
    """The lines of a row as running text."""
    words = [word for cell in row if cell.text for word in cell.words]
    return _filled(words, width, _INDENT)
