"""A house for endpoints, empty again when the test ends."""

from collections.abc import Iterator

import pytest

from tests.services.house import House


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.close()
    assert not house.loop.readers | house.loop.writers
    assert not house.loop.getDelayedCalls()
    assert not house.ports
