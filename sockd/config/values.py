"""What the file's text becomes before a model reads it: scalars, lists and mappings that know their place."""

import re
from typing import Any, Self

from sockd.base.errors import Place

# What YAML 1.2's core schema reads as something else than a string when it is not quoted.
_NULL = re.compile(r"(?:null|Null|NULL|~|)")
_BOOLEAN = re.compile(r"(?:true|True|TRUE|false|False|FALSE)")
_NUMBER = re.compile(
    r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"
    r"|[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_LONGEST_SHOWN = 60


class Scalar(str):
    """The text of one scalar; `plain` when it was written without quotes."""

    __slots__ = ("place", "plain")

    place: Place
    plain: bool

    def __new__(cls, text: str, place: Place, *, plain: bool = True) -> Self:
        self = super().__new__(cls, text)
        self.place = place
        self.plain = plain
        return self


class Items(list[Any]):
    """A list of values."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place


class Mapping(dict[str, Any]):
    """Keys and values, and where each key stands. `place` is where the mapping itself begins."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.keys_at: dict[str, Place] = {}


Value = Scalar | Items | Mapping


def read_as(value: object) -> str:
    """What an editor takes the value for: null, boolean, number, string, list or mapping.

    A Python string that is no Scalar counts as quoted.
    """
    if isinstance(value, str):
        if not isinstance(value, Scalar) or not value.plain:
            return "string"
        if _NULL.fullmatch(value):
            return "null"
        if _BOOLEAN.fullmatch(value):
            return "boolean"
        return "number" if _NUMBER.fullmatch(value) else "string"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "mapping" if isinstance(value, dict) else "list" if isinstance(value, list | tuple) else "value"


def shown(text: str) -> str:
    """The text in quotes for a message: one line, nothing that drives a terminal, not longer than a line."""
    return repr(str(text)) if len(text) <= _LONGEST_SHOWN else repr(text[: _LONGEST_SHOWN - 3]) + "..."
