"""Twisted's epoll reactor with less around each event: that of `sockd run`, and `twistd --reactor sockd`.

A turn of Twisted's reactor is: call what other threads have asked for, call the timers that are due, ask how
long it is until the next one, wait for events as long (epoll_wait), and handle each event within a log
context of its own. Of an echo's 27 µs, when it is alone in its turn, the timers take 4, and the kernel takes
1 to arm a time-out. Many events in one turn share that; one alone pays all of it.

Here a turn leaves the timers alone unless there is a reason to look. The kernel watches the next one: a
timerfd, the Alarm, is among the descriptors that epoll watches, and rings when the earliest timer is due.
Looking is needed only in a turn after it rang, when timers were added, when one has been moved to before the
alarm's time, or when another thread has a call or the reactor is stopping. Every other turn waits for events
without a time-out. A timer that was cancelled or moved to later just has the alarm ring in vain, and be set
again.

The log context is left out for reads of a transport that has the attribute `logs_nothing`. What such a
transport raises is logged all the same.
"""

import ctypes
import errno
import math
import os
import select
import time
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor
from twisted.logger import Logger
from twisted.python import log

_Itimerspec = ctypes.c_long * 4  # an interval, which is 0 here, and a time, each in seconds and nanoseconds


class Alarm:
    """A timerfd (timerfd_create(2)), readable once the time of the last `set` has come.

    OSError: the system, or a sandbox, has none.
    """

    def __init__(self) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        try:
            create, self._settime = library.timerfd_create, library.timerfd_settime
        except AttributeError as error:
            raise OSError(str(error)) from error
        self.fileno = create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fileno < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        if self._settime(self.fileno, 0, _Itimerspec(), None) < 0:
            number = ctypes.get_errno()
            self.close()
            raise OSError(number, os.strerror(number))

    def set(self, seconds: float) -> None:
        """Ring after these seconds, in place of what was set before."""
        whole = int(seconds)
        when = _Itimerspec(0, 0, whole, max(1, int((seconds - whole) * 1e9)))  # all 0 would be never
        self._settime(self.fileno, 0, when, None)

    def close(self) -> None:
        os.close(self.fileno)


EVENTS_A_TURN = 256  # at most; those that are left come in the next turn

_log = Logger(namespace="sockd")


class SockdReactor(EPollReactor):
    """The reactor; without an alarm it works as Twisted's does, each turn looking at the timers."""

    def __init__(self) -> None:
        self.alarm: Alarm | None = None
        self._rings_at = 0.0  # in the reactor's seconds: before that no timer is due
        self._look = True  # at the timers: the alarm has rung, or there is none
        super().__init__()

    def mainLoop(self) -> None:  # noqa: N802
        """Turns, until the reactor stops."""
        self.alarm = self._set_up_alarm()
        self._look = True
        try:
            while self._started:
                try:
                    while self._started:
                        self.take_turn()
                except BaseException:  # noqa: BLE001 - as in Twisted's, nothing that is called ends the loop
                    _log.failure("Unexpected error in main loop.")
        finally:
            if self.alarm is not None:
                self.alarm.close()
                self.alarm = None

    def _set_up_alarm(self) -> Alarm | None:
        try:
            alarm = Alarm()
        except OSError:
            return None
        try:
            self._poller.register(alarm.fileno, select.EPOLLIN | select.EPOLLET)
        except OSError:
            alarm.close()
            return None
        return alarm

    def take_turn(self) -> None:
        """Call what is due, wait for events, and handle them."""
        timers: Any = self._pendingTimedCalls  # Any: Twisted has no type for them
        if (
            self._look
            or self._newTimedCalls
            or self.threadCallQueue
            or self._justStopped
            or (timers and timers[0].time < self._rings_at)
        ):
            self.runUntilCurrent()
            self.doPoll(self._wait())
        else:
            self.doPoll(None)

    def _wait(self) -> float | None:
        """For how long (seconds) to wait for events; None: until there are some, such as the alarm."""
        wait: float | None = self.timeout() if self.running else 0
        if wait is None:
            self._rings_at, self._look = math.inf, False
        elif wait > 0 and self.alarm is not None:
            due = self._pendingTimedCalls[0].time
            if self._look or due < self._rings_at:
                self.alarm.set(wait)
                self._rings_at, self._look = due, False
            wait = None
        return wait

    def doPoll(self, timeout: float | None) -> None:  # noqa: N802
        """Wait (seconds; None: for as long as it takes) for events, and handle them."""
        try:
            events = self._poller.poll(-1 if timeout is None else timeout, EVENTS_A_TURN)
        except OSError as error:
            if error.errno == errno.EINTR:
                return
            raise
        transports = self._selectables
        for number, event in events:
            one = transports.get(number)
            if one is None:  # the alarm, or one that an event before this one has removed
                if self.alarm is not None and number == self.alarm.fileno:
                    self._look = True
                continue
            if event == select.EPOLLIN and hasattr(one, "logs_nothing"):
                try:
                    one.doRead()
                except BaseException as error:  # noqa: BLE001
                    log.err()
                    self._disconnectSelectable(one, error, True)
            else:
                log.callWithLogger(one, self._doReadOrWrite, one, number, event)

    doIteration = doPoll  # noqa: N815


def install() -> None:
    """Make this the process's reactor."""
    installReactor(SockdReactor())
