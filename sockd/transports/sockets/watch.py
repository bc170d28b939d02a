"""Notices that the file of an open Unix socket was removed or replaced."""

from collections.abc import Callable

from sockd.base.reactor import Clock, Timer
from sockd.transports.sockets.unix import SocketFile

# Seconds between two looks: a stat(2) each, while nobody can connect to a socket that has lost its file.
FILE_CHECK_INTERVAL = 1.0


class FileWatch:
    """Calls `lost()` after each look at which the file isn't ours any more, until `stop`.

    Looks come a second apart, the first one a second from now. inotify(7) would be told sooner, but needs a
    descriptor for each directory and doesn't work on every file system.
    """

    def __init__(self, clock: Clock, file: SocketFile, lost: Callable[[], None]) -> None:
        self._clock = clock
        self._file = file
        self._lost = lost
        self._timer: Timer = clock.callLater(FILE_CHECK_INTERVAL, self._look)

    def _look(self) -> None:
        self._timer = self._clock.callLater(FILE_CHECK_INTERVAL, self._look)
        if not self._file.there():
            self._lost()

    def stop(self) -> None:
        """Look no more; may be called from `lost`, and again."""
        if self._timer.active():
            self._timer.cancel()
