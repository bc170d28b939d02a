"""A result as JSON, in pieces that are made while the answer is being sent.

The list of 10,000 connections takes a third of a second to make, and 3 MB; 32 callers may ask for it at the
same time. So nothing of it is there before it can be sent: a result holds `Rows`, whose items are made one
after the other, and a conversation asks for the next pieces once the caller has taken those before.
"""

import json
from collections.abc import Callable, Iterable, Iterator

from sockd.control.language import VERSION, Json


class Rows:
    """A list in a result that is made row by row, once."""

    def __init__(self, rows: Iterable[Json]) -> None:
        self._rows = rows

    def __iter__(self) -> Iterator[Json]:
        return iter(self._rows)


class Afterwards:
    """A value in a result that is known once the rows before it have been made."""

    def __init__(self, value: Callable[[], Json]) -> None:
        self.value = value


def pieces(result: Json) -> Iterator[str]:
    """The line that answers a request with this result.

    TypeError or ValueError where JSON can't say it. Each item of a list that is a member of the result is a
    piece, and so is each other member.
    """
    yield f'{{"version":{VERSION},"ok":true,"result":'
    if isinstance(result, dict):
        before = "{"
        for name, value in result.items():
            start = f"{before}{text(name)}:"
            if isinstance(value, (list, Rows)):
                yield f"{start}["
                yield from _items(value)
                yield "]"
            else:
                yield start + text(value.value() if isinstance(value, Afterwards) else value)
            before = ","
        yield "}" if result else "{}"
    else:
        yield text(result)
    yield "}\n"


def _items(values: Iterable[Json]) -> Iterator[str]:
    before = ""
    for value in values:
        yield before + text(value)
        before = ","


def text(value: Json) -> str:
    """A value in ASCII: neither a lone surrogate nor a control character reaches a terminal or a decoder."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"))
