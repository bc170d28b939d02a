"""What models refuse, with its place and in our words, third parties' models too."""

from ipaddress import IPv4Address
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError

from sockd.base.errors import Place
from sockd.config.document import parse
from sockd.config.problems import of_model, place_of, show
from sockd.config.values import Mapping


class Inner(BaseModel, extra="forbid"):
    level: int = 1


class Sample(BaseModel, extra="forbid"):
    """Options as somebody would write them who does not know our types."""

    inner: list[Inner] = []
    either: Literal["a", "b"] = "a"
    ratio: float = Field(0.5, gt=0, lt=1)
    code: str = Field("ab", min_length=2, max_length=3, pattern="^[a-z]*$")
    several: tuple[int, ...] = Field((), max_length=1)
    several_more: list[int] = Field([1], min_length=1)
    other: IPv4Address = IPv4Address("127.0.0.1")
    named: int = Field(0, alias="long-name")


def problems(text: str) -> list[str]:
    root = parse(f"options: {{{text}}}", "f").root
    assert isinstance(root, Mapping)
    try:
        Sample.model_validate(root["options"])
    except ValidationError as error:
        return [
            f"{one.place.column} {one.path}: {one.text}"
            for one in of_model(error, Sample, root, ("options",))
        ]
    return []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("inner: 5", "18 options.inner: a list is expected here, not '5'"),
        ("inner: {a: b}", "11 options.inner: a list is expected here, not a mapping"),
        ("inner: [{level: x}]", "27 options.inner[0].level: 'x' is not a whole number"),
        ("inner: [{lvel: 1}]", "20 options.inner[0]: unknown key 'lvel', did you mean 'level'?"),
        ("either: c", "19 options.either: 'c' is not known here: there are a and b"),
        ("either: [a]", "19 options.either: one of a, b is expected here, not a list"),
        ("ratio: x", "18 options.ratio: 'x' is not a number"),
        ("ratio: 0", "18 options.ratio: 0 is too small: more than 0.0"),
        ("ratio: 1", "18 options.ratio: 1 is too large: less than 1.0"),
        ("code: a", "17 options.code: 'a' is too short: at least 2 characters"),
        ("code: abcd", "17 options.code: 'abcd' is too long: at most 3 characters"),
        ("code: AB", "17 options.code: 'AB' does not fit the pattern ^[a-z]*$"),
        ("several: [1, 2]", "20 options.several: at most 1 are possible here"),
        ("several_more: []", "25 options.several_more: at least 1 is needed here"),
        ("long-nam: 5", "11 options: unknown key 'long-nam', did you mean 'long-name'?"),
        ("other: x", "18 options.other: input is not a valid IPv4 address"),
    ],
)
def test_words(text: str, problem: str) -> None:
    """Each kind of refusal has its words."""
    assert problems(text) == [problem]


def test_right_options() -> None:
    """What a plain pydantic model reads from text, it reads from the file."""
    assert problems("inner: [{level: 3}], either: b, ratio: 0.25, several: [1], long-name: 5") == []


@pytest.mark.parametrize(
    ("steps", "shown"),
    [
        ((), ""),
        (("a", 0, "b.c"), "a[0].b.c"),
        (("a\nb",), "'a\\nb'"),
        (("a", "x" * 100), f"a.'{'x' * 57}'..."),
    ],
)
def test_paths(steps: Any, shown: str) -> None:
    """A path of keys is one line."""
    assert show(steps) == shown


def test_places() -> None:
    """What is not there is told at the nearest thing around it."""
    root = parse("a:\n  b: [x]\n", "f").root
    assert root is not None
    assert place_of(root, ("a", "b", 0)) == Place("f", 2, 7)
    assert place_of(root, ("a", "b", 1)) == Place("f", 2, 3)
    assert place_of(root, ("a", "c")) == Place("f", 1, 1)
    assert place_of(root, ()) == Place("f", 1, 1)
