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
        (b"if x:\ty", r"if x:\ty"),
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


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"\xff\xfd\x03\xff\xfb\x18\xff\xfb\x1fhello", "hello"),
        (b"one\xff\xf4\xff\xfd\x06two", "onetwo"),
        (b"\xff\xfetext", "\ufffd\ufffdtext"),
        (b"\xff", "\ufffd"),
        (b"\xff\xffa", "\ufffd\ufffda"),
    ],
)
def test_telnet(line: bytes, shown: str) -> None:
    """A telnet client's own negotiation is dropped; other bytes of 255 are just not UTF-8."""
    assert lines.clean(line) == shown


def test_growth() -> None:
    """A text is too long by its bytes as they are shown."""
    assert not lines.too_long("é" * 650)
    assert lines.too_long("é" * 651)


def test_shortened() -> None:
    """Replies repeat the beginning of what was written."""
    assert lines.shortened("x" * 40) == "x" * 40
    assert lines.shortened("x" * 41) == "x" * 39 + "…"
