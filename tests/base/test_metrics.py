"""The counters, and the vocabulary of ends."""

import re
from pathlib import Path

import pytest

from sockd.base.metrics import Counters, End, summary


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


def test_words_of_ends_are_explained() -> None:
    """The table of docs/log.md has every end that the log may tell, and no other."""
    page = (Path(__file__).parents[2] / "docs" / "log.md").read_text()
    _, found, rest = page.partition("| why it ended |")
    assert found
    table, _, _ = rest.partition("\n\n")
    words = re.findall(r"^\| `([^`]+)` \| \S.* \|$", table, re.MULTILINE)
    assert sorted(words) == sorted(End)


def test_counters_go_on_in_another_program() -> None:
    """All of them; what an older program didn't count begins at nothing."""
    counters = Counters()
    for number, name in enumerate(Counters.__slots__):
        if name not in ("dropped", "refused"):
            setattr(counters, name, number + 1)
    counters.refused["datagrams"] += 7
    counters.dropped["idle"] += 8
    state = counters.freeze()
    after = Counters()
    after.thaw(state)
    assert after.freeze() == state
    after.refused["datagrams"] += 1
    assert state["refused"] == {"datagrams": 7}
    del state["refused"], state["empty"]
    after = Counters()
    after.thaw(state | {"unheard of": 3})
    assert (after.accepted, after.empty, after.refused) == (counters.accepted, 0, {})


def test_refusals_in_words() -> None:
    """The most frequent first."""
    counters = Counters()
    counters.refused.update({"datagrams": 1, "source network": 3})
    assert summary(counters.refused) == "3 x source network, 1 x datagrams"
