"""Makes visible, reversibly, the characters by which text could forge a line, drive a terminal or hide."""

import re
from collections.abc import Iterable

# C0, DEL and C1 drive terminals; U+2028 and U+2029 end lines for some readers; the bidi controls (U+061C,
# U+200E, U+200F, U+202A to 202E, U+2066 to 2069) reorder what is shown (CVE-2021-42574); others are unseen.
# U+200C and U+200D stay: Persian, Indic scripts and emoji are written with them.
_ABOVE_ASCII = (
    "\\x80-\\x9f\\xad\\u061c\\u180e\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f"
    "\\ufeff\\ufff9-\\ufffb\\U000e0000-\\U000e007f"
)
# Halves of characters (surrogates) come from JSON and from arguments that are not UTF-8, never from bytes.
UNSAFE = re.compile(f"[\\x00-\\x1f\\x7f\\ud800-\\udfff{_ABOVE_ASCII}]")
UNSAFE_ABOVE_ASCII = re.compile(f"[{_ABOVE_ASCII}]")
# What `surrogateescape` makes of a byte that is not UTF-8.
_BYTES = {chr(0xDC00 + byte): f"\\x{byte:02x}" for byte in range(0x80, 0x100)}
_UNSAFE_OR_BYTE = re.compile(f"[\\udc80-\\udcff{_ABOVE_ASCII}]")
# One pass for each sort of character is 20 times as fast as one step for each character, up to so many sorts.
_FEW = 20

# Bytes that stand for themselves in an escaped record; newlines separate records.
HARMLESS = bytes({*range(0x20, 0x7F), 0x0A} - {ord("\\")})
NOT_CONTROLS = bytes({*range(0x20, 0x7F), *range(0x80, 0x100), 0x0A})


def visible(text: str) -> str:
    r"""Text with every unsafe character, newlines included, shown as `\x1b` (C0, DEL) or `\u{202e}`."""
    return UNSAFE.sub(lambda found: _shown(found[0]), text)


def _shown(character: str) -> str:
    """How an unsafe character is written."""
    code = ord(character)
    if 0xD800 <= code < 0xE000:
        return f"\\u{code:x}"  # as Python's own backslashreplace has it
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{{{code:x}}}"


def escape(data: bytes) -> bytes:
    r"""Lines of bytes as safe UTF-8 lines from which the bytes can be got back.

    A backslash becomes `\\`, a byte that is C0, DEL or not UTF-8 `\xNN`, another unsafe character `\u{…}`.
    Newlines stay. Each line gives the same whatever stands around it, so many may be escaped at once.
    """
    suspects = data.translate(None, HARMLESS)
    if not suspects:
        return data
    data = data.replace(b"\\", b"\\\\")
    # One pass for each sort of character: a chunk full of controls costs no call for each of them.
    for byte in set(suspects.translate(None, NOT_CONTROLS)):
        data = data.replace(bytes((byte,)), b"\\x%02x" % byte)
    if suspects.isascii():
        return data
    text = data.decode("utf-8", "surrogateescape")
    sorts = set(_UNSAFE_OR_BYTE.findall(text))
    return replaced(text, {each: _BYTES.get(each) or _shown(each) for each in sorts}).encode()


def replaced(text: str, shown: dict[str, str]) -> str:
    """The text with these characters as they are shown, none of which is among what is shown.

    Also the worst that a peer can send, many sorts of them, costs less than 0.1 µs a character.
    """
    if len(shown) > _FEW:
        shown = {each: shown.get(each, each) for each in set(text)}
        return "".join(map(shown.__getitem__, text))
    for character, form in shown.items():
        text = text.replace(character, form)
    return text


def aligned(rows: Iterable[tuple[str, ...]]) -> str:
    """One line a row, two spaces between the columns; rows are equally long."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
