"""Bytes as they arrive, cut into lines; blank ones skipped, those that are too long told and thrown away."""

import re
from enum import Enum
from typing import Any

from sockd.base import text as escaped

LONGEST_READ = 1024  # bytes of a line without its end


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
            return line[:length] if length <= LONGEST_READ else TOO_LONG
        self._offset = 0
        if length <= LONGEST_READ:
            self._buffer = line
            return None
        self._buffer = b""
        self._discarding = True
        return TOO_LONG


LONGEST_SHOWN = (
    1300  # bytes of one line as it is shown: with a name before it, it fits into a datagram of 1,400
)

# What telnet clients say of their own accord (RFC 854): a command, or an offer (WILL, DO) of an option. DONT,
# WONT and SB only answer what we never say; 255 254 is rather a byte-order mark, and shown as not UTF-8.
_TELNET = re.compile(rb"\xff(?:[\xf1-\xf9]|[\xfb\xfd][\x00-\x31])")


def clean(line: bytes) -> str:
    """The text of a line: invalid UTF-8 replaced, telnet's negotiation dropped, controls made visible."""
    if b"\xff" in line:
        line = _TELNET.sub(b"", line)
    return visible(line.decode("utf-8", "replace"))


def visible(text: str) -> str:
    r"""The text with `\t`, `\xNN` and `\u{…}` in place of what must not reach a terminal."""
    if text.isascii() and text.isprintable():
        return text
    return escaped.visible(text.replace("\t", r"\t"))


def too_long(text: str) -> bool:
    """Whether a text that was made visible has grown beyond what one datagram takes."""
    return len(text.encode()) > LONGEST_SHOWN


def shortened(text: str) -> str:
    """What somebody wrote, as far as a reply repeats it."""
    return text if len(text) <= 40 else text[:39] + "…"


PATTERN = "[A-Za-z0-9_-]{1,24}"
RULE = "1 to 24 ASCII letters, digits, - and _"

_NAME = re.compile(PATTERN)


def is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def folded(name: str) -> str:
    """What two names that differ only in case have in common."""
    return name.lower()
