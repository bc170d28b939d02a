"""What a message offers for a word that is unknown."""

import pytest

from sockd.base.spelling import offer


@pytest.mark.parametrize(
    ("word", "known", "text"),
    [
        ("lsten", ["listen", "limits"], ", did you mean 'listen'?"),
        ("LISTEN", ["listen", "limits"], ", did you mean 'listen'?"),
        ("xyz", ["b", "c", "a"], ": there are a, b and c"),
        ("xyz", ["a"], ": there is a"),
        ("xyz", [], ": there are none here"),
    ],
)
def test_offers(word: str, known: list[str], text: str) -> None:
    """The nearest word that is known, or else all of them."""
    assert offer(word, known) == text


def test_a_long_word() -> None:
    """Only its beginning is compared, as that takes quadratic time."""
    assert offer("listen" + "x" * 10_000_000, ["listen"]) == ": there is listen"
