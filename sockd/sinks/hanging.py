"""Notices that a job of a worker doesn't come back, and that it has after all.

A disk or a file server may hang for minutes, and nothing fails in that time: the thread is in a system call,
so only somebody else can say so. While a job is unfinished a timer looks, once in LOOK_INTERVAL, whether
anything has moved; after HANGS_AFTER looks in a row without, the worker hangs. Looks are counted rather than
seconds, so that a process that was stopped itself (SIGSTOP, a suspended machine) blames nobody.
"""

from collections.abc import Callable

from sockd.base.reactor import Clock, Timer

LOOK_INTERVAL = 1.0  # seconds
HANGS_AFTER = 3  # looks that found nothing moved


class HangWatch:
    """Looks at one worker. `busy()`: a job is unfinished; `progress()` changes whenever something moves.

    `hangs(True)` is called when the worker has come to hang, `hangs(False)` when it goes on.
    """

    def __init__(
        self,
        clock: Clock,
        busy: Callable[[], bool],
        progress: Callable[[], object],
        hangs: Callable[[bool], None],
    ) -> None:
        self._clock = clock
        self._busy = busy
        self._progress = progress
        self._report = hangs
        self._timer: Timer | None = None
        self._seen: object = None
        self._quiet = 0  # looks in a row that saw the same
        self.hangs = False

    def begin(self) -> None:
        """A job has been given to the worker."""
        if self._timer is None:
            self._seen = self._progress()
            self._quiet = 0
            self._timer = self._clock.callLater(LOOK_INTERVAL, self._look)

    def _look(self) -> None:
        seen, self._seen = self._seen, self._progress()
        busy = self._busy()
        self._quiet = self._quiet + 1 if busy and seen == self._seen else 0
        self._timer = self._clock.callLater(LOOK_INTERVAL, self._look) if busy else None
        hangs = self._quiet >= HANGS_AFTER
        if hangs != self.hangs:
            self.hangs = hangs
            self._report(hangs)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
