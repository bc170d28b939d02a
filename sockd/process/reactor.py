"""`twistd --reactor sockd`, and that of `sockd run`: Twisted's epoll reactor, less around each event."""

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


# Fetched at a time: what is left comes in the next turn.
MANY = 256

_log = Logger(namespace="sockd")


class SockdReactor(EPollReactor):
    """What differs: turns look at no timer before an alarm says that one is due, and there is no log context
    for a transport that wants none (`logs_nothing`).

    Many events share what a turn costs. One alone pays all of it: of an echo's 27 µs Twisted's timers take 4,
    and 1 that the kernel has a time to wake us for.
    """

    def __init__(self) -> None:
        self._alarm: Alarm | None = None
        self._rings = 0.0  # when it does, in the reactor's seconds: before that no timer is due
        self._look = True  # at the timers: it rang, or there is none
        super().__init__()

    def mainLoop(self) -> None:  # noqa: N802
        """Turns, until the reactor stops."""
        self._alarm = self._set_up_alarm()
        self._look = True
        try:
            while self._started:
                try:
                    while self._started:
                        self._take_turn()
                except BaseException:  # noqa: BLE001 - as Twisted's: nothing that is called ends the daemon
                    _log.failure("Unexpected error in main loop.")
        finally:
            if self._alarm is not None:
                self._alarm.close()
                self._alarm = None

    def _set_up_alarm(self) -> Alarm | None:
        try:
            alarm = Alarm()
        except OSError:
            return None  # as Twisted's, then: each turn looks at the timers
        try:
            self._poller.register(alarm.fileno, select.EPOLLIN | select.EPOLLET)
        except OSError:
            alarm.close()
            return None
        return alarm

    def _take_turn(self) -> None:
        timers: Any = self._pendingTimedCalls
        if (
            self._look
            or self._newTimedCalls
            or self.threadCallQueue
            or self._justStopped
            or (timers and timers[0].time < self._rings)
        ):
            self.runUntilCurrent()
            self.doPoll(self._wait())
        else:
            self.doPoll(None)

    def _wait(self) -> float | None:
        """How long (seconds) there is nothing to do but wait for events; None: the alarm is one of them."""
        wait: float | None = self.timeout() if self.running else 0
        if wait is None:
            self._rings, self._look = math.inf, False
        elif wait > 0 and self._alarm is not None:
            due = self._pendingTimedCalls[0].time
            if self._look or due < self._rings:
                self._alarm.set(wait)
                self._rings, self._look = due, False
            wait = None
        return wait

    def doPoll(self, timeout: float | None) -> None:  # noqa: N802
        """Wait (seconds; None: for as long as it takes) for events, and handle them."""
        try:
            events = self._poller.poll(-1 if timeout is None else timeout, MANY)
        except OSError as error:
            if error.errno == errno.EINTR:
                return
            raise
        there = self._selectables
        for number, event in events:
            one = there.get(number)
            if one is None:  # the alarm; or the event before had it leave
                if self._alarm is not None and number == self._alarm.fileno:
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
