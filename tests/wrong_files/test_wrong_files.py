"""Every wrong file in this folder gives exactly its messages."""

from pathlib import Path

import pytest
import yaml

from sockd.config import document
from tests.wrong_file_cases import RULE, problems

CASES = sorted(Path(__file__).parent.glob("*.txt"))

# Where PyYAML's own parser points one character further than libyaml.
ELSEWHERE = {"yaml-bad-escape", "yaml-directive"}


def _case(file: Path) -> tuple[str, list[str]]:
    text, rule, messages = file.read_text(encoding="utf-8").partition(RULE)
    assert rule
    return text, messages.splitlines()


def test_there_are_enough() -> None:
    """The fixtures are found."""
    assert len(CASES) >= 60


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_messages(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All problems are reported, each on a line, in the order of the file."""
    monkeypatch.chdir(tmp_path)
    text, messages = _case(file)
    assert messages
    assert problems(tmp_path, text) == messages


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_messages_without_libyaml(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyYAML's own parser leads to the same messages."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(document, "Loader", yaml.SafeLoader)
    text, messages = _case(file)
    found = problems(tmp_path, text)
    if file.stem in ELSEWHERE:
        assert len(found) == len(messages)
    else:
        assert found == messages
