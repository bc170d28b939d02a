"""Every kept input passes, as do others made of them and of words; and corpora survive their files."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.corpora import CORPUS, escaped, file_of, read, unescaped, write
from tests.fuzz.targets import TARGETS
from tests.fuzz.words import words

PER_TARGET = pytest.mark.parametrize("name", list(TARGETS))


@PER_TARGET
def test_kept_inputs(name: str) -> None:
    """No input of the corpus crashes its parser."""
    inputs = read(file_of(name))
    assert inputs
    for line, data in enumerate(inputs, 1):
        try:
            TARGETS[name](data)
        except BaseException as error:
            error.add_note(f"{file_of(name)}:{line}")
            raise


@PER_TARGET
def test_words_in_any_order(name: str) -> None:
    """Nor does any row of words that mean something to it, with bytes in between that don't."""
    pieces = st.sampled_from(words(name)) | st.binary(max_size=6)

    @given(st.lists(pieces, max_size=30).map(b"".join))
    def each(data: bytes) -> None:
        TARGETS[name](data)

    each()


@PER_TARGET
def test_changed_inputs(name: str) -> None:
    """Nor does an input of the corpus with a piece of another one, or with a word, in some place."""
    kept = read(file_of(name))
    pieces = st.sampled_from(words(name)) | st.sampled_from(kept) | st.binary(max_size=4)
    places = st.integers(0, 400)

    @given(st.sampled_from(kept), st.lists(st.tuples(places, places, pieces), min_size=1, max_size=3))
    def each(data: bytes, changes: list[tuple[int, int, bytes]]) -> None:
        for start, length, piece in changes:
            data = data[:start] + piece + data[start + length % 8 :]
        TARGETS[name](data[:8192])

    each()


def test_every_corpus_has_its_parser() -> None:
    """No input is kept that nothing tries."""
    assert set(CORPUS.iterdir()) == set(map(file_of, TARGETS))


@PER_TARGET
def test_a_corpus_is_as_it_would_be_written(name: str, tmp_path: Path) -> None:
    """Sorted, each input once, and escaped in the one way."""
    write(tmp_path / "again.txt", read(file_of(name)))
    assert (tmp_path / "again.txt").read_bytes() == file_of(name).read_bytes()


@given(st.binary(max_size=40))
def test_an_input_survives_its_line(data: bytes) -> None:
    """Every byte comes back, from a single line of printable ASCII."""
    line = escaped(data)
    assert line.isascii()
    assert line.isprintable()
    assert not line.endswith(" ")
    assert unescaped(line) == data


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"\r\n", b"\\n", b" ", b"\0\x7f\x80\xff", b"\\N{DIGIT ONE}\\u00e9"]
)
def test_telling_inputs_survive_their_file(data: bytes, tmp_path: Path) -> None:
    """What looks like an escape, an end of a line or nothing is an input like any other."""
    file = tmp_path / "one.txt"
    write(file, [data, b"other", data])
    assert read(file) == sorted([data, b"other"])
