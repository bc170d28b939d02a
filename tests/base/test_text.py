"""Escaping: reversible, harmless, the same line for line."""

import json
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sockd.base.text import UNSAFE, escape, visible, visible_json

PAGE = Path(__file__).parents[2] / "docs" / "protocols" / "line-log.md"

UNSAFE_CHARACTERS = [
    chr(code) for code in range(0x110000) if UNSAFE.match(chr(code)) and not 0xD800 <= code < 0xE000
]
TROUBLE = st.lists(
    st.one_of(
        st.binary(max_size=8),
        st.sampled_from(UNSAFE_CHARACTERS).map(str.encode),
        st.characters(exclude_categories=["Cs"]).map(str.encode),
        st.sampled_from(
            [b"\\", b"\\x1b", b"\\u{202e}", b"\\{cut}", b"\r", b"\n", b"\xe2\x80", b"\xed\xa0\x80"]
        ),
    ),
    max_size=12,
).map(b"".join)


def original(text: bytes) -> bytes:
    """The bytes of an escaped line, by the recipe of the documentation."""
    recipe = re.search("```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert recipe
    names: dict[str, object] = {}
    exec(recipe[1], names)
    return names["original"](text)  # type: ignore[operator, no-any-return]


@given(TROUBLE)
@example(b"\x85 and \xc2\x85")
@example(b"\\x85")
@example(b"\\u{85}")
def test_escaping_is_reversible(data: bytes) -> None:
    """The documentation's recipe gives the bytes back."""
    assert original(escape(data)) == data


@given(TROUBLE)
def test_nothing_dangerous_is_left(data: bytes) -> None:
    """What comes out is UTF-8 without controls, bidi controls or invisible characters, but for newlines."""
    text = escape(data).decode()
    assert not UNSAFE.search(text.replace("\n", ""))
    assert text.count("\n") == data.count(b"\n")


@given(TROUBLE, TROUBLE)
def test_lines_are_escaped_alike_alone_and_together(one: bytes, other: bytes) -> None:
    """Many lines may be escaped at once."""
    assert escape(one + b"\n" + other) == escape(one) + b"\n" + escape(other)


@given(TROUBLE)
def test_no_escape_looks_like_a_mark(data: bytes) -> None:
    """A single backslash before a brace is sockd's own."""
    assert b"\\{" not in escape(data).replace(b"\\\\", b"")


def test_the_forms() -> None:
    """Each sort of character has its form; ordinary UTF-8 and emoji with joiners stay as they are."""
    assert escape(b"C:\\temp") == b"C:\\\\temp"
    assert escape(b"\x1b[31m\x00\x7f\t\r") == b"\\x1b[31m\\x00\\x7f\\x09\\x0d"
    assert escape("a\u202eb\u2028c\x85d".encode()) == b"a\\u{202e}b\\u{2028}c\\u{85}d"
    assert escape(b"\xff\xc3\x28\xed\xa0\x80") == b"\\xff\\xc3(\\xed\\xa0\\x80"
    plain = "Grüße, 日本語, 👩\u200d🚀 “quoted”"
    assert escape(plain.encode()) == plain.encode()


def test_many_sorts_at_once_are_escaped_as_each_alone() -> None:
    """The way that is quick for the worst a peer can send gives the same as the plain one."""
    worst = "".join(UNSAFE_CHARACTERS).replace("\n", "") + "\\ Grüße"
    data = bytes(range(0x80, 0x100)) + worst.encode() + bytes(range(0xFF, 0x7F, -1))
    pieces = [bytes((byte,)) for byte in range(0x80, 0xC0)]
    pieces += [bytes((byte,)) for byte in range(0xC0, 0x100)]
    pieces += [character.encode() for character in worst]
    pieces += [bytes((byte,)) for byte in range(0xFF, 0x7F, -1)]
    assert escape(data) == b"".join(map(escape, pieces))


def test_visible_is_for_text_that_is_shown_at_once() -> None:
    """Newlines are shown as well, and backslashes are left alone."""
    assert visible("a\r\nb\\c\x1b\u2066") == "a\\x0d\\x0ab\\c\\x1b\\u{2066}"


def test_half_characters_are_shown() -> None:
    """JSON and arguments may hold what no terminal and no file can be given."""
    assert visible("\ud800\udcff") == "\\ud800\\udcff"


def test_every_control_and_every_bidi_control_is_unsafe() -> None:
    """The class holds what Unicode calls a control, a line or paragraph end, or a change of direction."""
    bidi = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    for code in range(0x110000):
        character = chr(code)
        if (
            unicodedata.category(character) in ("Cc", "Zl", "Zp")
            or unicodedata.bidirectional(character) in bidi
        ):
            assert UNSAFE.match(character), hex(code)


@pytest.mark.parametrize("character", ["\x1b", "\x7f", "\x9b", "\u202e", "\U000e0041", "\n"])
def test_json_means_what_it_meant(character: str) -> None:
    """Whatever drives a terminal is escaped as JSON has it."""
    shown = visible_json(json.dumps([f"a{character}ö"], ensure_ascii=False))
    assert json.loads(shown) == [f"a{character}ö"]
    assert not UNSAFE.search(shown)
