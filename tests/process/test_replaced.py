"""Modules of sockd that were installed after the program began are not loaded into it."""

import time
from pathlib import Path

import pytest

from sockd.process.replaced import Finder, ReplacedError


def _finds(directory: Path, name: str, started: float) -> bool:
    spec = Finder(started).find_spec(name, [str(directory)])
    return spec is not None and spec.origin == str(directory / "part.py")


def test_a_file_that_was_there_before(tmp_path: Path) -> None:
    """It is found as ever, and other packages are none of its business."""
    (tmp_path / "part.py").touch()
    assert _finds(tmp_path, "sockd.part", time.time() + 10)
    assert Finder(0).find_spec("elsewhere.part", [str(tmp_path)]) is None


def test_a_file_that_is_newer(tmp_path: Path) -> None:
    """It is another version's, whatever time an installer gave it."""
    (tmp_path / "part.py").touch()
    with pytest.raises(ReplacedError, match="run sockd upgrade"):
        _finds(tmp_path, "sockd.part", time.time() - 10)


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    """The other version has no such part, or is being installed at this moment."""
    with pytest.raises(ReplacedError):
        _finds(tmp_path, "sockd.part", time.time() + 10)
