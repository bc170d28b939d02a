"""Values of the file before a model reads them: scalars, lists and mappings that know their place."""

import re
from typing import Any, Self

from sockd.base.errors import Place

# Text that YAML 1.2's core schema doesn't read as a string unless it is quoted.
_NULL = re.compile(r"(?:null|Null|NULL|~|)")
_BOOLEAN = re.compile(r"(?:true|True|TRUE|false|False|FALSE)")
_NUMBER = re.compile(
    r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"
    r"|[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_MAX_SHOWN = 60  # characters of a text in a message


class Scalar(str):
    """The text of a scalar, and its place; `plain` if it was written without quotes."""

    __slots__ = ("place", "plain")

    place: Place
    plain: bool

    def __new__(cls, text: str, place: Place, *, plain: bool = True) -> Self:
        self = super().__new__(cls, text)
        self.place = place
        self.plain = plain
        return self


# The items of a list and the values of a mapping are Values. Any: only the model knows of which kind.
class Items(list[Any]):
    """A list; `place` is where it begins."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place


class Mapping(dict[str, Any]):  # Any: as in Items
    """A mapping; `place` is where it begins, and `keys_at` has the places of its keys."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.keys_at: dict[str, Place] = {}


Value = Scalar | Items | Mapping


def read_as(value: object) -> str:
    """The type that YAML gives a value: `null`, `boolean`, `number`, `string`, `list` or `mapping`.

    It is `value` for any other object. A Python string that isn't a Scalar counts as quoted.
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
    """A text in quotes for a message: shortened, on one line, with nothing that drives a terminal."""
    return repr(str(text)) if len(text) <= _MAX_SHOWN else repr(text[: _MAX_SHOWN - 3]) + "..."
