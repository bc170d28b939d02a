"""Fixtures of the hostile suite: the scene, and the report of all attacks."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.ordeal import table
from tests.hostile.scene import Scene


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty directory whose path is short enough for Unix sockets."""
    path = Path(tempfile.mkdtemp(prefix="sockd-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def kept_scene() -> Iterator[list[Scene]]:
    """The one that all attacks share: what one of them leaves behind, the next one meets."""
    scenes: list[Scene] = []
    path = Path(tempfile.mkdtemp(prefix="sockd-"))
    try:
        yield scenes
    finally:
        for scene in scenes:
            scene.close()
        shutil.rmtree(path)


@pytest.fixture
def scene(kept_scene: list[Scene], tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """The daemon that is attacked, alive; a new one where an attack was too much for the last."""
    if not kept_scene or not kept_scene[-1].alive:
        path = Path(tempfile.mkdtemp(prefix="sockd-"))
        kept_scene.append(Scene(path))
    return kept_scene[-1]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of all attacks."""
    lines = table()
    if len(lines) > 2:
        terminalreporter.section("attacks")
        for line in lines:
            terminalreporter.line(line)
