"""Splits a stream of bytes into lines of a bounded length, the same lines however the bytes arrive.

Lines end in LF or CRLF, and their length counts without it. There are two ways to have them. `feed` is for
a protocol that takes all the lines there are: it returns blocks of many lines, which cost no work for each
line, and cuts a line that is too long into parts. `add` and `take` are for a protocol that finishes with a
line before it looks at the next: what isn't taken waits, and a mark stands in for a line that is too long.
"""

import re
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from sockd.base.frozen import Frozen


class Sort(Enum):
    LINES = "lines"  # complete lines, each ended by one b"\n" (CRLF counts as one)
    CUT = "cut"  # the beginning of a line that is too long; it goes on in the next part
    UNFINISHED = "unfinished"  # the last line, whose newline never came


class Part(NamedTuple):
    """What `feed` returns: complete lines, or a part of one."""

    sort: Sort
    data: bytes


class Mark(Enum):
    """What `take` returns in place of a line that was thrown away."""

    TOO_LONG = "too long"


TOO_LONG = Mark.TOO_LONG

_LINE = re.compile(rb"([^\n]*)(\n?)")
# Blank lines are skipped in C: a chunk of nothing but newlines costs one match. CRs before a line are blank.
_LINE_NOT_BLANK = re.compile(rb"[\r\n]*([^\n]*)(\n?)")


class LineSplitter:
    """The lines of one stream, of at most `limit` bytes each.

    Use either `feed` and `end`, or `add` and `take`. `limit` is at least 4 bytes, the length of the longest
    UTF-8 character. Without `blank_lines`, `take` skips those that are empty.
    """

    # `feed` keeps an unfinished line of at most `limit` + 1 bytes in `_buffer`. `add` keeps all of it there;
    # what is before `_offset` has been taken. While `_discarding`, a line that was too long goes on.
    __slots__ = ("_buffer", "_discarding", "_limit", "_offset", "_pattern")

    def __init__(self, limit: int, *, blank_lines: bool = True) -> None:
        self._limit = limit
        self._pattern = _LINE if blank_lines else _LINE_NOT_BLANK
        self._buffer = bytearray()
        self._offset = 0
        self._discarding = False

    # -- all lines there are

    def alone(self, chunk: bytes) -> bool:
        """Whether `feed` would return just this chunk as complete lines, and keep nothing.

        Most chunks are such, and this is a quarter of the work.
        """
        return not self._buffer and len(chunk) <= self._limit and chunk.endswith(b"\n") and b"\r" not in chunk

    def feed(self, chunk: bytes) -> list[Part]:
        """What is complete now. A line that is too long is cut, but not within a UTF-8 character."""
        end = chunk.rfind(b"\n") + 1
        parts: list[Part] = []
        if end:
            block = chunk if end == len(chunk) else chunk[:end]
            if self._buffer:
                block = bytes(self._buffer) + block
            parts += _complete(block, self._limit)
            self._buffer = bytearray(chunk[end:])
        else:
            self._buffer += chunk
        # One byte more than the limit may be the CR of a CRLF.
        if len(self._buffer) > self._limit + 1:
            parts += self._overlong(self._limit + 1)
        return parts

    def end(self) -> list[Part]:
        """What is left when nothing more comes."""
        parts = self._overlong(self._limit)
        if self._buffer:
            parts.append(Part(Sort.UNFINISHED, bytes(self._buffer)))
            self._buffer = bytearray()
        return parts

    def _overlong(self, longest: int) -> list[Part]:
        tail = bytes(self._buffer)
        parts: list[Part] = []
        start = 0
        while len(tail) - start > longest:
            cut = place_to_cut(tail, start + self._limit)
            parts.append(Part(Sort.CUT, tail[start:cut]))
            start = cut
        self._buffer = bytearray(tail[start:])
        return parts

    # -- one line at a time

    def add(self, chunk: bytes) -> None:
        """What arrived; it is kept whole until it is taken."""
        del self._buffer[: self._offset]
        self._offset = 0
        self._buffer += chunk

    def take(self) -> bytes | Mark | None:
        """The next line, without its end; TOO_LONG in place of one; None if no line is complete.

        A line that is too long is reported as soon as that is sure, and discarded to its end.
        """
        if self._discarding:
            self._offset = self._buffer.find(b"\n", self._offset) + 1
            if not self._offset:
                self._buffer.clear()
                return None
            self._discarding = False
        found = self._pattern.match(self._buffer, self._offset)
        if found is None:  # pragma: no cover - the patterns match everywhere
            return None
        line, newline = found.groups()
        length = len(line) - line.endswith(b"\r")
        if newline:
            self._offset = found.end()
            return line[:length] if length <= self._limit else TOO_LONG
        self._offset = found.start(1)
        if length <= self._limit:
            return None
        self._offset = 0
        self._buffer.clear()
        self._discarding = True
        return TOO_LONG

    @property
    def unfinished(self) -> bytes | Mark:
        """The line whose end has not arrived, which may be empty; TOO_LONG while one is discarded."""
        rest = self.rest
        start = rest.rfind(b"\n") + 1
        return TOO_LONG if self._discarding and not start else rest[start:]

    # -- handing on

    @property
    def rest(self) -> bytes:
        """What hasn't been returned yet; of `feed`, the unfinished line.

        Another splitter of the same limit that is fed this goes on where this one is.
        """
        return bytes(self._buffer[self._offset :])

    def freeze(self) -> dict[str, bytes | bool]:
        """Where `take` is in the stream, as values that can be handed to another program."""
        return {"rest": self.rest, "discarding": self._discarding}

    def thaw(self, state: Frozen) -> None:
        """Go on where another splitter was frozen; what `state` lacks is empty."""
        self._buffer = bytearray(state.get("rest", b""))
        self._offset = 0
        self._discarding = bool(state.get("discarding", False))


def split(data: bytes, limit: int) -> list[Part]:
    """The parts of bytes that are whole: a datagram."""
    splitter = LineSplitter(limit)
    return splitter.feed(data) + splitter.end()


def _complete(block: bytes, limit: int) -> Iterator[Part]:
    """Parts of complete lines, which may be too long. Strides of `limit` bytes, not lines, are looked at."""
    start = done = 0
    while len(block) - start > limit:
        newline = block.rfind(b"\n", start, start + limit + 1)
        if newline < 0 and block.startswith(b"\r\n", start + limit):
            newline = start + limit + 1
        if newline >= 0:
            start = newline + 1
            continue
        if done < start:
            yield _lines(block[done:start])
        done = place_to_cut(block, start + limit)
        yield Part(Sort.CUT, block[start:done])
        start = done
    yield _lines(block[done:] if done else block)


def _lines(block: bytes) -> Part:
    return Part(Sort.LINES, block.replace(b"\r\n", b"\n") if b"\r" in block else block)


def place_to_cut(data: bytes, at: int) -> int:
    """Where to cut so that no UTF-8 character is cut: at most three bytes before `at`."""
    for back in range(4):
        if data[at - back] & 0xC0 != 0x80:
            return at - back
    return at
