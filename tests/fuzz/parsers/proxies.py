"""What a proxy says before its client's bytes."""

from collections.abc import Iterable
from contextlib import suppress
from itertools import chain
from typing import Any

# Twisted's parser has no public name; it is what ours is compared with.
from twisted.protocols.haproxy._exceptions import InvalidProxyHeader
from twisted.protocols.haproxy._v1parser import V1Parser

from sockd.transports.proxy import HEADER_LIMIT, Header, ProxyError, ProxyInfo
from tests.fuzz.parsers.checks import chunks, is_message

Outcome = tuple[ProxyInfo, bytes] | str | None


def read_header(data: bytes) -> None:
    """However the stream is cut, the header, the bytes behind it or what is wrong are the same."""
    stream, pieces = chunks(data)
    whole = _outcome([stream])
    assert _outcome(pieces) == whole
    assert _outcome(stream[at : at + 1] for at in range(min(len(stream), 2 * HEADER_LIMIT))) == _outcome(
        [stream[: 2 * HEADER_LIMIT]]
    )
    if isinstance(whole, str):
        is_message(whole)
    elif whole is not None:
        info, rest = whole
        assert stream.endswith(rest)
        assert len(stream) - len(rest) <= HEADER_LIMIT
        _as_twisted(stream[: len(stream) - len(rest)], info)


def _outcome(pieces: Iterable[bytes]) -> Outcome:
    header = Header()
    parts = iter(pieces)
    for piece in parts:
        try:
            found = header.feed(piece)
        except ProxyError as error:
            return str(error)
        if found is not None:
            info, rest = found
            return info, b"".join(chain([rest], parts))
        assert len(header.held) <= HEADER_LIMIT
    return None


def _as_twisted(header: bytes, info: ProxyInfo) -> None:
    """Twisted's parser of the lines of version 1 takes them for the same, where it takes them at all."""
    if not header.startswith(b"PROXY TCP"):
        return
    with suppress(InvalidProxyHeader):
        theirs: Any = V1Parser.parse(header[:-2])
        assert info.source is not None
        assert (theirs.source.port, theirs.destination.port) == (
            info.source[1],
            (info.destination or info.source)[1],
        )
