"""The states of what is supervised, what moves between them, and what keeps an open listener from serving."""

from dataclasses import dataclass
from enum import StrEnum


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
