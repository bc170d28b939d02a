"""Waiting: for something that may never come, such as the end of what a third party does, and for others."""

from time import perf_counter
from typing import Any

from twisted.internet.defer import Deferred

from sockd.base.reactor import Clock, Later, Timer, later_by


class Wait:
    """Ends with what is waited for, or after these seconds; what is waited for isn't cancelled, and goes on.

    `over` fires at the end. A failure of what is waited for is dropped.
    """

    def __init__(self, clock: Clock, waited: Deferred[Any], seconds: float) -> None:  # Any: it is dropped
        self.over: Deferred[None] = Deferred()
        self._clock = clock
        self._timer: Timer = clock.callLater(seconds, self._end)
        waited.addBoth(lambda _: self._end())

    def shorten(self, seconds: float) -> None:
        """Wait no longer than these seconds from now."""
        if self._timer.active() and self._timer.getTime() > self._clock.seconds() + seconds:
            self._timer.cancel()
            self._timer = self._clock.callLater(seconds, self._end)

    def _end(self) -> None:
        if self._timer.active():
            self._timer.cancel()
        if not self.over.called:
            self.over.callback(None)


def turn(later: Later) -> Deferred[None]:
    """Fires in a later turn of the reactor, in the slice that all who share `later` have of it."""
    fired: Deferred[None] = Deferred()
    later(fired.callback, None)
    return fired


class Turns:
    """For a coroutine that has much to do: it works for `slice_` seconds in each turn of the reactor."""

    def __init__(self, clock: Clock, slice_: float) -> None:
        self._later = later_by(clock)
        self._slice = slice_
        self._until = perf_counter() + slice_

    async def over(self) -> None:
        """Wait for the reactor's next turn if this one's slice is used up: after each piece of the work."""
        if perf_counter() > self._until:
            await turn(self._later)
            self._until = perf_counter() + self._slice
