"""The registry loads what it is asked for, and says what is wrong with what can't be had."""

import sys
from dataclasses import replace
from typing import Any, cast

import pytest

from sockd import __version__
from sockd.base.errors import ProtocolUnavailableError
from sockd.protocols.contract import CONTRACT, ContractError, Specification
from sockd.protocols.registry import Registry, of_distribution
from tests.fake_registry import SAMPLE, Distribution, Point, registry


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
        (
            "double",
            (
                "the protocol 'double' is installed twice, by sockd-one 1.2 and sockd-two 1.2:"
                " write sockd-one:double or sockd-two:double"
            ),
        ),
        ("sockd-three:double", "unknown protocol 'sockd-three:double', did you mean 'sockd-two:double'?"),
    ],
)
def test_unavailable(name: str, problem: str) -> None:
    """Each reason is one line that names the distribution."""
    with pytest.raises(ProtocolUnavailableError) as caught:
        registry().get(name)
    assert str(caught.value) == problem


def test_a_newer_contract() -> None:
    """A protocol for a contract that we don't have is refused for that, whatever else it says that is new."""

    def load() -> Any:
        new: Any = {"of_a_newer_contract": True, "contract": CONTRACT + 1}
        return Specification("new", **new)

    with pytest.raises(ProtocolUnavailableError) as refused:
        Registry(cast("Any", lambda: [Point("new", load)])).get("new")
    assert str(refused.value) == (
        "the protocol 'new' of an unknown distribution can't be loaded: it is written for version"
        f" {CONTRACT + 1} of sockd's contract with protocols, and sockd {__version__} has version {CONTRACT}:"
        " install a newer sockd, or an older protocol"
    )
    assert Specification("today's", contract=CONTRACT).contract == CONTRACT
    assert replace(Specification("old"), summary="other").contract == 1
    wrong: Any
    for wrong in (0, True, "1"):
        with pytest.raises(ContractError, match="is not a version"):
            Specification("wrong", contract=wrong)


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
    assert found["sockd-one:double"].distribution == "sockd-one 1.2"
    assert found["sockd-two:double"].specification is SAMPLE


OTHER = Specification("another")


def _two(ours: str = "sockd", theirs: str = "Their_Package") -> Registry:
    """A registry in which two distributions have an `echo`."""
    return Registry(
        lambda: cast(
            "Any",
            [
                Point("echo", lambda: OTHER, dist=Distribution(theirs)),
                Point("echo", lambda: SAMPLE, dist=Distribution(ours)),
            ],
        )
    )


def test_what_another_package_brings_changes_no_file() -> None:
    """A name means sockd's own protocol whatever else is installed, and the other can be named as well."""
    found = _two()
    assert found.names() == ["echo", "their-package:echo"]
    assert found.get("echo") is found.get("sockd:echo") is SAMPLE
    assert found.get("their-package:echo") is found.get("Their.Package:echo") is OTHER
    assert [one.distribution for one in found.all()] == ["sockd 1.2", "Their_Package 1.2"]


def test_a_name_of_two_other_packages_has_to_be_chosen() -> None:
    """Neither is preferred, and each has a name of its own."""
    found = _two("one", "two")
    with pytest.raises(ProtocolUnavailableError, match=r": write one:echo or two:echo$"):
        found.get("echo")
    assert found.get("one:echo") is SAMPLE
    assert found.names() == ["one:echo", "two:echo"]


def test_two_names_of_one_protocol() -> None:
    """With its distribution a protocol is the same, so that a reload changes nothing."""
    found = _two()
    assert [found.canonical(name) for name in ("echo", "sockd:echo", "Their_Package:echo", "x:y")] == [
        "echo",
        "echo",
        "Their_Package:echo",
        "x:y",
    ]


def test_ours_are_installed_and_import_no_reactor() -> None:
    """Those that we ship are found, and looking at them does not start Twisted's reactor."""
    ours = Registry(of_distribution("sockd"))
    assert ours.names() == ["chat", "echo", "factory", "line-log"]
    before = "twisted.internet.reactor" in sys.modules
    assert all(one.specification for one in ours.all())
    assert ("twisted.internet.reactor" in sys.modules) == before
