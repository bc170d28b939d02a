"""Switches of the whole process, which one owner sets and sets back.

A process has one garbage collector, one interval at which Python's threads take turns, one clock of its
reactor and one way in which the reactor's pool makes threads. Nobody else in sockd touches them.

While Python loads modules and the file is read for the first time the collector is off: what is made then
stays to the end, so that looking through it finds nothing. `start` freezes it all (the collector never looks
at it again) and has the collector run by this daemon's rules; `stop` brings Python's back. While a reload
reads the file in a thread, `held` keeps that thread from holding up the reactor: the collector is off, as one
search of 10,000 connections takes 40 ms, and Python hands the processor on every 0.5 ms instead of every 5
ms.

Whatever is off has an end: that of the work, or else a timer, as a disk may not answer and a third party's
module may not return. The clock and the pool's threads are set for good, by `settle`: with another clock, all
timers that run would go off, or none.
"""

import gc
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread

from sockd.base.reactor import Clock, Timer, TwistedReactor

# With these, Python searches what is young often, as it is little, and everything after a growth by 350,000
# objects. Its own would have it search everything after each growth by a quarter, which takes 40 ms with
# 10,000 connections. An ended connection leaves nothing behind; a third party's protocol may.
THRESHOLDS = (700, 5, 100)
FULL_INTERVAL = 60.0  # seconds between two looks at whether to search everything, however little it has grown
FULL_AFTER = 10  # searches of the middle generation since the last of everything, with which it is worth it

HELD_INTERVAL = 0.0005  # seconds for which one thread of Python's keeps the others waiting
# Seconds until the switches go back, whether or not what they were set for has ended. Reading the file is
# given up after as long.
OFF_LIMIT = 60.0


def disable_collection() -> None:
    """No garbage is collected until a daemon starts, or else to the end of the process.

    For commands that end soon: their memory goes with the process.
    """
    gc.disable()


class Switches:
    """The owner, for one daemon; all of it is for the reactor's thread."""

    def __init__(self, reactor: Clock) -> None:
        self._reactor = reactor
        self._pythons = gc.get_threshold()
        self._interval = 0.0  # of threads, as it was when the first of `_held` began
        self._held: dict[object, Timer] = {}
        self._late: Timer | None = None  # for a start that does not come
        self._search: Timer | None = None

    def prepare(self) -> None:
        """A start is under way: collect what the imports have left behind, and from now on nothing."""
        gc.collect()
        gc.disable()
        self._late = self._reactor.callLater(OFF_LIMIT, self._collect_again)

    def start(self) -> None:
        """From here on this daemon's rules hold. What lives now mostly lives to the end."""
        gc.freeze()  # before collection is on again, which would begin with all that was made since `prepare`
        gc.set_threshold(*THRESHOLDS)
        self._collect_again()
        self._search = self._reactor.callLater(FULL_INTERVAL, self._search_everything)

    def stop(self) -> None:
        """Set back what can be, at the end or when a start has failed."""
        for hold in tuple(self._held):
            self._release(hold)
        self._collect_again()
        if self._search is not None:
            self._search.cancel()
            self._search = None
        gc.set_threshold(*self._pythons)

    @contextmanager
    def held(self) -> Iterator[None]:
        """While a thread works: no collection, and short turns of threads; for OFF_LIMIT at most.

        Several may be held at a time: a read that was given up may still be under way when the next begins.
        """
        hold = object()
        if not self._held:
            self._interval = sys.getswitchinterval()
            sys.setswitchinterval(HELD_INTERVAL)
            gc.disable()
        self._held[hold] = self._reactor.callLater(OFF_LIMIT, self._release, hold)
        try:
            yield
        finally:
            self._release(hold)

    def _release(self, hold: object) -> None:
        timer = self._held.pop(hold, None)
        if timer is None:
            return
        if timer.active():
            timer.cancel()
        if not self._held:
            sys.setswitchinterval(self._interval)
            gc.enable()

    def _collect_again(self) -> None:
        late, self._late = self._late, None
        if late is not None and late.active():
            late.cancel()
        gc.enable()

    def _search_everything(self) -> None:
        self._search = self._reactor.callLater(FULL_INTERVAL, self._search_everything)
        if not self._held and gc.get_count()[2] >= FULL_AFTER:
            gc.collect()


def settle(reactor: TwistedReactor, threads: Callable[..., Thread]) -> None:
    """Set, for good, what a reactor must have before its first timer and its first thread.

    A step of the wall clock would move every timer, so that the reactor's clock is the one that takes none.
    `threads` makes the threads of its pool.
    """
    reactor.seconds = time.monotonic
    reactor.getThreadPool().threadFactory = threads
