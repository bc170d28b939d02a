"""Makes what members write, names included, safe to be shown to others."""

import re

from sockd.base import text as escaped

LONGEST_LINE = 1024  # bytes of a line as it arrives, without its end
# Bytes of a line as it is shown: with a name before it, it fits into a datagram of 1,400.
LONGEST_SHOWN = 1300
LONGEST_QUOTE = 40  # characters of a member's own words that a reply repeats

NAME_PATTERN = "[A-Za-z0-9_-]{1,24}"
NAME_RULE = "1 to 24 ASCII letters, digits, - and _"
_NAME = re.compile(NAME_PATTERN)

# What telnet clients send of their own accord (RFC 854): a command, or an offer (WILL, DO) of an option.
# DONT, WONT and SB only answer what we never say; 255 254 is rather a byte-order mark, and is shown as not
# UTF-8.
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
    """Whether a visible text has grown beyond what one datagram takes."""
    return len(text.encode()) > LONGEST_SHOWN


def shortened(text: str) -> str:
    """The beginning of a member's own words, as a reply repeats them."""
    return text if len(text) <= LONGEST_QUOTE else text[: LONGEST_QUOTE - 1] + "…"


def is_name(text: str) -> bool:
    """Whether a member or a room may have this name."""
    return _NAME.fullmatch(text) is not None


def folded(name: str) -> str:
    """The form in which names are compared: two that differ only in case are the same."""
    return name.lower()
