"""Text as people are shown it: nothing in it drives a terminal, forges a line or hides."""

import re

# C0, DEL and C1 drive terminals; U+2028 and U+2029 end lines for some readers; the bidi controls (U+061C,
# U+200E, U+200F, U+202A to 202E, U+2066 to 2069) reorder what is shown (CVE-2021-42574); others are unseen.
# U+200C and U+200D stay: Persian, Indic scripts and emoji are written with them.
_ABOVE_ASCII = (
    "\\x80-\\x9f\\xad\\u061c\\u180e\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f"
    "\\ufeff\\ufff9-\\ufffb\\U000e0000-\\U000e007f"
)
# Surrogates come from JSON and from arguments that are not UTF-8, never from decoded bytes.
UNSAFE = re.compile(f"[\\x00-\\x1f\\x7f\\ud800-\\udfff{_ABOVE_ASCII}]")
UNSAFE_ABOVE_ASCII = re.compile(f"[{_ABOVE_ASCII}]")
# How a byte that is not UTF-8 is written, by the character that `surrogateescape` decodes it to.
_BYTES = {chr(0xDC00 + byte): f"\\x{byte:02x}" for byte in range(0x80, 0x100)}
_UNSAFE_OR_BYTE = re.compile(f"[\\udc80-\\udcff{_ABOVE_ASCII}]")
# Different characters up to which one pass for each of them is faster than one step for each character: it is
# 20 times as fast for one of them.
_MAX_PASSES = 20

# Bytes that stand for themselves in an escaped line; newlines end lines.
HARMLESS = bytes({*range(0x20, 0x7F), 0x0A} - {ord("\\")})
NOT_CONTROLS = bytes({*range(0x20, 0x7F), *range(0x80, 0x100), 0x0A})


def visible(text: str) -> str:
    r"""The text with every unsafe character, newlines included, written as `\x1b` (C0, DEL) or `\u{202e}`."""
    return UNSAFE.sub(lambda found: _shown(found[0]), text)


def _shown(character: str) -> str:
    """How an unsafe character is written."""
    code = ord(character)
    if 0xD800 <= code < 0xE000:
        return f"\\u{code:x}"  # as Python's own backslashreplace has it
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{{{code:x}}}"


def visible_json(line: str) -> str:
    """A line of JSON with every unsafe character written as JSON has it: it means what it meant."""
    return UNSAFE.sub(lambda found: _in_json(ord(found[0])), line)


def _in_json(code: int) -> str:
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)  # as a pair of surrogates
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


def escape(data: bytes) -> bytes:
    r"""Lines of any bytes as lines of safe UTF-8, from which the bytes can be restored.

    A backslash becomes `\\`, a byte that is C0, DEL or not UTF-8 `\xNN`, another unsafe character `\u{…}`.
    Newlines stay. How a line is escaped doesn't depend on the others: many may be escaped in one call.
    """
    suspects = data.translate(None, HARMLESS)
    if not suspects:
        return data
    data = data.replace(b"\\", b"\\\\")
    # One pass for each different character: a chunk full of controls costs no call for each of them.
    for byte in set(suspects.translate(None, NOT_CONTROLS)):
        data = data.replace(bytes((byte,)), b"\\x%02x" % byte)
    if suspects.isascii():
        return data
    text = data.decode("utf-8", "surrogateescape")
    sorts = set(_UNSAFE_OR_BYTE.findall(text))
    return replaced(text, {each: _BYTES.get(each) or _shown(each) for each in sorts}).encode()


def replaced(text: str, shown: dict[str, str]) -> str:
    """The text with each character of `shown` replaced; no replacement may hold one of the characters.

    Even the worst text that a peer can send, of many different ones, costs less than 0.1 µs a character.
    """
    if len(shown) > _MAX_PASSES:
        shown = {each: shown.get(each, each) for each in set(text)}
        return "".join(map(shown.__getitem__, text))
    for character, form in shown.items():
        text = text.replace(character, form)
    return text
