"""Rows of text in aligned columns."""

from collections.abc import Iterable


def aligned(rows: Iterable[tuple[str, ...]]) -> str:
    """One line a row, two spaces between the columns; rows are equally long."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
