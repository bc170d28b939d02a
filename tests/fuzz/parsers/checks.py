"""What all fuzzed parsers have in common: chunks, and messages that an administrator can read."""

from collections.abc import Iterable, Iterator

from sockd.base.text import UNSAFE

LONGEST_MESSAGE = 2000  # characters; of a line that is wrong no more is shown than that


def is_message(text: str) -> None:
    """One line, nothing in it that drives a terminal, and an end to it."""
    assert text.strip(), "an empty message"
    assert not UNSAFE.search(text), f"not one line that is safe to show: {text!r}"
    assert len(text) <= LONGEST_MESSAGE, f"{len(text)} characters: {text[:200]!r}"


def are_messages(texts: Iterable[str]) -> None:
    for text in texts:
        is_message(text)


def chunks(data: bytes) -> tuple[bytes, Iterator[bytes]]:
    """The stream that an input stands for, and its chunks: their sizes come first, up to a zero."""
    sizes, zero, stream = data.partition(b"\0")
    if not zero:
        sizes, stream = b"", data
    return stream, _cut(stream, sizes or b"\xff")


def _cut(stream: bytes, sizes: bytes) -> Iterator[bytes]:
    start = number = 0
    while start < len(stream):
        size = sizes[number % len(sizes)]
        yield stream[start : start + size]
        start += size
        number += 1
