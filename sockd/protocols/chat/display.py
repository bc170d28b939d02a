"""What peers wrote, as it may be shown on other people's terminals."""

import re

from sockd import text as escaped

LONGEST = 1300  # bytes of one line as it is shown: with a name before it, it fits into a datagram of 1,400

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
    return len(text.encode()) > LONGEST


def shortened(text: str) -> str:
    """What somebody wrote, as far as a reply repeats it."""
    return text if len(text) <= 40 else text[:39] + "…"
