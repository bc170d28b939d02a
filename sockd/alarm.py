"""A descriptor that can be read once a time has come: timerfd_create(2), which Python has from 3.13 on."""

import ctypes
import os
import time

_When = ctypes.c_long * 4  # struct itimerspec: an interval, which is 0 here, and a time, in s and ns


class Alarm:
    """Rings once for each `set`. OSError: the system, or a sandbox, has none."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        try:
            create, self._settime = library.timerfd_create, library.timerfd_settime
        except AttributeError as error:
            raise OSError(str(error)) from error
        self.fileno = create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fileno < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def set(self, seconds: float) -> None:
        """Ring in so long, and not before, whatever was set."""
        whole = int(seconds)
        when = _When(0, 0, whole, max(1, int((seconds - whole) * 1e9)))  # all 0 would be never
        self._settime(self.fileno, 0, when, None)

    def close(self) -> None:
        os.close(self.fileno)
