"""Every input that is kept, those that once crashed a parser among them, and inputs made of its words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.targets import CORPUS, TARGETS
from tests.fuzz.words import words

PER_TARGET = pytest.mark.parametrize("name", list(TARGETS))


@PER_TARGET
def test_kept_inputs(name: str) -> None:
    """No input of the corpus crashes its parser."""
    files = sorted((CORPUS / name).iterdir())
    assert files
    for file in files:
        try:
            TARGETS[name](file.read_bytes())
        except BaseException as error:
            error.add_note(f"{name}: {file.name}")
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
    kept = [file.read_bytes() for file in sorted((CORPUS / name).iterdir())]
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
    assert {directory.name for directory in CORPUS.iterdir()} == set(TARGETS)
