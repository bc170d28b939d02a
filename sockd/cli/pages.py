"""Draws a page, which is a table with lines around it: for a pipe, a terminal, or a screen of its own."""

import os
from dataclasses import dataclass
from itertools import pairwise

from sockd.base.tables import laid_out, width_of, wrapped
from sockd.base.text import visible
from sockd.base.units import counted

# Characters that a terminal is shown of a value, and of a line around the table; a pipe gets all of them.
_LONGEST_CELL, _LONGEST_LINE = 1000, 4000
_ESCAPE = "\x1b"
_COLOURS = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33}  # SGR, console_codes(4)


@dataclass(frozen=True)
class Page:
    """Lines, a table (its head, its rows, each row's style on a terminal), and notes on its rows."""

    lines: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    styles: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def plain(page: Page) -> str:
    """The page as text: each row is a line and each value whole, whatever the width."""
    table = _flat(laid_out((page.head, *page.rows))) if page.rows else []
    return _joined(_safe(page.lines), table, _safe(page.notes))


def drawn(page: Page, width: int, *, colours: bool) -> str:
    """The page for a terminal of this width, in which no word is broken."""
    table = _flat(_table(page, width, colours=colours))
    return _joined(_wrapped(page.lines, width), table, _wrapped(page.notes, width))


def fitted(page: Page, width: int, height: int, *, colours: bool) -> str:
    """The page for a screen of this size: where it doesn't fit, its last line says what was left out.

    Notes come before the table, of which a screen shows the beginning: there the problems are.
    """
    lines = _wrapped(page.lines, width)
    notes = [_wrapped((note,), width) for note in page.notes]
    head, *rows = _table(page, width, colours=colours) or [[]]
    whole = _joined(lines, _flat(notes), [*head, *_flat(rows)])
    if _height(whole.split("\n"), width) <= height:
        return whole
    left = height - _height([*lines, ""], width) - 1  # the last line says what is missing
    shown_notes = _first(notes, width, left // 2)
    if shown_notes:
        left -= _height([*_flat(shown_notes), ""], width)
    shown = _first(rows, width, left - _height(head, width))
    missing = (len(rows) - len(shown), "row"), (len(notes) - len(shown_notes), "note")
    what = " and ".join(counted(number, what) for number, what in missing if number)
    body = _joined(lines, _flat(shown_notes), [*head, *_flat(shown)] if shown else []).split("\n")
    while _height(body, width) >= height and body:
        body.pop()
    return "\n".join((*body, f"not shown: {what}"))


def has_colours() -> bool:
    """Whether standard output, a terminal, is to be sent colours (no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _safe(lines: tuple[str, ...]) -> list[str]:
    return list(map(visible, lines))


def _joined(*parts: list[str]) -> str:
    return "\n\n".join("\n".join(part) for part in parts if part)


def _wrapped(lines: tuple[str, ...], width: int) -> list[str]:
    short = tuple(line[:_LONGEST_LINE] for line in lines)
    return [piece for line in _safe(short) for piece in wrapped(line, width)]


def _flat(blocks: list[list[str]]) -> list[str]:
    return [line for block in blocks for line in block]


def _first(blocks: list[list[str]], width: int, height: int) -> list[list[str]]:
    """As many of the blocks of lines as have room in this height."""
    found = []
    for block in blocks:
        height -= _height(block, width)
        if height < 0:
            break
        found.append(block)
    return found


def _height(lines: list[str], width: int) -> int:
    """How many lines of a screen these are: a terminal breaks a word that is longer than itself.

    Colours take no room; only lines that fit have any.
    """
    return sum(1 if _ESCAPE in line else max(1, -(-width_of(line) // width)) for line in lines)


def _table(page: Page, width: int, *, colours: bool) -> list[list[str]]:
    """The lines of the head and of each row. The endpoint's name stands only in its first row."""
    if not page.rows:
        return []
    short = [tuple(cell[:_LONGEST_CELL] for cell in row) for row in page.rows]
    rows = [page.head, *short[:1]]
    for before, (first, *others) in pairwise(short):
        rows.append(("" if first == before[0] else first, *others))

    def paint(row: int, column: int, piece: str) -> str:
        style = "bold" if row == 0 else page.styles[row - 1] if page.head[column] == "state" else ""
        return f"{_ESCAPE}[{_COLOURS[style]}m{piece}{_ESCAPE}[0m" if style and colours else piece

    return laid_out(rows, width, (), paint)
