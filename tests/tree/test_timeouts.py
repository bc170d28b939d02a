"""When a connection has had its time: the table of what counts as idle, as stalled, and as neither."""

from dataclasses import dataclass

import pytest

from sockd.base.metrics import End
from sockd.tree.timeouts import LINGER, verdict


@dataclass
class Connection:
    """As a new transport is."""

    received: int = 0
    sent: int = 0
    unsent: int = 0
    least_progress: int = 1
    lingering: bool = False
    paused: bool = False
    mark_received: int = 0
    mark_sent: int = 0
    mark_time: float = 0.0


IDLE = 10.0
STALL = 5.0

# What happens at which time, and the verdicts of the sweeps at the times after `?`.
Story = list[tuple[float, dict[str, int | bool] | End | None]]
STORIES: dict[str, Story] = {
    "silent from the start": [(9.9, None), (10, End.IDLE)],
    "receiving begins the time anew": [
        (9, {"received": 1}), (9.5, None), (19.4, None), (19.5, End.IDLE),
    ],
    "our own writes don't": [(9, {"sent": 100}), (9.5, None), (10, End.IDLE)],
    "owing is not idle, and progress not stalled": [
        (0, {"unsent": 100}), (1, None), (4, {"sent": 10}), (5, None), (9, {"sent": 20}), (9.5, None),
        (14, None), (14.5, End.STALLED),
    ],
    "no progress is": [(0, {"unsent": 100}), (1, None), (5.9, None), (6, End.STALLED)],
    "receiving is no progress of owing": [
        (0, {"unsent": 100}), (1, None), (3, {"received": 5}), (4, None), (6, End.STALLED),
    ],
    "too little is no progress where more is asked for": [
        (0, {"unsent": 900, "least_progress": 100}), (1, None), (4, {"sent": 60}), (5.9, None),
        (6, End.STALLED),
    ],
    "little by little is, if it is enough": [
        (0, {"unsent": 900, "least_progress": 100}), (1, None), (3, {"sent": 60}), (3.5, None),
        (5, {"sent": 100}), (5.5, None), (10.4, None), (10.5, End.STALLED),
    ],
    "owed again after all had gone is a new stall": [
        (0, {"unsent": 9}), (1, None), (5, {"unsent": 0, "sent": 9}), (5.5, None), (9, {"unsent": 9}),
        (9.5, None), (14.4, None), (14.5, End.STALLED),
    ],
    "idle time begins when nothing is owed any more": [
        (0, {"unsent": 9}), (4, None), (6, {"unsent": 0, "sent": 9}), (7, None), (16.9, None), (17, End.IDLE),
    ],
    "paused is not idle": [(0, {"paused": True}), (9, None), (100, None), (1000, None)],
    "idle time begins when we read again": [
        (0, {"paused": True}), (9, None), (9.5, {"paused": False}), (10, None), (19.9, None), (20, End.IDLE),
    ],
    "paused and owing can stall": [(0, {"paused": True, "unsent": 9}), (1, None), (6, End.STALLED)],
    "the peer has so long to answer our FIN": [
        (0, {"lingering": True, "unsent": 9}), (LINGER - 0.1, None), (LINGER, End.DONE),
    ],
}  # fmt: skip


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES.keys())
def test_stories(story: Story) -> None:
    """Each line of a story is what happens, or what a sweep then finds."""
    connection = Connection()
    for now, step in story:
        if isinstance(step, dict):
            for name, value in step.items():
                setattr(connection, name, value)
        else:
            assert verdict(connection, now, IDLE, STALL) == step, now


def test_no_limits() -> None:
    """`off` is for ever."""
    for connection in (Connection(), Connection(unsent=5), Connection(paused=True)):
        for now in (1.0, 1e6, 1e9):
            assert verdict(connection, now, None, None) is None


def test_own_time_to_linger() -> None:
    """A stop gives the peers less time."""
    assert verdict(Connection(lingering=True), 1.0, None, None, linger=1.0) is End.DONE
