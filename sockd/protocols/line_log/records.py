"""One line, one record: how text, JSON and raw records are written."""

import json
import time
from binascii import b2a_base64
from enum import StrEnum
from functools import lru_cache
from typing import Protocol

from sockd.text import HARMLESS, NOT_CONTROLS, UNSAFE_ABOVE_ASCII, escape


class Mark(StrEnum):
    """What sockd itself says in a record; no peer can forge it."""

    CUT = "cut"  # the line was too long: it goes on in the next record of this peer
    NO_NEWLINE = "no newline"  # the last line of a connection, whose newline never came
    TORN = "torn"  # the record's end was lost in a crash


class Records(Protocol):
    """A format. `now` is nanoseconds since 1970, `peer` what logs show of it; both stand in each record."""

    def lines(self, now: int, peer: str, lines: bytes) -> bytes:
        r"""Records of lines that end with b"\n" each."""

    def piece(self, now: int, peer: str, line: bytes, mark: Mark | None = None) -> bytes:
        """The record of one line, given without its newline."""

    def mend(self) -> bytes:
        """What ends a torn last record of a file and marks it."""


class TextRecords:
    r"""`TIME ENDPOINT PEER LINE`, the line escaped, and at its end perhaps a mark, `\{cut}`.

    A peer's backslash is doubled and no escape begins with `\{`: no peer can forge a mark. Before `\{torn}`
    stands a space, which no escape holds, for the line may have been torn within one.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint

    def _head(self, now: int, peer: str) -> bytes:
        return f"{timestamp(now)} {self._endpoint} {peer} ".encode()

    def lines(self, now: int, peer: str, lines: bytes) -> bytes:
        head = self._head(now, peer)
        return head + escape(lines)[:-1].replace(b"\n", b"\n" + head) + b"\n"

    def piece(self, now: int, peer: str, line: bytes, mark: Mark | None = None) -> bytes:
        end = f"\\{{{mark}}}\n".encode() if mark else b"\n"
        return self._head(now, peer) + escape(line) + end

    def mend(self) -> bytes:
        return f" \\{{{Mark.TORN}}}\n".encode()


_HARMLESS_IN_JSON = bytes(set(HARMLESS) - {ord('"')})
_JSON_MARKS = {None: b"", Mark.CUT: b',"cut":true', Mark.NO_NEWLINE: b',"newline":false'}


class JsonRecords:
    """One JSON object a line: `time`, `endpoint`, `peer`, and `text`, or `base64` where it isn't UTF-8."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint

    def _head(self, now: int, peer: str) -> bytes:
        return (
            f'{{"time":"{timestamp(now)}","endpoint":"{self._endpoint}","peer":{json.dumps(peer)},'.encode()
        )

    def lines(self, now: int, peer: str, lines: bytes) -> bytes:
        head = self._head(now, peer)
        try:
            text = _json_lines(lines)
        except UnicodeDecodeError:
            return b"".join([head + _json_value(line) + b"}\n" for line in lines[:-1].split(b"\n")])
        head += b'"text":"'
        return head + text[:-1].replace(b"\n", b'"}\n' + head) + b'"}\n'

    def piece(self, now: int, peer: str, line: bytes, mark: Mark | None = None) -> bytes:
        return self._head(now, peer) + _json_value(line) + _JSON_MARKS[mark] + b"}\n"

    def mend(self) -> bytes:
        now = timestamp(time.time_ns())
        return f'\n{{"time":"{now}","endpoint":"{self._endpoint}","mark":"{Mark.TORN}"}}\n'.encode()


class RawRecords:
    """The bytes of each line and a newline; no escapes and no marks."""

    def lines(self, now: int, peer: str, lines: bytes) -> bytes:  # noqa: ARG002
        return lines

    def piece(self, now: int, peer: str, line: bytes, mark: Mark | None = None) -> bytes:  # noqa: ARG002
        return line + b"\n"

    def mend(self) -> bytes:
        return b"\n"


def records_for(form: str, endpoint: str) -> Records:
    """The format of that name: `text`, `json` or `raw`."""
    if form == "text":
        return TextRecords(endpoint)
    return JsonRecords(endpoint) if form == "json" else RawRecords()


def timestamp(now: int) -> str:
    """UTC with microseconds: `2026-11-20T05:00:00.123456Z`."""
    seconds, microseconds = divmod(now // 1000, 1_000_000)
    return f"{_second(seconds)}.{microseconds:06d}Z"


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _json_value(line: bytes) -> bytes:
    try:
        return b'"text":"' + _json_lines(line) + b'"'
    except UnicodeDecodeError:
        return b'"base64":"' + b2a_base64(line, newline=False) + b'"'


def _json_lines(lines: bytes) -> bytes:
    """Lines as they stand between the quotes of JSON strings; newlines stay."""
    suspects = lines.translate(None, _HARMLESS_IN_JSON)
    if not suspects:
        return lines
    text = lines.decode()
    # One pass for each sort of character: a chunk full of controls costs no call for each of them.
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    for byte in set(suspects.translate(None, NOT_CONTROLS)):
        text = text.replace(chr(byte), f"\\u{byte:04x}")
    if not suspects.isascii():
        for character in set(UNSAFE_ABOVE_ASCII.findall(text)):
            text = text.replace(character, json.dumps(character)[1:-1])
    return text.encode()
