"""The counters, and the vocabulary of ends."""

import pytest

from sockd.metrics import Counters, End


def test_counters_begin_at_nothing() -> None:
    """A new listener has served nobody."""
    counters = Counters()
    for name in Counters.__slots__:
        assert not getattr(counters, name)
    counters.refused["datagrams"] += 1
    assert Counters().refused == {}


def test_unknown_counter_is_an_error() -> None:
    """A misspelt counter is not counted in silence."""
    with pytest.raises(AttributeError):
        Counters().bytes_inn = 1  # type: ignore[attr-defined]


def test_words_of_ends_are_distinct() -> None:
    """Each end has its own short words, which docs and log share."""
    assert len(set(End)) == len(End) == 10
    assert all(end == end.lower() and len(end) <= 23 for end in End)
