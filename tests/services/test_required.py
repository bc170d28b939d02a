"""When a required endpoint gives up: after so long without running, and flapping is no running."""

import pytest
from twisted.internet.task import Clock

from sockd.services.required import GiveUp

AFTER, PROVED = 10.0, 4.0


class World:
    """A GiveUp on a clock; `gave_up` are the times."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.gave_up: list[float] = []
        self.required = GiveUp(AFTER, PROVED, self.clock, lambda: self.gave_up.append(self.clock.seconds()))

    def story(self, *steps: tuple[float, bool]) -> None:
        """At these times it runs, or it doesn't."""
        for when, running in steps:
            self.clock.pump([0.5] * int((when - self.clock.seconds()) / 0.5))
            self.required.update(running=running)
            self.clock.advance(0)
        self.clock.pump([0.5] * 60)


@pytest.mark.parametrize(
    ("steps", "gave_up"),
    [
        pytest.param([(0, False)], 10.0, id="never runs"),
        pytest.param([(0, False), (3, False), (6, False)], 10.0, id="told again that it doesn't"),
        pytest.param([(0, True)], None, id="runs from the start"),
        pytest.param([(0, True), (5, True), (20, False)], 30.0, id="runs, then doesn't"),
        pytest.param([(0, False), (9, True)], None, id="comes up in time"),
        pytest.param([(0, False), (9, True), (14, False)], 24.0, id="proves itself, then fails anew"),
        pytest.param(
            [(0, False), (3, True), (4, False), (6, True), (7, False)], 10.0, id="comes up to fall again"
        ),
        pytest.param([(0, False), (9, True), (12, False)], 12.0, id="falls when its time is over"),
        pytest.param([(0, False), (9, True), (9, True)], None, id="told again that it runs"),
    ],
)
def test_stories(steps: list[tuple[float, bool]], gave_up: float | None) -> None:
    """When it gives up, if it does."""
    world = World()
    world.story(*steps)
    assert world.gave_up[:1] == ([] if gave_up is None else [gave_up])


def test_cancelling() -> None:
    """A daemon that stops anyway waits for nobody."""
    world = World()
    world.required.cancel()
    world.required.update(running=False)
    world.required.cancel()
    world.clock.pump([1.0] * 30)
    assert not world.gave_up
    assert not world.clock.getDelayedCalls()
