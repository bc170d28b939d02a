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

_log = Logger(namespace="sockd")


class SockdReactor(EPollReactor):
    """What differs: it looks at the clock only where a timer waits, and doesn't set a log context for a
    transport that wants none (`logs_nothing`).

    With 100 connections that echo 100 bytes the rest of a turn is shared by many events; with one, Twisted's
    costs 4 µs of 27, this 1.
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
        timers: Any = self._pendingTimedCalls
        if timers or self._newTimedCalls or self.threadCallQueue or self._justStopped:
            self.runUntilCurrent()
            wait = self.timeout() if self.running else 0
        else:
            wait = None if self.running else 0
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
