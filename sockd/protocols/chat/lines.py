"""Makes what members write, names included, safe to be shown to others."""

import re
from unicodedata import category

from sockd.base import text as escaped

LONGEST_LINE = 1024  # bytes of a line as it arrives, without its end
# Bytes of a line as it is shown: with a name before it, it fits into a datagram of 1,400.
LONGEST_SHOWN = 1300
TAB_WIDTH = 4  # columns: pasted code stays aligned, and a tab takes no more than a few of the bytes
LONGEST_QUOTE = 40  # characters of a member's own words that a reply repeats

NAME_PATTERN = "[A-Za-z0-9_-]{1,24}"
NAME_RULE = "1 to 24 ASCII letters, digits, - and _"
_NAME = re.compile(NAME_PATTERN)

# The flag of a part of a country, such as England: a black flag, its code in tag characters, a closing tag
# (UTS 51, ED-14a). Tag characters anywhere else hide a text that nobody sees.
_FLAG = re.compile(
    "(\U0001f3f4[\U000e0061-\U000e007a]{2}[\U000e0030-\U000e0039\U000e0061-\U000e007a]{1,4}\U000e007f)"
)
_CLOSING_TAG = "\U000e007f"
_FIRST_COMBINING = "\u0300"
# What has no width of its own and may follow one character, counting joiners and variation selectors. Scripts
# need four or five; a hundred reach into the lines above and below, or hide as many bytes.
STACK_LIMIT = 8
_STACKED = {"Mn", "Me"}
_JOINERS = "\u200c\u200d"


def clean(line: bytes) -> str:
    """The text of a line: invalid UTF-8 replaced, tabs expanded, controls made visible."""
    return visible(line.decode("utf-8", "replace"))


def visible(text: str) -> str:
    r"""The text with `\xNN` and `\u{…}` in place of what must not reach a terminal, and spaces for tabs."""
    if text.isascii() and text.isprintable():
        return text
    text = text.expandtabs(TAB_WIDTH)
    if _CLOSING_TAG in text:
        # Every second piece is a flag.
        pieces = [
            piece if number % 2 else escaped.visible(piece) for number, piece in enumerate(_FLAG.split(text))
        ]
        text = "".join(pieces)
    else:
        text = escaped.visible(text)
    return _unstacked(text) if text and max(text) >= _FIRST_COMBINING else text


def _unstacked(text: str) -> str:
    r"""The text with combining characters beyond STACK_LIMIT in a row written as `\u{301}`."""
    shown = []
    height = 0
    for each in text:
        height = height + 1 if category(each) in _STACKED or each in _JOINERS else 0
        shown.append(each if height <= STACK_LIMIT else f"\\u{{{ord(each):x}}}")
    return "".join(shown)


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
