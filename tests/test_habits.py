"""What a contributor is told fits together: the hooks, the workflow, the Makefile and the pages."""

import re
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
MAKEFILE = (ROOT / "Makefile").read_text()


def loaded(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def test_hooks_are_the_quick_checks() -> None:
    """Each hook is a command of `make lint types imports`, and each of those has a hook."""
    (local,) = loaded(".pre-commit-config.yaml")["repos"]
    hooks = [hook["entry"] for hook in local["hooks"]]
    recipes = re.findall(r"^(?:lint|types|imports):.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    commands = [line.strip() for recipe in recipes for line in recipe.splitlines()]
    assert hooks == [command.replace("$(BIN)", ".venv/bin") for command in commands]


def test_the_workflow_begins_with_the_oldest_python() -> None:
    """The one that pyproject.toml asks for."""
    pythons = loaded(".github/workflows/ci.yml")["jobs"]["test"]["strategy"]["matrix"]["python"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={pythons[0]}"


def test_targets_that_pages_name_exist() -> None:
    """`make lint types` in a page of this folder is a target each."""
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    for page in ("README.md", "CONTRIBUTING.md", ".ci/run", ".pre-commit-config.yaml"):
        named = re.findall(r"(?:`|^ *)make ((?:[a-z-]+ ?)+)", (ROOT / page).read_text(), re.MULTILINE)
        assert named
        assert {target for words in named for target in words.split()} <= targets


def unexplained(file: Path) -> Iterator[int]:
    """Lines with an `Any` whose statement has no `Any:` in a comment, its own or directly above it."""
    lines: list[int] = []
    comments, statement, last = "", "", 0
    with file.open("rb") as text:
        for token in tokenize.tokenize(text.readline):
            if token.type == tokenize.COMMENT:
                if not statement and token.start[0] != last + 1:
                    comments = ""
                comments += token.string
                last = token.start[0]
            elif token.type == tokenize.NEWLINE:
                if statement not in ("from", "import") and "Any:" not in comments:
                    yield from lines
                lines, comments, statement = [], "", ""
            elif token.type in (tokenize.NAME, tokenize.OP, tokenize.STRING):
                if not statement and token.start[0] != last + 1:
                    comments = ""
                statement = statement or token.string
                if token.string in ("Any", '"Any"'):
                    lines.append(token.start[0])


def test_any_has_its_reason(tmp_path: Path) -> None:
    """It hides mistakes from mypy, so each that is left says why, or is an alias that does."""
    sample = tmp_path / "sample.py"
    sample.write_text(
        "from typing import Any\n# Any: a reason\nA = Any\nB: Any = 1  # Any: a reason\n# Any: it is far\n\n"
        'C = Any\ndef f(  # Any: a reason\n    x: Any,\n): ...\nx = cast("Any", 1)  # no reason\n'
    )
    assert list(unexplained(sample)) == [7, 11]
    found = [
        f"{file.relative_to(ROOT)}:{line}"
        for file in sorted((ROOT / "sockd").rglob("*.py"))
        for line in unexplained(file)
    ]
    assert not found, "`Any` without a comment `Any: the reason`"
