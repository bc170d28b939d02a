"""What tests of sinks have in common."""

from pathlib import Path

import pytest

from tests.sinks.stepped import Stepped


@pytest.fixture
def one(tmp_path: Path) -> Stepped:
    """A sink of a file that isn't there yet."""
    return Stepped(tmp_path / "app.log")
