"""Streams of lines and the records that are made of them."""

import base64
import json
import re
from typing import Any, cast

from sockd.base.lines import LineSplitter, Part
from sockd.base.text import UNSAFE, escape
from sockd.protocols.echo.echo import Echo
from sockd.protocols.line_log.records import Mark, records_for
from tests.base.test_lines import flat, reference
from tests.fuzz.parsers.checks import chunks

_LIMIT = 8
_NOW = 1_795_150_800_123_456_789
_PEER = "127.0.0.1:40122"
_HEAD = b"2026-11-20T05:00:00.123456Z log 127.0.0.1:40122 "


def split_lines(data: bytes) -> None:
    """However the stream is cut into chunks, its lines are those of the plain way, and little is kept."""
    stream, pieces = chunks(data)
    splitter = LineSplitter(_LIMIT)
    parts: list[Part] = []
    for piece in pieces:
        parts += splitter.feed(piece)
        assert len(splitter.rest) <= _LIMIT + 1
    assert flat(parts + splitter.end()) == reference(stream, _LIMIT)


def write_records(data: bytes) -> None:
    """Records are as many as the lines, hold nothing that forges or drives, and give the bytes back."""
    lines = data.split(b"\n")
    whole = data + b"\n"
    text = records_for("text", "log").lines(_NOW, _PEER, whole).split(b"\n")
    values = records_for("json", "log").lines(_NOW, _PEER, whole).split(b"\n")
    assert (text.pop(), values.pop()) == (b"", b"")
    for line, record, value in zip(lines, text, values, strict=True):
        assert not UNSAFE.search(record.decode()), record
        assert original(record.removeprefix(_HEAD)) == line
        assert not re.search(rb"(?<!\\)(\\\\)*\\\{", record), "a mark was forged"
        assert not UNSAFE.search(value.decode()), value
        fields = json.loads(value)
        assert fields["peer"] == _PEER
        assert json_bytes(fields) == line
    assert records_for("raw", "log").lines(_NOW, _PEER, whole) == whole
    marked = records_for("text", "log").piece(_NOW, _PEER, lines[0], Mark.CUT)
    assert marked == _HEAD + escape(lines[0]) + b"\\{cut}\n"


def echo_lines(data: bytes) -> None:
    """The prefix stands before each line, however its bytes arrive."""
    stream, pieces = chunks(data)
    echo, back = Echo(b"> "), _Collected()
    echo.transport = cast("Any", back)
    for piece in pieces:
        echo.dataReceived(piece)
    lines = stream.splitlines(keepends=True) if b"\r" not in stream else _lines(stream)
    assert b"".join(back.data) == b"".join(b"> " + line for line in lines)


def _lines(stream: bytes) -> list[bytes]:
    """Each with its newline; unlike `splitlines`, LF alone ends one."""
    return [line for line in re.split(rb"(?<=\n)", stream) if line]


class _Collected:
    """A transport."""

    def __init__(self) -> None:
        self.data: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.data.append(data)


def original(text: bytes) -> bytes:
    """The line of a text record: as docs/protocols/line-log.md has it."""

    def one(found: re.Match[bytes]) -> bytes:
        code = found[1]
        if code.startswith(b"x"):
            return bytes([int(code[1:], 16)])
        return chr(int(code[2:-1], 16)).encode() if code.startswith(b"u") else code

    return re.sub(rb"\\(\\|x[0-9a-f]{2}|u\{[0-9a-f]+\})", one, text)


def json_bytes(fields: dict[str, str]) -> bytes:
    """The line of a JSON record."""
    return base64.b64decode(fields["base64"]) if "base64" in fields else fields["text"].encode()
