"""When a required endpoint gives up: it has not run for too long, and the daemon ends."""

from collections.abc import Callable

from sockd.base.reactor import Clock, Timer


class GiveUp:
    """Calls `gave_up()` when the endpoint has not run for `after` seconds.

    An endpoint that comes up only to fail again has not run: it counts once it has stayed up for `proved`
    seconds. Until then the time since it was down first goes on.
    """

    def __init__(self, after: float, proved: float, clock: Clock, gave_up: Callable[[], None]) -> None:
        self._after = after
        self._proved = proved
        self._clock = clock
        self._gave_up = gave_up
        self._down_since: float | None = None
        self._running = False
        self._timer: Timer | None = None

    def update(self, *, running: bool) -> None:
        """The endpoint runs, or it doesn't; the time begins with the first call."""
        now = self._clock.seconds()
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
            self._timer = self._clock.callLater(self._proved, self._has_proved)
        else:
            left = max(0.0, self._down_since + self._after - now)
            self._timer = self._clock.callLater(left, self._gave_up)

    def _has_proved(self) -> None:
        self._timer = None
        self._down_since = None

    def cancel(self) -> None:
        """Wait no longer; may be called again."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
