"""When a required endpoint gives up: it has not run, for good, for too long."""

from collections.abc import Callable
from typing import Any


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
