"""The text that other people's terminals are shown."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockd.protocols.chat import lines


def dangerous(text: str) -> list[str]:
    """Characters that drive a terminal, end a line or change the order of writing, by Unicode's account."""
    bidirectional = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    return [
        each
        for each in text
        if unicodedata.category(each) in {"Cc", "Cs", "Zl", "Zp"}
        or unicodedata.bidirectional(each) in bidirectional
        or each in "\u200e\u200f\u061c"
        or 0xE0000 <= ord(each) < 0xE0080
    ]


@given(st.binary(max_size=200))
def test_any_bytes(line: bytes) -> None:
    """No bytes give a text with anything dangerous in it, nor one that can't be sent on."""
    text = lines.clean(line)
    assert not dangerous(text)
    assert text.encode().decode() == text


@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    """No text does either, and what holds nothing dangerous is passed on as it is."""
    shown = lines.visible(text.encode("utf-8", "replace").decode())
    assert not dangerous(shown)
    if text.isprintable() and not any(unicodedata.category(each) == "Cf" for each in text):
        assert shown == text


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        (b"\x9b31m", "\ufffd31m"),
        ("\x9b31m".encode(), r"\u{9b}31m"),
        (b"a\rb", r"a\x0db"),
        (b"if x:\ty", "if x:   y"),
        (b"\t\tpass\t# here", "        pass    # here"),
        ("gnp.\u202efdp".encode(), r"gnp.\u{202e}fdp"),
        ("one\u2028-- bob left".encode(), r"one\u{2028}-- bob left"),
        (b"caf\xe9", "caf\ufffd"),
        ("Grüße, 你好 👩\u200d👧".encode(), "Grüße, 你好 👩\u200d👧"),
        (b"C:\\new", "C:\\new"),
    ],
)
def test_examples(line: bytes, shown: str) -> None:
    """Escapes are made visible, invalid UTF-8 is replaced, all else is left alone."""
    assert lines.clean(line) == shown


FLAGS = ["gbeng", "gbsct", "gbwls", "usca"]


def flag(code: str) -> str:
    """The flag of a part of a country, as UTS 51 has it."""
    return "\U0001f3f4" + "".join(chr(0xE0000 + ord(each)) for each in code) + "\U000e007f"


@pytest.mark.parametrize(
    "text",
    [
        *map(flag, FLAGS),
        f"it's {flag('gbsct')}{flag('gbwls')}!",
        "👩🏽\u200d❤\ufe0f\u200d💋\u200d👩🏻",  # joiners, a variation selector, tones
        "1\ufe0f\u20e3 #\ufe0f\u20e3",  # keycaps
        "🇬🇧 ☎\ufe0e",
        "e\u0302\u0301 ก\u0e49\u0e31 ש\u05c1\u05b8\u0591",  # Vietnamese, Thai, Hebrew
        "क्\u200dष می\u200cخواهم",  # noqa: RUF001 - Hindi, Persian
        "a" + "\u0301" * lines.STACK_LIMIT,
    ],
)
def test_sequences_that_are_whole(text: str) -> None:
    """Characters that belong to one stay together."""
    assert lines.clean(text.encode()) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        # Tag characters that are no flag: without a base, without an end, another base, too long, other tags.
        (flag("gbeng")[1:], "".join(f"\\u{{e00{ord(each):x}}}" for each in "gbeng") + r"\u{e007f}"),
        (flag("gbeng")[:-1], "🏴" + "".join(f"\\u{{e00{ord(each):x}}}" for each in "gbeng")),
        ("🏳" + flag("gbe")[1:], "🏳" + "".join(f"\\u{{e00{ord(each):x}}}" for each in "gbe") + r"\u{e007f}"),
        (flag("gbhello"), "🏴" + "".join(f"\\u{{e00{ord(each):x}}}" for each in "gbhello") + r"\u{e007f}"),
        (flag("GB"), "🏴" + r"\u{e0047}\u{e0042}\u{e007f}"),
        # More marks on one character than any script has, and bytes hidden in variation selectors.
        ("a" + "\u0301" * 10 + "b", "a" + "\u0301" * 8 + r"\u{301}\u{301}" + "b"),
        ("x" + "\U000e0101" * 9, "x" + "\U000e0101" * 8 + r"\u{e0101}"),
        ("x" + "\u200d\u200c" * 5, "x" + "\u200d\u200c" * 4 + r"\u{200d}\u{200c}"),
        (flag("gbeng") + "\u202e", flag("gbeng") + r"\u{202e}"),
    ],
)
def test_sequences_that_hide_or_spill(text: str, shown: str) -> None:
    """What is no whole sequence is shown as what it is."""
    assert lines.clean(text.encode()) == shown


def test_growth() -> None:
    """A text is too long by its bytes as they are shown."""
    assert not lines.too_long("é" * 650)
    assert lines.too_long("é" * 651)


def test_shortened() -> None:
    """Replies repeat the beginning of what was written."""
    assert lines.shortened("x" * 40) == "x" * 40
    assert lines.shortened("x" * 41) == "x" * 39 + "…"
