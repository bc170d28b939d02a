"""Cuts a stream of bytes into lines of a bounded length, the same for any chunking, many lines at a time."""

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple


class Sort(Enum):
    LINES = "lines"  # complete lines, each ended by one b"\n" (CRLF counts as one)
    CUT = "cut"  # the beginning of a line that is too long; it goes on in the next part
    UNFINISHED = "unfinished"  # the last line, whose newline never came


class Part(NamedTuple):
    sort: Sort
    data: bytes


class LineSplitter:
    """Feed it chunks; it keeps at most one unfinished line of `limit` + 1 bytes.

    A line has at most `limit` bytes without its newline; a longer one is cut, not within a UTF-8 character.
    `limit` is at least 4, the length of the longest character.
    """

    __slots__ = ("_limit", "_tail")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._tail = bytearray()

    def alone(self, chunk: bytes) -> bool:
        """Whether `feed` would give just this chunk as complete lines, and keep nothing.

        Most chunks are such, and this is a quarter of the work.
        """
        return not self._tail and len(chunk) <= self._limit and chunk.endswith(b"\n") and b"\r" not in chunk

    def feed(self, chunk: bytes) -> list[Part]:
        """What is complete now."""
        end = chunk.rfind(b"\n") + 1
        parts: list[Part] = []
        if end:
            block = chunk if end == len(chunk) else chunk[:end]
            if self._tail:
                block = bytes(self._tail) + block
            parts += _complete(block, self._limit)
            self._tail = bytearray(chunk[end:])
        else:
            self._tail += chunk
        # One byte more than the limit may be the CR of a CRLF.
        if len(self._tail) > self._limit + 1:
            parts += self._overlong(self._limit + 1)
        return parts

    @property
    def rest(self) -> bytes:
        """The unfinished line; a splitter of the same limit that is fed this goes on where this one is."""
        return bytes(self._tail)

    def end(self) -> list[Part]:
        """What is left when nothing more comes."""
        parts = self._overlong(self._limit)
        if self._tail:
            parts.append(Part(Sort.UNFINISHED, bytes(self._tail)))
            self._tail = bytearray()
        return parts

    def _overlong(self, most: int) -> list[Part]:
        tail = bytes(self._tail)
        parts: list[Part] = []
        start = 0
        while len(tail) - start > most:
            cut = place_to_cut(tail, start + self._limit)
            parts.append(Part(Sort.CUT, tail[start:cut]))
            start = cut
        self._tail = bytearray(tail[start:])
        return parts


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
