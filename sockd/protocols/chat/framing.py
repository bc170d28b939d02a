"""Bytes as they arrive, cut into lines; blank ones skipped, those that are too long told and thrown away."""

import re
from enum import Enum
from typing import Any

LONGEST = 1024  # bytes of a line without its end


class Mark(Enum):
    """What stands in for a line that was not kept."""

    TOO_LONG = "too long"


TOO_LONG = Mark.TOO_LONG

# Blank lines are skipped here, in C: a chunk of nothing but newlines costs one match.
_LINE = re.compile(rb"[\r\n]*([^\n]*)(\n?)")


class Lines:
    """`feed` it what arrived, then `take` until None. It holds what was fed and not taken, no more."""

    __slots__ = ("_buffer", "_discarding", "_offset")

    def __init__(self) -> None:
        self._buffer = b""
        self._offset = 0
        self._discarding = False

    def feed(self, chunk: bytes) -> None:
        self._buffer = self._buffer[self._offset :] + chunk
        self._offset = 0

    def freeze(self) -> dict[str, Any]:
        return {"buffer": self._buffer[self._offset :], "discarding": self._discarding}

    def thaw(self, state: dict[str, Any]) -> None:
        self.feed(state["buffer"])
        self._discarding = bool(state["discarding"])

    def take(self) -> bytes | Mark | None:
        """The next line without its end (LF or CRLF), TOO_LONG in place of one, or None: no line yet."""
        if self._discarding:
            self._offset = self._buffer.find(b"\n", self._offset) + 1
            if not self._offset:
                self._buffer = b""
                return None
            self._discarding = False
        found = _LINE.match(self._buffer, self._offset)
        if found is None:  # pragma: no cover - the pattern matches everywhere
            return None
        line, end = found.groups()
        length = len(line) - line.endswith(b"\r")
        if end:
            self._offset = found.end()
            return line[:length] if length <= LONGEST else TOO_LONG
        self._offset = 0
        if length <= LONGEST:
            self._buffer = line
            return None
        self._buffer = b""
        self._discarding = True
        return TOO_LONG
