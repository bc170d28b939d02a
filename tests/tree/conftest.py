"""A house for endpoints, empty again when the test ends; and endpoints in it that can be reloaded."""

from collections.abc import Iterator

import pytest

from tests.tree.house import House
from tests.tree.reloads import Reloads


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.close()
    assert not house.loop.readers | house.loop.writers
    assert not house.loop.getDelayedCalls()
    assert not house.ports


@pytest.fixture
def reloads(house: House) -> Reloads:
    return Reloads(house)
