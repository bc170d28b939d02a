r"""Recognises clients of other protocols by the first line that they send, before anybody hears of it.

A browser or an IRC client that is pointed at the chat's port doesn't know where it is. What it sends may be
secret (a cookie, a password), and a page may even have it sent by a browser of its choice, with a body that
is a member's commands. So the first line decides: one that only such a client sends ends the connection,
with an answer that this client understands.

Words that people begin with as well count only in the form that a program gives them: `GET lost` is said to
the room. Of IRC's first commands even the first word decides, because a password comes behind it.
"""

import re
from typing import NamedTuple

from sockd.protocols.chat.lines import LONGEST_LINE

NO_CHAT = "not a chat"  # the counter's name of what is refused here

_WEB = b"This is a chat, not a web site. Programs that send lines speak with it: nc, telnet, rlwrap ncat.\n"


class Stranger(NamedTuple):
    """A protocol that is not served here: its name, and what to answer its client."""

    protocol: str
    answer: bytes

    @property
    def why(self) -> str:
        """The reason for the log, which has nothing of what the client sent."""
        return f"it speaks {self.protocol}"


def _http(protocol: str, version: str) -> Stranger:
    """HTTP and its relatives, which all know the status 400."""
    head = (
        f"{version} 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(_WEB)}\r\nConnection: close\r\n\r\n"
    )
    return Stranger(protocol, head.encode() + _WEB)


def _other(protocol: str) -> Stranger:
    return Stranger(protocol, f"-- this is a chat, which takes lines of text, not {protocol}\n".encode())


_HTTP = _http("HTTP", "HTTP/1.1")
_BINARY = _other("a binary protocol")
# By the first bytes, whether a line or not.
_BEGINNINGS = (
    (re.compile(rb"\x16\x03[\x00-\x04]"), _other("TLS")),
    (re.compile(rb"(?:\r\n\r\n)?\x00\r\nQUIT\n"), _other("the PROXY protocol")),
    (re.compile(rb"\x05[\x01-\x1f]"), _other("SOCKS")),
    (re.compile(rb"\xff\xec\n[\x01\x02]"), _other("SOCKS")),  # `telnet` has put its mark for a leading 4
    (re.compile(rb"\x03\x00[\x00-\x0f]"), _other("RDP")),
)
_METHODS = rb"GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH|TRACE|PROPFIND|SUBSCRIBE|NOTIFY|M-SEARCH"
# A first line that is too long, of which the version of HTTP isn't seen.
_LONG_REQUEST = re.compile(rb"[A-Za-z][A-Za-z-]+ (?:/|[a-z]+://)\S*$")
# By the first line. One that is too long has no end here.
_LINES = (
    (
        re.compile(
            rb"[A-Z][A-Z-]{2,} .*HTTP/\d(?:\.\d)?\s*$"
            rb"|(?i:(?:[a-z-]+ (?:[/*]|[a-z]+://)|connect )\S* HTTP/\d(?:\.\d)?\s*$)"
            rb"|(?:" + _METHODS + rb") (?:/|https?://)\S*\s*$"
            rb"|CONNECT \S+:\d+\s*$"
            rb"|HTTP/\d(?:\.\d)? \d{3}\b"
        ),
        _HTTP,
    ),
    (re.compile(rb"[A-Z]+ \S+ RTSP/\d"), _http("RTSP", "RTSP/1.0")),
    (re.compile(rb"[A-Z]+ \S+ SIP/\d|SIP/\d\.\d \d{3}\b"), _http("SIP", "SIP/2.0")),
    (
        re.compile(
            rb"(?:PASS|NICK|USER|WEBIRC|AUTHENTICATE)(?: |\s*$)|(?i:CAP (?:LS|LIST|REQ|END)\b)"
            rb"|(?i:USER \S+ \S+ \S+ :)"
        ),
        Stranger("IRC", b"ERROR :This is a chat for nc, telnet or rlwrap ncat, and no IRC server\r\n"),
    ),
    (
        re.compile(rb"(?:EHLO|HELO|LHLO) \S+\s*$"),
        Stranger("SMTP", b"554 This is a chat, and no mail server\r\n"),
    ),
    (re.compile(rb"PROXY (?:TCP[46]|UNKNOWN)\b"), _other("the PROXY protocol")),
    (re.compile(rb"SSH-\d\.\d"), _other("SSH")),
    (re.compile(rb"\*\d{1,4}\s*$"), Stranger("Redis", b"-ERR this is a chat, and no Redis server\r\n")),
)


def first_line(data: bytes) -> tuple[bool, Stranger | None]:
    """Whether the first bytes of a peer tell what it speaks, and if so, which other protocol.

    Blank lines before the first line don't count, as HTTP has it (RFC 9112, section 2.2).
    """
    for beginning, stranger in _BEGINNINGS:
        if beginning.match(data):
            return True, stranger
    line, newline, _ = data.lstrip(b"\r\n")[: LONGEST_LINE + 2].partition(b"\n")
    if b"\x00" in line:
        return True, _BINARY
    if not newline and len(line) <= LONGEST_LINE:
        return False, None
    if not newline and _LONG_REQUEST.match(line):
        return True, _HTTP
    for whole, stranger in _LINES:
        if whole.match(line):
            return True, stranger
    return True, None
