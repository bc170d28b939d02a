"""Connections that are closed when the test ends."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.transports.loop import Connect, Exchange


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes connections to a protocol, over a pair of sockets of one's choice."""
    made = []

    def make(*args: Any) -> Exchange:
        made.append(Exchange(*args))
        return made[-1]

    yield make
    for exchange in made:
        exchange.close()
