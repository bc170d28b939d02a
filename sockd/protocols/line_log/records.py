"""The formats of a record, of which each line becomes one: text, JSON and raw."""

import json
import re
import time
from binascii import b2a_base64
from collections.abc import Iterator, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Protocol

from sockd.base.lines import place_to_cut
from sockd.base.text import HARMLESS, NOT_CONTROLS, UNSAFE_ABOVE_ASCII, escape, replaced


class Mark(StrEnum):
    """What sockd itself adds to a record; no peer can forge it."""

    CUT = "cut"  # the line was too long: it goes on in the next record of this peer
    NO_NEWLINE = "no newline"  # the last line of a connection, whose newline never came
    TORN = "torn"  # the record's end was lost in a crash


class Records(Protocol):
    """A format. `now` is in nanoseconds since 1970, `peer` is the peer's text; both stand in each record."""

    def lines(self, now: int, peer: str, lines: bytes) -> bytes:
        r"""Records of lines from one peer, each ending with b"\n"."""

    def each(self, now: int, peers: Sequence[str], lines: bytes) -> bytes:
        r"""Records of lines, each ending with b"\n", and each from the peer at its place in `peers`."""

    def piece(self, now: int, peer: str, line: bytes, mark: Mark | None = None) -> bytes:
        """The record of one line, passed without its newline."""

    def slices(
        self, now: int, peer: str, line: bytes, size: int, mark: Mark | None = None
    ) -> Iterator[bytes]:
        """The record of one long line, in pieces that are made of about `size` bytes of it."""

    def identified(self, identity: str) -> "Records":
        """The same for a peer whose verified certificate proves this name: it stands in each record."""

    def repair(self) -> bytes:
        """What is appended to a file whose last record was torn, to end and mark that record."""


SPACE = r"\x20"  # in a certificate's name, as fields end with a space


class TextRecords:
    r"""`TIME ENDPOINT PEER LINE`, the line escaped, and at its end perhaps a mark, `\{cut}`.

    A peer's backslash is doubled and no escape begins with `\{`, so no peer can forge a mark. `\{torn}` has a
    space before it, which no escape holds, as the line may have been torn within one. `identity` is the name
    that the peer's certificate proves, and follows PEER without a space.
    """

    def __init__(self, endpoint: str, identity: str = "") -> None:
        self._endpoint = endpoint
        self._identity = ""
        if identity:
            self._identity = f",identity={escape(identity.encode()).decode().replace(' ', SPACE)}"

    def _head(self, now: int, peer: str) -> bytes:
        return f"{timestamp(now)} {self._endpoint} {peer}{self._identity} ".encode()

    def identified(self, identity: str) -> "TextRecords":
        return TextRecords(self._endpoint, identity)

    def lines(self, now: int, peer: str, lines: bytes) -> bytes:
        head = self._head(now, peer)
        return b"".join((head, escape(lines)[:-1].replace(b"\n", b"\n" + head), b"\n"))

    def each(self, now: int, peers: Sequence[str], lines: bytes) -> bytes:
        start = f"{timestamp(now)} {self._endpoint} "
        heads = {peer: f"{start}{peer} ".encode() for peer in set(peers)}
        escaped = escape(lines)[:-1].split(b"\n")
        return b"".join([heads[peer] + line + b"\n" for peer, line in zip(peers, escaped, strict=True)])

    def piece(self, now: int, peer: str, line: bytes, mark: Mark | None = None) -> bytes:
        return b"".join((self._head(now, peer), escape(line), _text_end(mark)))

    def slices(
        self, now: int, peer: str, line: bytes, size: int, mark: Mark | None = None
    ) -> Iterator[bytes]:
        yield self._head(now, peer)
        yield from map(escape, sliced(line, size))
        yield _text_end(mark)

    def repair(self) -> bytes:
        return f" \\{{{Mark.TORN}}}\n".encode()


def _text_end(mark: Mark | None) -> bytes:
    return f"\\{{{mark}}}\n".encode() if mark else b"\n"


_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # a byte that is not UTF-8, as `surrogateescape` decodes it
_HARMLESS_IN_JSON = bytes(set(HARMLESS) - {ord('"')})
_JSON_MARKS = {None: b"", Mark.CUT: b',"cut":true', Mark.NO_NEWLINE: b',"newline":false'}


class JsonRecords:
    """One JSON object a line: `time`, `endpoint`, `peer`, and `text`, or `base64` where it isn't UTF-8.

    `identity` follows `peer` where the peer's certificate proves a name.
    """

    def __init__(self, endpoint: str, identity: str = "") -> None:
        self._endpoint = endpoint
        self._identity = f'"identity":{json.dumps(identity)},' if identity else ""

    def _head(self, now: int, peer: str) -> bytes:
        return f"{self._start(now)}{json.dumps(peer)},{self._identity}".encode()

    def identified(self, identity: str) -> "JsonRecords":
        return JsonRecords(self._endpoint, identity)

    def _start(self, now: int) -> str:
        return f'{{"time":"{timestamp(now)}","endpoint":"{self._endpoint}","peer":'

    def lines(self, now: int, peer: str, lines: bytes) -> bytes:
        head = self._head(now, peer)
        try:
            text = _json_lines(lines)
        except UnicodeDecodeError:
            return _some_in_base64(head.decode(), lines[:-1])
        head += b'"text":"'
        return b"".join((head, text[:-1].replace(b"\n", b'"}\n' + head), b'"}\n'))

    def each(self, now: int, peers: Sequence[str], lines: bytes) -> bytes:
        try:
            texts = _json_lines(lines)[:-1].split(b"\n")
        except UnicodeDecodeError:
            some = lines[:-1].split(b"\n")
            return b"".join([self.piece(now, peer, line) for peer, line in zip(peers, some, strict=True)])
        start = self._start(now)
        heads = {peer: f'{start}{_quoted(peer)},"text":"'.encode() for peer in set(peers)}
        return b"".join([heads[peer] + text + b'"}\n' for peer, text in zip(peers, texts, strict=True)])

    def piece(self, now: int, peer: str, line: bytes, mark: Mark | None = None) -> bytes:
        return self._head(now, peer) + _json_value(line) + _JSON_MARKS[mark] + b"}\n"

    def slices(
        self, now: int, peer: str, line: bytes, size: int, mark: Mark | None = None
    ) -> Iterator[bytes]:
        try:
            line.decode()
        except UnicodeDecodeError:
            yield self.piece(now, peer, line, mark)  # base64 is fast
            return
        yield self._head(now, peer) + b'"text":"'
        yield from map(_json_lines, sliced(line, size))
        yield b'"' + _JSON_MARKS[mark] + b"}\n"

    def repair(self) -> bytes:
        now = timestamp(time.time_ns())
        return f'\n{{"time":"{now}","endpoint":"{self._endpoint}","mark":"{Mark.TORN}"}}\n'.encode()


class RawRecords:
    """The bytes of each line and a newline; no escapes and no marks."""

    def lines(self, now: int, peer: str, lines: bytes) -> bytes:  # noqa: ARG002
        return lines

    def each(self, now: int, peers: Sequence[str], lines: bytes) -> bytes:  # noqa: ARG002
        return lines

    def piece(self, now: int, peer: str, line: bytes, mark: Mark | None = None) -> bytes:  # noqa: ARG002
        return line + b"\n"

    def slices(
        self,
        now: int,  # noqa: ARG002
        peer: str,  # noqa: ARG002
        line: bytes,
        size: int,  # noqa: ARG002
        mark: Mark | None = None,  # noqa: ARG002
    ) -> Iterator[bytes]:
        yield line + b"\n"

    def identified(self, identity: str) -> "RawRecords":  # noqa: ARG002
        return self

    def repair(self) -> bytes:
        return b"\n"


def records_for(form: str, endpoint: str) -> Records:
    """The format of that name: `text`, `json` or `raw`."""
    if form == "text":
        return TextRecords(endpoint)
    return JsonRecords(endpoint) if form == "json" else RawRecords()


def sliced(data: bytes, size: int) -> Iterator[bytes]:
    """Slices of about `size` bytes, at least 4, each to be escaped by itself: no UTF-8 character is cut."""
    start = 0
    while len(data) - start > size:
        end = place_to_cut(data, start + size)
        yield data[start:end]
        start = end
    yield data[start:]


def timestamp(now: int) -> str:
    """UTC with microseconds: `2026-11-20T05:00:00.123456Z`."""
    seconds, microseconds = divmod(now // 1000, 1_000_000)
    return f"{_second(seconds)}.{microseconds:06d}Z"


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


_quoted = lru_cache(maxsize=1024)(json.dumps)  # for the peers of datagrams, which are few


def _json_value(line: bytes) -> bytes:
    try:
        return b'"text":"' + _json_lines(line) + b'"'
    except UnicodeDecodeError:
        return b'"base64":"' + b2a_base64(line, newline=False) + b'"'


def _json_lines(lines: bytes) -> bytes:
    """Lines as they stand between the quotes of JSON strings; newlines stay."""
    if not lines.translate(None, _HARMLESS_IN_JSON):
        return lines
    return _in_json(lines, lines.decode()).encode()


def _some_in_base64(head: str, lines: bytes) -> bytes:
    """Records of lines of which some aren't UTF-8, without the cost of an exception for each of those."""
    texts = _in_json(lines, lines.decode("utf-8", "surrogateescape")).split("\n")
    records = [
        f'{head}"base64":"{b2a_base64(line, newline=False).decode()}"}}\n'
        if not text.isascii() and _NOT_UTF8.search(text)
        else f'{head}"text":"{text}"}}\n'
        for line, text in zip(lines.split(b"\n"), texts, strict=True)
    ]
    return "".join(records).encode()


def _in_json(lines: bytes, text: str) -> str:
    """The text of these lines as it stands in JSON strings."""
    suspects = lines.translate(None, _HARMLESS_IN_JSON)
    # One pass for each kind of character, so that a chunk full of controls costs no call for each of them.
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    for byte in set(suspects.translate(None, NOT_CONTROLS)):
        text = text.replace(chr(byte), f"\\u{byte:04x}")
    if not suspects.isascii():
        sorts = set(UNSAFE_ABOVE_ASCII.findall(text))
        text = replaced(text, {each: json.dumps(each)[1:-1] for each in sorts})
    return text
