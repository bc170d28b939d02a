"""The reference page is written from the model, and fresh."""

import runpy
import sys
from pathlib import Path

import pytest

from sockd.protocols.registry import Registry, of_distribution
from sockd.reference.page import PROTOCOLS, in_words, page
from sockd.reference.schema import schema, schema_text

ROOT = Path(__file__).parents[2]


def test_page_is_fresh() -> None:
    """docs/configuration.md is what `make docs` writes from the model."""
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == page(
        Registry(of_distribution("sockd"))
    )


def test_every_key_is_on_the_page() -> None:
    """Each key of each section has its row."""
    text = page(Registry())
    tree = schema(Registry())
    names = {
        "Listen",
        "Limits",
        "Socket",
        "Endpoint",
        "Daemon",
        "Log",
        "Keepalive",
        "Restart",
        "Required",
        "Defaults",
        "Tls",
        "Certificate",
        "Access",
        "ProxyProtocol",
    }
    names |= {f"{name}.options" for name in PROTOCOLS}
    for section in (tree, *(tree["$defs"][name] for name in names)):
        for key in section["properties"]:
            assert f"\n| `{key}` | " in text


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"type": "array", "items": {"type": "integer"}}, "list of whole number"),
        ({"type": "object"}, "keys"),
        ({"type": "string"}, "text"),
        ({"anyOf": [{"type": "boolean"}, {"const": "off"}]}, "true or false or `off`"),
        ({"enum": ["a", "b"]}, "`a`, `b`"),
    ],
)
def test_forms_in_words(value: dict[str, object], words: str) -> None:
    """The page has words for every form in a model's schema."""
    assert in_words(value) == words


def test_written_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m sockd.reference` writes the page or the schema, by the suffix of the file."""
    files = (tmp_path / "a.md", tmp_path / "a.json")
    monkeypatch.setattr(sys, "argv", ["reference", *map(str, files)])
    runpy.run_module("sockd.reference", run_name="__main__")
    ours = Registry(of_distribution("sockd"))
    assert files[0].read_text(encoding="utf-8") == page(ours)
    assert files[1].read_text(encoding="utf-8") == schema_text(ours)
