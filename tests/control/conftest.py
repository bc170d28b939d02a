"""Control sockets that are closed when the test ends."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sockd.control.conversation import Allowed
from tests.control.askers import House

Open = Callable[..., House]


@pytest.fixture
def open_house(tmp_path: Path) -> Iterator[Open]:
    """Makes a control socket with these commands, by their names."""
    houses = []

    def make(allowed: Allowed | None = None, **commands: Any) -> House:
        houses.append(House(tmp_path, commands, allowed))
        return houses[-1]

    yield make
    for house in houses:
        house.close()
