"""Ends the process in time when it was told to stop, whatever holds the reactor's thread.

# Theory of operation

A stop has deadlines, which are timers of the reactor. A protocol's method that doesn't return (a loop without
an end, a wait for something that never comes) keeps the reactor from its timers, and Python from its exit. So
a thread of its own watches every stop. It is a thread because all else of Python's runs in the main thread,
signal handlers included.

**How it hears of a stop.** Python's own handler, written in C, puts the number of each signal into a pipe at
once (`signal.set_wakeup_fd`), also while the main thread is in a call of C that no signal interrupts, such as
a look-up of a name. The thread reads that pipe and passes the bytes on to Twisted, which waits for SIGCHLD
there. The handlers written in Python write into it as well, since Twisted takes back its end of the pipe when
the reactor stops, and so do stops that no signal has asked for.

**What it does.** It waits for as long as a stop may take, or only a moment once it was asked for twice. Then
it says which function of whose file holds the process up, and ends it. What Python can't do while C code
keeps its lock (the GIL), `faulthandler` does, whose thread needs no lock. C code that has kept the lock since
before the first signal is beyond this too: only SIGKILL ends that.
"""

import faulthandler
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from sockd.base import descriptors
from sockd.sinks.thread import ThreadError, start_thread

# Seconds on top of `daemon.drain` for a main thread that answers, as services have their half second and the
# exit takes time; and for one that doesn't.
GRACE, SILENT_GRACE = 1.6, 1.0
# The same after a second request, from when it came.
HURRIED, SILENT_HURRIED = 2.0, 0.5
# Seconds for Python's own exit once the stop is done: it waits for threads and exit handlers of hosted code.
EXIT_TIME = 1.0
# Seconds for `end`, which has the log take the reason.
_LAST_WORDS = 0.3
# Seconds between two looks at whether it answers, and how long it has for that.
_PING_INTERVAL = 0.1
_ANSWER_TIME = 0.5
# Seconds after which Python's lock is not waited for any more.
_LOCK_GRACE = 0.1

_STOPS = frozenset({signal.SIGTERM, signal.SIGINT})
_HANDLED = 0x80  # marks what Python's own code wrote into the pipe
_DONE = 0x7F  # no signal has this number


class LastResort:
    """Watches over the stops of this process; one for its whole life.

    `limit()` is how long (seconds) a stop may take. `call(method)` has the main thread call something soon.
    `again()` is called there when a stop was asked for once more. `end(why)` is called in the watching thread
    and doesn't return.
    """

    def __init__(
        self,
        limit: Callable[[], float],
        call: Callable[[Callable[[], object]], object],
        again: Callable[[], object],
        end: Callable[[str], object],
    ) -> None:
        self._limit = limit
        self._call = call
        self._again = again
        self._end = end
        self._read = self._write = -1
        self._twisteds = -1  # where the bytes of signals go on to
        self._signals = self._handled = 0  # as C and as Python counted them
        self._begun = 0.0  # when the stop was asked for; 0: it was not
        self._hurried = 0.0  # when it was asked for again
        self._done = 0.0  # when the stop was done
        self._answered = 0.0

    # -- in the main thread

    def watch(self) -> None:
        """Begin, or take the signals' pipe back from a reactor that has just started."""
        if self._write < 0 and not self._begin():
            return
        before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        if before not in (-1, self._write):
            self._twisteds = descriptors.take(lambda: os.dup(before))

    def _begin(self) -> bool:
        try:
            self._read, write = descriptors.take(os.pipe)
        except OSError:
            return False
        os.set_blocking(write, False)
        try:
            start_thread("sockd-stop", self._work)
        except ThreadError:
            os.close(self._read)
            os.close(write)
            return False
        self._write = write
        return True

    @property
    def watching(self) -> bool:
        """Whether it has begun: the system may have had no thread or no descriptors for it."""
        return self._write >= 0

    def handle(self, number: int) -> None:
        """A handler of Python's got this signal."""
        self._note(number)

    def stopping(self) -> None:
        """A stop has begun, whoever asked for it."""
        self._note(0)
        if self.watching and not self._begun:
            self._begin_to_count()  # here, as the next call may keep Python's lock from the thread

    def stopped(self) -> None:
        """The stop is done. What still keeps the process isn't sockd's, and has EXIT_TIME."""
        self._note(_DONE)

    def _note(self, number: int) -> None:
        if self._write >= 0:
            with suppress(OSError):  # the pipe is full of signals
                os.write(self._write, bytes([_HANDLED | number]))

    # -- in the thread

    def _work(self) -> None:
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        while True:
            if poll.poll(None if not self._begun else _PING_INTERVAL * 1000):
                self._hear(os.read(self._read, 4096))
            if self._begun:
                self._have_called(self._answer)
                now = time.monotonic()
                if now >= self._due(silent=now - self._answered >= _ANSWER_TIME):
                    self._give_up()

    def _hear(self, data: bytes) -> None:
        signals = bytes(number for number in data if number < _HANDLED)
        if signals and self._twisteds >= 0:
            with suppress(OSError):  # it is full, or the reactor has ended
                os.write(self._twisteds, signals)
        self._signals += sum(number in _STOPS for number in signals)
        self._handled += sum(number & ~_HANDLED in _STOPS for number in data if number >= _HANDLED)
        asked = max(self._signals, self._handled, _HANDLED in data)
        now = time.monotonic()
        if _HANDLED | _DONE in data:
            self._done = now
        if asked and not self._begun:
            self._begin_to_count()
        if asked > 1 and not self._hurried:
            self._hurried = now
            self._arm()
            self._have_called(self._again)

    def _begin_to_count(self) -> None:
        self._begun = self._answered = time.monotonic()
        self._arm()

    def _have_called(self, method: Callable[[], object]) -> None:
        with suppress(Exception):  # the reactor has ended
            self._call(method)

    def _answer(self) -> None:
        self._answered = time.monotonic()

    def _due(self, *, silent: bool) -> float:
        """When the process is to end, in seconds of the monotonic clock; `silent`: nothing answers."""
        due = self._begun + self._limit() + (SILENT_GRACE if silent else GRACE)
        if self._done:
            due = min(due, self._done + EXIT_TIME)
        if self._hurried:
            due = min(due, self._hurried + (SILENT_HURRIED if silent else HURRIED))
        return due

    def _arm(self) -> None:
        """Should Python's lock be kept from us: C ends the process, with a traceback on standard error."""
        self._end_within(self._due(silent=False) - time.monotonic() + _LOCK_GRACE)

    def _end_within(self, left: float) -> None:
        with suppress(RuntimeError):  # the system has no thread for it now: only a held lock goes unseen
            faulthandler.dump_traceback_later(max(_LOCK_GRACE, left), exit=True, file=2)

    def _give_up(self) -> None:
        self._end_within(max(_LAST_WORDS, self._due(silent=False) - time.monotonic() + _LOCK_GRACE))
        asked = "again " if self._hurried else ""
        waited = time.monotonic() - (self._hurried or self._begun)
        self._end(f"{waited:.1f}s after it was asked {asked}to stop, {_what_runs()}")


def _what_runs() -> str:
    """What the main thread is doing, in words: the innermost function that isn't Python's own."""
    main = threading.main_thread().ident or 0
    frame: FrameType | None = sys._current_frames().get(main)  # noqa: SLF001 - Python's own way to ask
    if frame is None:
        return "the main thread has ended, and another one has not"
    library = os.path.dirname(os.__file__) + os.sep
    innermost = frame
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(library) or "-packages" in name:
            break
        frame = frame.f_back
    frame = frame or innermost
    return f"{frame.f_code.co_qualname} is still running ({frame.f_code.co_filename}:{frame.f_lineno})"
