"""Tables for people."""

from sockd.base.text import aligned


def test_columns_are_aligned() -> None:
    """Each as wide as its widest cell; no line ends in blanks."""
    assert aligned([("a", "b"), ("long", "x"), ("c", "")]) == "a     b\nlong  x\nc"
