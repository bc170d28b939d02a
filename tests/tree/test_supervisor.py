"""One supervised child: every row of the table, what the table refuses, late results, hopeless stops."""

import os
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, formatEvent

from sockd.base.errors import SockdError
from sockd.config.model import Restart
from sockd.tree.states import TRANSITIONS, Event, State
from sockd.tree.supervisor import SLOW_START, Supervisor, describe

DELAY, MOST = 1.0, 8.0
TROUBLE = SockdError("the disk is full")


class Child:
    """Starts and stops when the test says so; what it is asked meanwhile is kept."""

    def __init__(self) -> None:
        self.starts: list[Deferred[Any]] = []
        self.stops: list[Deferred[Any]] = []
        self.cancelled = 0
        self.on_cancel: Callable[[Deferred[Any]], Any] = lambda _: None
        self.on_start: Callable[[], Any] = lambda: None

    def _cancel(self, deferred: Deferred[Any]) -> None:
        self.cancelled += 1
        self.on_cancel(deferred)

    def start(self) -> Deferred[Any]:
        self.starts.append(Deferred(self._cancel))
        self.on_start()
        return self.starts[-1]

    def stop(self) -> Deferred[Any]:
        self.stops.append(Deferred(self._cancel))
        return self.stops[-1]


class World:
    """A supervisor on a clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.child = Child()
        self.events: list[dict[str, Any]] = []
        self.states: list[State] = []
        self.stopping: Deferred[None] | None = None
        log = Logger("sockd", observer=self.events.append)  # type: ignore[arg-type]
        self.supervisor = Supervisor(
            "applog",
            "service",
            self.child,
            Restart(delay=DELAY, max_delay=MOST),
            self.clock,
            lambda: 0.0,
            log,
            self._changed,
        )

    def _changed(self) -> None:
        self.states.append(self.supervisor.state)

    @property
    def state(self) -> State:
        return self.supervisor.state

    def at(self, state: State) -> bool:
        return self.supervisor.state is state

    def stop(self) -> None:
        self.stopping = ensureDeferred(self.supervisor.stop())

    def messages(self, level: LogLevel | None = None) -> list[str]:
        return [formatEvent(event) for event in self.events if level in (None, event["log_level"])]


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    assert len(world.clock.getDelayedCalls()) == (world.state in {State.BACKING_OFF, State.STARTING})


def starting(world: World) -> None:
    world.supervisor.start()


def running(world: World) -> None:
    starting(world)
    world.child.starts[-1].callback(None)


def backing_off(world: World) -> None:
    running(world)
    world.supervisor.failed(TROUBLE)


def hanging(world: World) -> None:
    running(world)
    world.supervisor.hangs("the disk doesn't answer")


def draining(world: World) -> None:
    running(world)
    world.stop()


REACH: dict[State, Callable[[World], None]] = {
    State.STOPPED: lambda world: None,
    State.STARTING: starting,
    State.RUNNING: running,
    State.HANGING: hanging,
    State.BACKING_OFF: backing_off,
    State.DRAINING: draining,
}
# How each row comes about from outside.
ROWS: dict[tuple[State, Event], Callable[[World], None]] = {
    (State.STOPPED, Event.START): lambda world: world.supervisor.start(),
    (State.STARTING, Event.STARTED): lambda world: world.child.starts[-1].callback(None),
    (State.STARTING, Event.FAILED): lambda world: world.child.starts[-1].errback(TROUBLE),
    (State.STARTING, Event.STOP): World.stop,
    (State.RUNNING, Event.FAILED): lambda world: world.supervisor.failed(TROUBLE),
    (State.RUNNING, Event.STOP): World.stop,
    (State.RUNNING, Event.HANGS): lambda world: world.supervisor.hangs("it doesn't answer"),
    (State.HANGING, Event.RESPONDS): lambda world: world.supervisor.responds(),
    (State.HANGING, Event.FAILED): lambda world: world.supervisor.failed(TROUBLE),
    (State.HANGING, Event.STOP): World.stop,
    (State.BACKING_OFF, Event.DUE): lambda world: world.clock.advance(DELAY),
    (State.BACKING_OFF, Event.STOP): World.stop,
    (State.DRAINING, Event.ENDED): lambda world: world.child.stops[-1].callback(None),
}
REFUSED = sorted(set(product(State, Event)) - set(TRANSITIONS))


def test_every_row_has_a_case() -> None:
    """Who adds a row to the table adds one here."""
    assert set(ROWS) == set(TRANSITIONS)
    assert set(REACH) == set(State)


@pytest.mark.parametrize("row", TRANSITIONS, ids=" + ".join)
def test_rows(row: tuple[State, Event], world: World) -> None:
    """Each row of the table, as the world outside makes it happen; `changed` is told, `since` begins anew."""
    REACH[row[0]](world)
    assert world.at(row[0])
    world.states.clear()
    world.clock.advance(0.25)
    began = world.clock.seconds()
    ROWS[row](world)
    assert world.at(TRANSITIONS[row])
    assert world.states[0] is TRANSITIONS[row]
    if row[1] is not Event.DUE:
        assert world.supervisor.since == began


@pytest.mark.parametrize("pair", REFUSED, ids=" + ".join)
def test_what_is_not_in_the_table(pair: tuple[State, Event], world: World) -> None:
    """Changes nothing, and tells nobody."""
    state, event = pair
    REACH[state](world)
    world.states.clear()
    assert not world.supervisor.move(event)
    assert world.at(state)
    assert not world.states


@pytest.mark.parametrize("state", State)
def test_calls_at_the_wrong_time(state: State, world: World) -> None:
    """start, failed and stop may come in any state; where the table has no row they do nothing."""
    REACH[state](world)
    starts, stops = len(world.child.starts), len(world.child.stops)
    if (state, Event.START) not in TRANSITIONS:
        world.supervisor.start()
        assert len(world.child.starts) == starts
    if (state, Event.FAILED) not in TRANSITIONS:
        world.supervisor.failed(TROUBLE)
        assert world.at(state)
    if (state, Event.STOP) not in TRANSITIONS:
        again = ensureDeferred(world.supervisor.stop())
        assert again.called
        assert len(world.child.stops) == stops


# -- trying again


def test_it_is_tried_for_ever(world: World) -> None:
    """With growing delays; the same failure is told once, then only in detail."""
    world.supervisor.start()
    waited = []
    for _ in range(100):
        world.child.starts[-1].errback(TROUBLE)
        (call,) = world.clock.getDelayedCalls()
        waited.append(call.getTime() - world.clock.seconds())
        world.clock.advance(waited[-1])
    assert waited[:5] == [1.0, 2.0, 4.0, 8.0, 8.0]
    assert world.supervisor.restarts == 100
    assert world.messages(LogLevel.warn) == ["applog: service: the disk is full; next try in 1.0s"]
    assert len(world.messages(LogLevel.debug)) == 99
    world.child.starts[-1].callback(None)
    assert world.messages(LogLevel.info) == ["applog: service recovered; the cause was: the disk is full"]
    assert not world.supervisor.why


def test_another_failure_is_told(world: World) -> None:
    """A new reason is news."""
    world.supervisor.start()
    world.child.starts[-1].errback(TROUBLE)
    world.clock.advance(DELAY)
    world.child.starts[-1].errback(SockdError("no right to write"))
    assert len(world.messages(LogLevel.warn)) == 2
    assert world.supervisor.why == "no right to write"


def test_delays_begin_anew_after_staying_up(world: World) -> None:
    """A failure after `max_delay` of running is like the first; one right after the start isn't."""
    world.supervisor.start()
    for up, delay in ((0.0, 1.0), (0.0, 2.0), (MOST - 0.5, 4.0), (MOST, 1.0), (0.0, 2.0)):
        world.child.starts[-1].callback(None)
        world.clock.advance(up)
        world.supervisor.failed(TROUBLE)
        (call,) = world.clock.getDelayedCalls()
        assert call.getTime() - world.clock.seconds() == pytest.approx(delay)
        world.clock.advance(delay)


def test_tried_tells_of_the_first_try() -> None:
    """It fires when that has succeeded, failed or been given up, and not before."""
    for happen in (Event.STARTED, Event.FAILED, Event.STOP):
        world = World()
        world.supervisor.start()
        assert not world.supervisor.tried.called
        ROWS[State.STARTING, happen](world)
        assert world.supervisor.tried.called


def test_start_that_hangs(world: World) -> None:
    """After SLOW_START nobody waits for it any more, which is told; when it comes, it runs."""
    world.supervisor.start()
    world.clock.advance(SLOW_START - 0.1)
    assert not world.supervisor.tried.called
    assert not world.messages()
    world.clock.advance(0.1)
    assert world.supervisor.tried.called
    assert world.at(State.STARTING)
    assert world.messages(LogLevel.warn) == ["applog: service has not started after 5s; still waiting for it"]
    assert not world.clock.getDelayedCalls()
    world.clock.advance(1000)
    assert len(world.messages()) == len(world.child.starts) == 1
    world.child.starts[-1].callback(None)
    assert world.at(State.RUNNING)


@pytest.mark.parametrize("waited", [SLOW_START / 2, SLOW_START * 2])
def test_hanging_start_that_ends_otherwise(waited: float, world: World) -> None:
    """It fails, then hangs again and is stopped: no timer of the old start is left."""
    world.supervisor.start()
    world.clock.advance(waited)
    world.child.starts[-1].errback(TROUBLE)
    assert world.at(State.BACKING_OFF)
    assert len(world.clock.getDelayedCalls()) == 1
    world.clock.advance(DELAY)
    assert world.at(State.STARTING)
    world.clock.advance(waited)
    world.stop()
    assert not world.clock.getDelayedCalls()
    world.child.stops[-1].callback(None)
    assert world.at(State.STOPPED)


def test_start_that_raises(world: World) -> None:
    """An exception is a failure like any other, told in one line with its place."""

    def fail() -> None:
        raise ValueError("first line\nsecond line")

    world.child.on_start = fail
    world.supervisor.start()
    assert world.at(State.BACKING_OFF)
    (message,) = world.messages()
    assert message.startswith("applog: service: ValueError: first line second line (")
    assert "test_supervisor.py:" in message
    assert "\n" not in message


# -- results that come too late, or at an odd moment


def test_late_result_of_a_start(world: World) -> None:
    """After a stop, or a failure reported meanwhile, nobody waits for it any more."""
    for late in (lambda d: d.callback(None), lambda d: d.errback(TROUBLE)):
        world.supervisor.start()
        world.child.on_cancel = lambda _: None
        (pending,) = world.child.starts[-1:]
        world.supervisor.failed(SockdError("reported"))
        assert world.child.cancelled
        world.clock.advance(DELAY * 8)
        assert world.at(State.STARTING)
        world.child.starts[-1].callback(None)
        if not pending.called:
            late(pending)
        assert world.at(State.RUNNING)
        world.stop()
        world.child.stops[-1].callback(None)
        assert world.at(State.STOPPED)


def test_failure_reported_from_inside_start(world: World) -> None:
    """A child that reports a failure and then returns as if it ran, doesn't."""
    results: tuple[Deferred[None] | None, ...] = (None, Deferred())
    for result in results:

        def start(result: Any = result) -> Any:
            world.supervisor.failed(TROUBLE)
            return result

        world.child.start = start  # type: ignore[method-assign]
        world.supervisor.start()
        assert world.at(State.BACKING_OFF)
        assert world.supervisor.why == "the disk is full"
        world.clock.advance(DELAY)
        assert world.at(State.BACKING_OFF)
        world.stop()
        world.child.stops[-1].callback(None)
    assert not world.messages(LogLevel.info)


def test_stop_while_starting_cancels(world: World) -> None:
    """A start that hangs is cancelled; what it makes of that is its own business."""
    ways: tuple[Callable[[Deferred[Any]], Any], ...] = (
        lambda _: None,
        lambda deferred: deferred.errback(TROUBLE),
        lambda _: 1 / 0,
    )
    for misbehave in ways:
        world.child.on_cancel = misbehave
        world.child.cancelled = 0
        world.supervisor.start()
        world.stop()
        assert world.child.cancelled == 1
        assert world.at(State.DRAINING)
        world.child.stops[-1].callback(None)
        assert world.at(State.STOPPED)
        assert world.stopping is not None
        assert world.stopping.called


# -- stopping


def test_child_that_never_started_is_not_stopped(world: World) -> None:
    """`stop` is for what has been started at least once."""
    world.supervisor.state = State.STARTING
    world.stop()
    assert not world.child.stops
    assert world.at(State.STOPPED)


def test_child_that_failed_is_stopped(world: World) -> None:
    """Also while it waits for its next try, which doesn't come."""
    backing_off(world)
    world.stop()
    assert not world.clock.getDelayedCalls()
    world.child.stops[-1].callback(None)
    assert world.at(State.STOPPED)


def test_stop_that_fails(world: World) -> None:
    """It is told, and over."""
    draining(world)
    world.child.stops[-1].errback(TROUBLE)
    assert world.at(State.STOPPED)
    assert world.messages(LogLevel.error) == ["applog: service failed to stop: the disk is full"]
    assert world.supervisor.why == "the disk is full"


@pytest.mark.parametrize(
    "misbehave",
    [
        pytest.param(lambda _: None, id="says nothing"),
        pytest.param(lambda deferred: deferred.callback(None), id="ends"),
        pytest.param(lambda deferred: deferred.errback(TROUBLE), id="fails"),
        pytest.param(lambda _: 1 / 0, id="raises"),
    ],
)
def test_stop_that_is_cut_short(misbehave: Callable[[Deferred[Any]], None], world: World) -> None:
    """At the deadline a stop is cancelled, and over whatever the child makes of that."""
    draining(world)
    world.child.on_cancel = misbehave
    assert world.stopping is not None
    world.stopping.addErrback(lambda failure: failure.trap(CancelledError))
    world.stopping.cancel()
    assert world.child.cancelled == 1
    assert world.stopping.called
    assert world.at(State.STOPPED)
    if not world.child.stops[-1].called:
        world.child.stops[-1].callback("late")


def test_stop_that_ignores_its_cancellation(world: World) -> None:
    """A coroutine that catches the cancellation and waits on keeps nobody."""
    forever: Deferred[None] = Deferred()

    async def stop() -> None:
        try:
            await Deferred()
        except CancelledError:
            await forever

    world.child.stop = lambda: ensureDeferred(stop())  # type: ignore[method-assign]
    draining(world)
    assert world.stopping is not None
    world.stopping.addErrback(lambda failure: failure.trap(CancelledError))
    world.stopping.cancel()
    assert world.stopping.called
    assert world.at(State.STOPPED)
    forever.callback(None)


# -- errors in a line


def test_describe() -> None:
    """Ours as it is; others' with type and place; without a place, as it is."""
    assert describe(TROUBLE) == "the disk is full"
    assert describe(ValueError("no place")) == "ValueError: no place"
    with pytest.raises(KeyError) as caught:
        os.environ["SOCKD_NO_SUCH_VARIABLE"]
    assert describe(caught.value).startswith("KeyError: 'SOCKD_NO_SUCH_VARIABLE' (")


def test_describe_is_bounded_and_keeps_to_the_error() -> None:
    """A message of megabytes is cut; notes that were added to an error don't hide it."""
    assert len(describe(ValueError("x" * 10**6))) < 1100
    noted = ValueError("the matter")
    noted.add_note("a note")
    assert describe(noted).startswith("ValueError: the matter")


def test_a_child_that_hangs_is_reported_and_so_is_its_recovery(world: World) -> None:
    """Once each, with the reason, which the status shows for as long; a second report changes nothing."""
    running(world)
    world.supervisor.hangs("the disk doesn't answer")
    world.supervisor.hangs("the disk doesn't answer")
    assert world.supervisor.why == "the disk doesn't answer"
    world.supervisor.responds()
    world.supervisor.responds()
    assert world.supervisor.why == ""
    assert world.messages() == [
        "applog: service is not responding: the disk doesn't answer",
        "applog: service recovered; the cause was: the disk doesn't answer",
    ]


def test_a_start_that_hangs_says_why(world: World) -> None:
    """It stays a start, and is reported as recovered once it has succeeded."""
    starting(world)
    world.supervisor.hangs("the disk doesn't answer")
    assert (world.state, world.supervisor.why) == (State.STARTING, "the disk doesn't answer")
    world.supervisor.responds()
    world.child.starts[-1].callback(None)
    assert world.at(State.RUNNING)
    assert world.messages()[-1] == "applog: service recovered; the cause was: the disk doesn't answer"
