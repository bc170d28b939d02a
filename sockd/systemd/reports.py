"""What systemd is to know of the daemon's life."""

from collections.abc import Callable

from sockd.base.reactor import Clock, Timer
from sockd.systemd.notify import Notify

STATUS_INTERVAL = 1.0  # seconds between two looks at whether the status has changed
EXTENSION = 10.0  # seconds for which systemd is to wait for a start or a stop, from each of these looks on


class Reports:
    """Reports start, readiness, reload, stop, and the status that `words()` gives, when it has changed."""

    def __init__(self, notify: Notify, reactor: Clock, words: Callable[[], str]) -> None:
        self._notify = notify
        self._reactor = reactor
        self._words = words
        self._sent = ""
        self._ready = False  # it serves: systemd waits neither for a start nor for a stop
        self._timer: Timer | None = None

    def start(self) -> None:
        """It starts, however long that takes."""
        if self._notify.active:
            self._tick()

    def ready(self) -> None:
        """It serves."""
        self._ready = True
        self._sent = self._words()
        self._notify.ready(self._sent)

    def reloading(self) -> None:
        """Another plan is tried, or another program; however that ends, `went_on` follows."""
        if self._ready:
            self._notify.reloading()

    def went_on(self) -> None:
        """It serves again after a reload; a daemon that still starts, or stops by now, doesn't say so."""
        if self._ready:
            self.ready()

    def stopping(self) -> None:
        """It stops, however long that takes."""
        self._ready = False
        self._sent = self._words()
        self._notify.stopping(self._sent)

    def stop(self) -> None:
        """It has stopped: send nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = self._reactor.callLater(STATUS_INTERVAL, self._tick)
        if not self._ready:
            self._notify.extend(EXTENSION)
        words = self._words()
        if words != self._sent:
            self._sent = words
            self._notify.status(words)
