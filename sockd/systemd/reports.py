"""What systemd is told while the daemon starts, serves, reloads and stops."""

from collections.abc import Callable
from typing import Any

from sockd.systemd.notify import Notify

# How often (seconds) the status is looked at; and for how long (seconds) from then on systemd is to wait for
# a start or a stop.
EVERY = 1.0
EXTENSION = 10.0


class Reports:
    """`words()` is the status in words; it is sent when it has changed."""

    def __init__(self, notify: Notify, reactor: Any, words: Callable[[], str]) -> None:
        self._notify = notify
        self._reactor = reactor
        self._words = words
        self._told = ""
        self._ready = False  # it serves: systemd waits neither for a start nor for a stop
        self._timer: Any = None

    def start(self) -> None:
        """The start takes as long as it takes."""
        if self._notify.active:
            self._tick()

    def ready(self) -> None:
        """It serves."""
        self._ready = True
        self._told = self._words()
        self._notify.ready(self._told)

    def reloading(self) -> None:
        """Another plan is tried, or another program; whatever comes of it, `went_on` follows."""
        if self._ready:
            self._notify.reloading()

    def went_on(self) -> None:
        """Who was reloading serves again; who starts or stops meanwhile doesn't say so."""
        if self._ready:
            self.ready()

    def stopping(self) -> None:
        """The stop takes as long as it takes."""
        self._ready = False
        self._told = self._words()
        self._notify.stopping(self._told)

    def stop(self) -> None:
        """Nothing more is to be told."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = self._reactor.callLater(EVERY, self._tick)
        if not self._ready:
            self._notify.extend(EXTENSION)
        words = self._words()
        if words != self._told:
            self._told = words
            self._notify.status(words)
