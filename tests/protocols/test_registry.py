"""The registry loads what it is asked for, and says what is wrong with what can't be had."""

import sys
from typing import Any, cast

import pytest

from sockd.base.errors import ProtocolUnavailableError
from sockd.protocols.registry import Registry, of_distribution
from tests.fake_registry import SAMPLE, Point, registry


def test_loads_what_is_asked_for_once() -> None:
    """A protocol is loaded at the first question, and others are left alone."""
    loads = []

    def load() -> Any:
        loads.append(1)
        return SAMPLE

    def fail() -> Any:
        raise AssertionError("nobody asked for this one")

    found = Registry(cast("Any", lambda: [Point("a", load), Point("b", fail)]))
    assert found.names() == ["a", "b"]
    assert found.get("a") is found.get("a") is SAMPLE
    assert loads == [1]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("sampel", "unknown protocol 'sampel', did you mean 'sample'?"),
        (
            "broken",
            (
                "the protocol 'broken' of sockd-broken 1.2 can't be loaded:"
                " ImportError: No module named 'nowhere' (really)"
            ),
        ),
        ("leaving", "the protocol 'leaving' of sockd-leaving 1.2 can't be loaded: SystemExit: 3"),
        (
            "text",
            "the protocol 'text' of an unknown distribution: samples:specification is not a Specification",
        ),
        ("double", "the protocol 'double' is installed twice, by sockd-one 1.2 and sockd-two 1.2"),
    ],
)
def test_unavailable(name: str, problem: str) -> None:
    """Each reason is one line that names the distribution."""
    with pytest.raises(ProtocolUnavailableError) as caught:
        registry().get(name)
    assert str(caught.value) == problem


def test_nothing_installed() -> None:
    """Without any protocol there is nothing to offer."""
    with pytest.raises(ProtocolUnavailableError, match=r"^unknown protocol 'echo': there are none here$"):
        Registry(list).get("echo")


def test_all_lists_the_broken_ones_too() -> None:
    """A protocol that fails to load is listed with its reason, next to those that load."""
    found = {one.name: one for one in registry().all()}
    assert found["sample"].specification is SAMPLE
    assert found["sample"].distribution == "sockd-samples 1.2"
    assert found["broken"].specification is None
    assert "ImportError" in found["broken"].problem
    assert found["double"].distribution == "sockd-one 1.2 and sockd-two 1.2"


def test_ours_are_installed_and_import_no_reactor() -> None:
    """The three that we ship are found, and looking at them does not start Twisted's reactor."""
    ours = Registry(of_distribution("sockd"))
    assert ours.names() == ["chat", "echo", "line-log"]
    before = "twisted.internet.reactor" in sys.modules
    assert all(one.specification for one in ours.all())
    assert ("twisted.internet.reactor" in sys.modules) == before
