"""When Python looks for garbage in a daemon."""

import gc
from collections.abc import Iterator

import pytest
from twisted.internet.task import Clock

from sockd.program import ENOUGH, EVERY, THRESHOLDS, Garbage


@pytest.fixture(autouse=True)
def pythons_own() -> Iterator[None]:
    """Afterwards it is as it was."""
    thresholds, enabled = gc.get_threshold(), gc.isenabled()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()
    (gc.enable if enabled else gc.disable)()


def test_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lives at the start is left alone; later it is looked once a minute, if much came meanwhile."""
    clock, garbage = Clock(), None
    looks: list[int] = []
    young = ENOUGH - 1
    gc.disable()
    garbage = Garbage(clock)
    garbage.start()
    assert gc.isenabled()
    assert gc.get_threshold() == THRESHOLDS
    assert gc.get_freeze_count()
    monkeypatch.setattr(gc, "get_count", lambda: (0, 0, young))
    monkeypatch.setattr(gc, "collect", lambda: looks.append(1))
    clock.advance(EVERY)
    assert not looks
    young = ENOUGH
    clock.advance(EVERY)
    assert looks == [1]
    garbage.stop()
    garbage.stop()
    assert not clock.getDelayedCalls()
