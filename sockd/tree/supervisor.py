"""One child kept running: started, restarted after a delay when it fails, stopped once.

A child is an endpoint's service, or one of its listeners. Its state changes only in `_move`, by the table of
`states`, and each event that the table has for a state is followed by the same few acts:

    START, DUE    call `child.start`; wait for its Deferred, if it returns one
    STARTED       log it, if it had failed before
    HANGS         log why
    RESPONDS      log it
    FAILED        log why (once for each reason), and start again after a delay (`restart`)
    STOP          give up whatever is waited for, call `child.stop`, and wait for that
    ENDED         nothing

So a result that comes too late does nothing, without a flag for each case: a start that succeeds after STOP,
a failure of a child that is stopped. A child that has failed is not stopped but started again; it must leave
nothing open when it fails.

A start that takes long holds nobody up: after SLOW_START seconds `tried` fires as if it had failed, and the
rest of the daemon begins to serve.
"""

import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from sockd.base.errors import SockdError
from sockd.base.reactor import Clock, Timer
from sockd.config.model import Restart
from sockd.tree.backoff import BackOff
from sockd.tree.states import TRANSITIONS, Event, State

# Characters of a third party's error that go into the log and the status.
ERROR_LENGTH = 1000
# Seconds after which nobody waits for a child's start any more.
SLOW_START = 5.0

Result = TypeVar("Result")


class Child(Protocol):
    """What is supervised; both may return a Deferred. After a failure `start` is called again, not `stop`."""

    def start(self) -> object: ...
    def stop(self) -> object: ...


class Supervisor:
    """Runs one child, whose failure concerns no other.

    `changed()` is called after each change of `state`. `why` is the last error while there is one, and
    `recovered_from` the last one that is over. `restarts` is how often the child was started again, `since`
    when the state began (seconds of the clock). `tried` fires when the first start has succeeded or failed,
    or takes too long.
    """

    def __init__(
        self,
        endpoint: str,
        name: str,
        child: Child,
        restart: Restart,
        clock: Clock,
        random: Callable[[], float],
        log: Logger,
        changed: Callable[[], None],
    ) -> None:
        self.endpoint = endpoint
        self.name = name
        self.state = State.STOPPED
        self.why = self.recovered_from = ""
        self.restarts = 0
        self.since: float = clock.seconds()
        self.tried: Deferred[None] = Deferred()
        self._child = child
        self._clock = clock
        self._random = random
        self._back_off = BackOff(restart, random)
        self._log = log
        self._changed = changed
        self._starting: Deferred[object] | None = None
        self._timer: Timer | None = None
        self._ever_started = False
        self.on_trial = False  # a reload tries it, and reports its failure itself

    def start(self) -> None:
        """Start the child, and again whenever it fails, until `stop`."""
        if self.move(Event.START):
            self._start_child()

    def retry(self) -> None:
        """Start a child that backs off now."""
        if self.state is State.BACKING_OFF:
            self._stop_timer()
            self._due()

    def pause(self) -> Callable[[], None]:
        """Don't start a child that backs off when its delay is over; what this returns lets it go on."""
        if self.state is not State.BACKING_OFF or self._timer is None:
            return lambda: None
        due = self._timer.getTime()
        self._stop_timer()

        def go_on() -> None:
            if self.state is State.BACKING_OFF and self._timer is None:
                self._timer = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._due)

        return go_on

    def restart(self, restart: Restart) -> None:
        """From now on these delays hold, beginning with the shortest."""
        self._back_off = BackOff(restart, self._random)

    def failed(self, error: BaseException) -> None:
        """The child can't go on: it reports this itself."""
        self._failed(Failure(error, type(error), error.__traceback__))

    def hangs(self, why: str) -> None:
        """The child waits for something that doesn't answer: it reports this, and that it `responds`."""
        if self.state not in (State.STARTING, State.RUNNING):
            return
        self.why = why
        self._log.warn(
            "{endpoint}: {name} is not responding: {why}",
            endpoint=self.endpoint, name=self.name, why=why, event="not responding",
        )  # fmt: skip
        self.move(Event.HANGS)  # a start that hangs is still one

    def responds(self) -> None:
        """What the child waited for has answered."""
        was = self.why
        if TRANSITIONS.get((self.state, Event.RESPONDS)) is not None:
            self.why = ""
            self.move(Event.RESPONDS)
            self._log_recovered(was)

    async def stop(self) -> None:
        """Stop the child; returns when it has ended. Cancelling cancels the child's own stop."""
        if not self.move(Event.STOP):
            return
        self._stop_timer()
        self._abandon_start()
        self._tried()
        try:
            if self._ever_started:
                await cancellable(maybeDeferred(self._child.stop))
        except CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001
            self.why = describe(error)
            self._log.error(
                "{endpoint}: {name} failed to stop: {why}",
                endpoint=self.endpoint, name=self.name, why=self.why, event="stop failed",
            )  # fmt: skip
        finally:
            self.move(Event.ENDED)

    def move(self, event: Event) -> bool:
        """Move the state as the table says; False where it says nothing, and the event comes too late."""
        state = TRANSITIONS.get((self.state, event))
        if state is None:
            return False
        now = self._clock.seconds()
        if self.state is State.RUNNING:
            self._back_off.stayed_up(now - self.since)
        self.state = state
        self.since = now
        self._changed()
        return True

    def _start_child(self) -> None:
        self._ever_started = True
        starting = self._starting = maybeDeferred(self._child.start)
        if self.state is not State.STARTING:
            self._abandon_start()  # it reported a failure before it returned
        starting.addCallbacks(self._started, self._start_failed, (starting,), {}, (starting,))
        if self._starting is not None:
            self._timer = self._clock.callLater(SLOW_START, self._takes_long)

    def _started(self, _: object, starting: Deferred[object]) -> None:
        if self._starting is starting:
            self._starting = None
            self._stop_timer()
            was = self.why
            self.why = ""
            self.move(Event.STARTED)
            if was:
                self._log_recovered(was)
            self._tried()

    def _log_recovered(self, was: str) -> None:
        self.recovered_from = was
        self._log.info(
            "{endpoint}: {name} recovered; the cause was: {why}",
            endpoint=self.endpoint, name=self.name, why=was, event="recovered",
        )  # fmt: skip

    def _start_failed(self, failure: Failure, starting: Deferred[object]) -> None:
        if self._starting is starting:
            self._failed(failure)

    def _failed(self, failure: Failure) -> None:
        if not self.move(Event.FAILED):
            return
        self._stop_timer()
        self._abandon_start()
        delay = self._back_off.delay()
        why = describe(failure.value) if failure.value else str(failure)
        # The same failure over and over is logged once.
        log = self._log.debug if why == self.why or self.on_trial else self._log.warn
        self.why = why
        log(
            "{endpoint}: {name}: {why}; next try in {delay}",
            endpoint=self.endpoint, name=self.name, why=why, delay=f"{delay:.1f}s", event="backing off",
        )  # fmt: skip
        self._timer = self._clock.callLater(delay, self._due)
        self._tried()

    def _takes_long(self) -> None:
        """The child may still come up, but nobody waits for it any more."""
        self._timer = None
        self._log.warn(
            "{endpoint}: {name} has not started after {seconds:g}s; still waiting for it",
            endpoint=self.endpoint, name=self.name, seconds=SLOW_START, event="slow start",
        )  # fmt: skip
        self._tried()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _abandon_start(self) -> None:
        starting, self._starting = self._starting, None
        if starting is not None and not starting.called:
            _cancel(starting)

    def _due(self) -> None:
        self._timer = None
        self.restarts += 1
        self.move(Event.DUE)
        self._start_child()

    def _tried(self) -> None:
        if not self.tried.called:
            self.tried.callback(None)


def cancellable(deferred: Deferred[Result]) -> Deferred[Result]:
    """The same result; when it is cancelled it ends immediately, whatever the child does about that."""
    result: Deferred[Result] = Deferred(lambda _: _cancel(deferred))

    def pass_on(value: Result | Failure) -> None:
        if not result.called:
            result.callback(value)

    deferred.addBoth(pass_on)
    return result


def _cancel(deferred: Deferred[Result]) -> None:
    with suppress(BaseException):  # of a third party's canceller
        deferred.cancel()


def describe(error: BaseException) -> str:
    """An error in one line: ours as it is, a third party's with its type and the place it comes from."""
    if isinstance(error, SockdError):
        return str(error)
    said = "".join(traceback.format_exception_only(error))[:ERROR_LENGTH]
    text = " ".join(said.split())
    frames = traceback.extract_tb(error.__traceback__ or sys.exc_info()[2])
    return f"{text} ({frames[-1].filename}:{frames[-1].lineno})" if frames else text
