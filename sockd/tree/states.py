"""The tables that the tree obeys: a child's states, and what keeps an open listener from serving.

The first is about one child, a service or a listener, and is its supervisor's. The second is about what is
open already: a listener that runs may still not accept, for several causes at a time, and each cause takes
away its part of serving until it is gone.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Of a supervised child, as the status shows it."""

    STOPPED = "stopped"
    STARTING = "starting"  # its start has begun, and has neither succeeded nor failed
    RUNNING = "running"
    HANGING = "not responding"  # it runs, but what it waits for doesn't answer
    BACKING_OFF = "backing off"  # it failed, and is started again when a delay is over
    DRAINING = "draining"  # its stop has begun


class Event(StrEnum):
    """What may move a child from one state to another."""

    START = "start"  # the tree wants it to run
    STARTED = "started"  # its start has succeeded
    HANGS = "hangs"  # it reported that it waits for something that doesn't answer
    RESPONDS = "responds"  # that has answered
    FAILED = "failed"  # its start has failed, or it reported a failure
    DUE = "due"  # the delay is over
    STOP = "stop"  # the tree wants it to end
    ENDED = "ended"  # its stop has succeeded or failed


# An event that isn't in the table for a state changes nothing there: a start that succeeds after the stop has
# begun, or a failure that is reported twice.
TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.STOPPED, Event.START): State.STARTING,
    (State.STARTING, Event.STARTED): State.RUNNING,
    (State.STARTING, Event.FAILED): State.BACKING_OFF,
    (State.STARTING, Event.STOP): State.DRAINING,
    (State.RUNNING, Event.FAILED): State.BACKING_OFF,
    (State.RUNNING, Event.STOP): State.DRAINING,
    (State.RUNNING, Event.HANGS): State.HANGING,
    (State.HANGING, Event.RESPONDS): State.RUNNING,
    (State.HANGING, Event.FAILED): State.BACKING_OFF,
    (State.HANGING, Event.STOP): State.DRAINING,
    (State.BACKING_OFF, Event.DUE): State.STARTING,
    (State.BACKING_OFF, Event.STOP): State.DRAINING,
    (State.DRAINING, Event.ENDED): State.STOPPED,
}

# A service in one of these holds nobody up: peers are read from as long as the protocol doesn't pause them.
UP = frozenset({State.RUNNING, State.HANGING})


class Cause(StrEnum):
    """Why an open listener does not accept; several may hold at a time."""

    SERVICE_DOWN = "held"
    BY_HAND = "suspended"
    AT_LIMIT = "at its limit"
    DRAINING = "draining"
    UPGRADING = "upgrading"


@dataclass(frozen=True)
class Effect:
    """What is left of serving."""

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


def effect(causes: AbstractSet[Cause]) -> Effect:
    """What is left of serving under all these causes."""
    effects = [EFFECTS[cause] for cause in causes]
    return Effect(
        accepts=all(each.accepts for each in effects),
        reads=all(each.reads for each in effects),
        receives=all(each.receives for each in effects),
    )
