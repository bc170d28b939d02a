"""What a contributor is told fits together: the hooks, the workflow, the Makefile and the pages."""

import re
import tomllib
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
