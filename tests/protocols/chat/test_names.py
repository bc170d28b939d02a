"""The rule for names."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockd.protocols.chat.lines import folded, is_name

ALLOWED = string.ascii_letters + string.digits + "-_"


@given(st.text(ALLOWED, min_size=1, max_size=24))
def test_allowed(name: str) -> None:
    """Every text of the allowed characters and lengths is a name, and so is what it is compared by."""
    assert is_name(name)
    assert is_name(folded(name))


@given(st.text(max_size=40))
def test_nothing_else(text: str) -> None:
    """No other text is a name, whatever Unicode calls its characters."""
    assert is_name(text) == (1 <= len(text) <= 24 and set(text) <= set(ALLOWED))


@pytest.mark.parametrize("text", ["", "a" * 25, "two words", "alice\n", "älice", "a.b", "\u0661"])
def test_refused(text: str) -> None:
    """Examples of what is no name."""
    assert not is_name(text)
