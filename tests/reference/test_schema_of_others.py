"""A third party's options, whatever their types and defaults, leave everybody a schema and a plan."""

import json
from enum import Enum
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, cast

import pytest
from jsonschema import Draft202012Validator
from pydantic import Field, SecretStr

from sockd.plan.show import NOT_SHOWN, options_tree
from sockd.protocols.contract import Options, Specification
from sockd.protocols.registry import Registry
from sockd.reference.schema import schema, schema_text
from tests.fake_registry import Distribution, Point


class Colour(Enum):
    RED = "red"


class Unknown:
    """A type that pydantic knows nothing of."""


class ForeignOptions(Options):
    """Defaults that JSON has no types for."""

    colour: Colour = Colour.RED
    path: Path = Path("/srv")
    address: IPv4Address = IPv4Address("127.0.0.1")
    secret: SecretStr = SecretStr("hidden")
    words: frozenset[str] = frozenset({"b", "a"})
    text: bytes = b"text"
    binary: bytes = b"\xff"
    endless: float = float("inf")
    made: list[int] = Field(default_factory=lambda: [1])


class UndescribableOptions(Options):
    """A type without a form in a schema, or as text."""

    model_config = Options.model_config | {"arbitrary_types_allowed": True}
    thing: Unknown = Unknown()
    word: str = "word"


def _registry(options: type[Options]) -> Registry:
    specification = Specification("foreign", options, stream=lambda _host: cast("Any", None))
    return Registry(
        lambda: cast("Any", [Point("foreign", lambda: specification, dist=Distribution("foreign"))])
    )


def test_defaults_that_json_has_no_types_for() -> None:
    """What has a form in JSON is shown in it, the same each time; a secret is not shown."""
    tree = schema(_registry(ForeignOptions))
    json.loads(schema_text(_registry(ForeignOptions)), parse_constant=pytest.fail)
    keys = tree["$defs"]["foreign.options"]["properties"]
    assert {key: value["default"] for key, value in keys.items() if "default" in value} == {
        "colour": "red",
        "path": "/srv",
        "address": "127.0.0.1",
        "words": ["a", "b"],
        "text": "text",
    }
    assert "hidden" not in schema_text(_registry(ForeignOptions))


def test_types_that_no_schema_describes() -> None:
    """The protocol takes any keys as far as the schema knows, and the others are as they were."""
    tree = schema(_registry(UndescribableOptions))
    assert tree["$defs"]["foreign.options"]["type"] == "object"
    assert (
        "can't be described: PydanticInvalidForJsonSchema"
        in (tree["$defs"]["foreign.options"]["description"])
    )
    Draft202012Validator.check_schema(tree)


def test_such_options_are_shown() -> None:
    """Of an option whose type has no form as text it is said that it isn't shown; the others are."""
    options = UndescribableOptions(thing=Unknown(), word="other")
    assert options_tree(options, whole=True) == {"thing": NOT_SHOWN, "word": "other"}
    tree = options_tree(ForeignOptions(binary=b"\xfe"), whole=False)
    assert tree == {"binary": NOT_SHOWN}
