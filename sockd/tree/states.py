"""The states of what is supervised, what moves between them, and what keeps an open listener from serving."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sockd.config.model import Restart


class State(StrEnum):
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    BACKING_OFF = "backing off"
    DRAINING = "draining"


class Event(StrEnum):
    START = "start"  # we want it to run
    STARTED = "started"  # it does
    FAILED = "failed"  # it could not start, or it reported a failure
    DUE = "due"  # the delay is over
    STOP = "stop"  # we want it to end
    ENDED = "ended"  # it has


# What is not in the table is refused: a result that comes too late changes nothing.
TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.STOPPED, Event.START): State.STARTING,
    (State.STARTING, Event.STARTED): State.RUNNING,
    (State.STARTING, Event.FAILED): State.BACKING_OFF,
    (State.STARTING, Event.STOP): State.DRAINING,
    (State.RUNNING, Event.FAILED): State.BACKING_OFF,
    (State.RUNNING, Event.STOP): State.DRAINING,
    (State.BACKING_OFF, Event.DUE): State.STARTING,
    (State.BACKING_OFF, Event.STOP): State.DRAINING,
    (State.DRAINING, Event.ENDED): State.STOPPED,
}


class Cause(StrEnum):
    """Why an open listener does not accept; several may hold at once."""

    SERVICE_DOWN = "held"
    BY_HAND = "suspended"
    AT_LIMIT = "at its limit"
    DRAINING = "draining"
    UPGRADING = "upgrading"


@dataclass(frozen=True)
class Effect:
    accepts: bool  # new connections
    reads: bool  # from the connections there are
    receives: bool  # datagrams


EFFECTS: dict[Cause, Effect] = {
    Cause.SERVICE_DOWN: Effect(accepts=False, reads=False, receives=False),
    Cause.BY_HAND: Effect(accepts=False, reads=True, receives=False),
    Cause.AT_LIMIT: Effect(accepts=False, reads=True, receives=True),
    Cause.DRAINING: Effect(accepts=False, reads=True, receives=True),
    Cause.UPGRADING: Effect(accepts=False, reads=False, receives=False),
}


def effect(causes: frozenset[Cause] | set[Cause]) -> Effect:
    """What is left of serving under all these causes."""
    effects = [EFFECTS[cause] for cause in causes]
    return Effect(
        accepts=all(each.accepts for each in effects),
        reads=all(each.reads for each in effects),
        receives=all(each.receives for each in effects),
    )


class GiveUp:
    """Calls `gave_up()` when it has not run for `after` seconds.

    What comes up only to fall again has not run: it must stay up for `proved` seconds to count.
    """

    def __init__(self, after: float, proved: float, reactor: Any, gave_up: Callable[[], None]) -> None:
        self._after = after
        self._proved = proved
        self._reactor = reactor
        self._gave_up = gave_up
        self._down_since: float | None = None
        self._running = False
        self._timer: Any = None

    def update(self, *, running: bool) -> None:
        """It runs, or it doesn't; the first call begins the time."""
        now = self._reactor.seconds()
        if self._down_since is None:
            if running:
                self._running = True
                return
            self._down_since = now
        elif running == self._running:
            return
        self._running = running
        self.cancel()
        if running:
            self._timer = self._reactor.callLater(self._proved, self._runs)
        else:
            self._timer = self._reactor.callLater(
                max(0.0, self._down_since + self._after - now), self._gave_up
            )

    def _runs(self) -> None:
        self._timer = None
        self._down_since = None

    def cancel(self) -> None:
        """Wait no longer."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None


# Each delay is shortened by up to this part, so that what failed together doesn't come back together.
JITTER = 0.25


class BackOff:
    """The delays of one child; `random()` gives numbers from 0 up to 1."""

    def __init__(self, restart: Restart, random: Callable[[], float]) -> None:
        self._restart = restart
        self._random = random
        self._next = restart.delay

    def delay(self) -> float:
        """Seconds to wait now; never more than `max_delay`."""
        delay = min(self._next, self._restart.max_delay)
        self._next = min(delay * 2, self._restart.max_delay)
        return delay * (1 - JITTER * self._random())

    def stayed_up(self, seconds: float) -> None:
        """It ran for so long; after `max_delay` of that, begin with `delay` again."""
        if seconds >= self._restart.max_delay:
            self._next = self._restart.delay
