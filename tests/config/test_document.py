"""YAML becomes values that know their place, within bounds."""

from pathlib import Path

import pytest
import yaml

from sockd.base.errors import Place
from sockd.config import document, source
from sockd.config.document import MAX_DEPTH, parse
from sockd.config.values import Items, Mapping, Value

LOADERS = [yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)]


def plain(value: Value | None) -> object:
    """The value without its places."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, Items) else str(value)


@pytest.fixture(params=LOADERS, autouse=True)
def _loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "Loader", request.param)


def only_problem(text: str) -> str:
    found = parse(text, "f").problems
    assert len(found) == 1
    return str(found[0])


def test_places() -> None:
    """Each key, item and value knows its line and column, counted from 1 in characters."""
    root = parse("é: 1\nlist:\n  - a\n  - {b: 'c'}\n", "f").root
    assert isinstance(root, Mapping)
    assert root.keys_at == {"é": Place("f", 1, 1), "list": Place("f", 2, 1)}
    assert root["é"].place == Place("f", 1, 4)
    assert root["list"].place == Place("f", 3, 3)
    assert root["list"][1].keys_at["b"] == Place("f", 4, 6)
    assert root["list"][1]["b"].place == Place("f", 4, 9)


def test_text_is_kept_as_it_was_written() -> None:
    """No guess of YAML's reaches a value, and quotes are remembered."""
    root = parse("a: 0660\nb: on\nc: 22:22\nd: '5'\ne:\nf: |\n  text\n", "f").root
    assert plain(root) == {"a": "0660", "b": "on", "c": "22:22", "d": "5", "e": "", "f": "text\n"}
    assert isinstance(root, Mapping)
    assert [key for key, value in root.items() if value.plain] == ["a", "b", "c", "e"]


def test_byte_order_mark_and_carriage_returns() -> None:
    """What some editors put in does no harm."""
    text = source.decode(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n", "f")
    assert plain(parse(text, "f").root) == {"a": "1", "b": "2"}


def test_aliases_stand_for_what_they_name() -> None:
    """An alias is the anchored value, wherever that stands."""
    root = parse("a: &x {b: [1]}\nc: *x\nd: [&y z, *y]\n", "f").root
    assert plain(root) == {"a": {"b": ["1"]}, "c": {"b": ["1"]}, "d": ["z", "z"]}


def test_json_is_yaml() -> None:
    """A program may write the file as JSON."""
    assert plain(parse('{"a": {"b": [1, "x"]}}', "f").root) == {"a": {"b": ["1", "x"]}}


def test_alias_bomb() -> None:
    """Aliases of aliases are counted as what they stand for, long before memory is spent."""
    lines = ["a: &a [" + ",".join("x" * 9) + "]"]
    for before, name in zip("abcdefghijk", "bcdefghijkl", strict=True):
        lines.append(f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]")
    assert "more than 200000 values, aliases written out" in only_problem("\n".join(lines))


def test_many_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of nothing but commas ends as early."""
    monkeypatch.setattr(document, "MAX_VALUES", 1000)
    assert "more than 1000 values" in only_problem("a: [" + "x," * 300_000 + "]")


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000])
def test_deep_nesting(text: str) -> None:
    """Deep nesting is refused where it gets too deep, and does not exhaust the stack."""
    assert f"nested more than {MAX_DEPTH} deep here" in only_problem(text)


def test_half_a_character() -> None:
    """An escape that is no character never gets into a value."""
    assert "escape" in only_problem('a: "\\ud800"')


def test_several_problems_of_one_document() -> None:
    """What does not end the reading does not hide the next."""
    found = parse("a: 1\na: 2\n<<: {}\nb: !x y\n", "f").problems
    assert [problem.place.line for problem in found] == [2, 3, 4]


def test_first_of_two_equal_keys_counts() -> None:
    """The rest of the checks go on with the value that was there first."""
    assert plain(parse("a: 1\na: {b: 2}\n<<: {c: 3}\nd: 4", "f").root) == {"a": "1", "d": "4"}


def test_reads_a_file(tmp_path: Path) -> None:
    """A file's name is in the places of what it holds."""
    file = tmp_path / "a.yaml"
    file.write_text("a: 1")
    read = document.read(file)
    assert read.root is not None
    assert read.root.place == Place(str(file), 1, 1)
    assert document.read(tmp_path / "b.yaml").problems[0].text == "there is no such file"
