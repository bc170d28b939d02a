"""`twistd --reactor sockd`, and that of `sockd run`: Twisted's epoll reactor, less around each event."""

import errno
import select
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor
from twisted.logger import Logger
from twisted.python import log

# Fetched at a time: what is left comes in the next turn.
MANY = 256
# epoll_wait(2) counts milliseconds in an int; seconds.
LONGEST = 2_147_483

_log = Logger(namespace="sockd")


class SockdReactor(EPollReactor):
    """What differs: a turn in which no timer is due looks at none but the next, and there is no log context
    for a transport that wants none (`logs_nothing`).

    Many events share what a turn costs. One alone pays all of it: 4 µs of an echo's 27 with Twisted's.
    """

    def mainLoop(self) -> None:  # noqa: N802
        """Turns, until the reactor stops."""
        while self._started:
            try:
                while self._started:
                    self._take_turn()
            except BaseException:  # noqa: BLE001 - as Twisted's: nothing that is called ends the daemon
                _log.failure("Unexpected error in main loop.")

    def _take_turn(self) -> None:
        wait: float | None = None if self.running else 0
        timers: Any = self._pendingTimedCalls
        if timers and self.running:
            wait = min(LONGEST, timers[0].time - self.seconds())
        due = wait is not None and wait <= 0
        if due or self._newTimedCalls or self.threadCallQueue or self._justStopped:
            self.runUntilCurrent()
            wait = self.timeout() if self.running else 0
        self.doPoll(wait)

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
            if one is None:
                continue  # the event before had it leave
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
