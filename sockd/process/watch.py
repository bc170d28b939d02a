"""A thread that sees when one event holds the reactor for long, and in which call.

# Theory of operation

The reactor itself measures nothing: to look at the time in each turn would cost every echo one percent. This
thread looks at the reactor's thread, 40 times a second, from outside: `sys._current_frames` has what it is
executing, and its frames, from the loop downwards, begin with the reactor's own. The first frame below
those is made anew for each event, so that the same object in two looks means the same event. While that is
the reactor's wait for events, or nothing, the loop is idle.

What is seen of an event begins with the first look and ends with the last, so that it is a twentieth of a
second too short at most; half of that is added. Not counted are times in which the reactor's thread waited
for a processor (schedstat(5)), and in which the whole process was stopped.

A call in C that keeps Python's lock lets nobody look. Then this thread itself was late, though it waited for
no processor and the process used one: that time is the event's that is seen next, if any.

An event that doesn't end at all is reported while it lasts, from this thread.
"""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from types import CodeType, FrameType

INTERVAL = 0.025  # seconds between two looks
HELD = 0.1  # seconds for which an event may hold the reactor without being reported
ENDLESS = 10.0  # seconds after which it is reported though it lasts
_LATE = 4 * INTERVAL  # so much between two looks means that we were held up

# The functions of reactors, Twisted's and ours, below which each event has a frame of its own.
_LOOPS = frozenset({"mainLoop", "take_turn", "_run_once", "run_forever"})
_PARTS = frozenset({"doPoll", "doSelect", "doIteration", "runUntilCurrent", "_run", "select", "poll"})
_WAITS = frozenset({"doPoll", "doSelect", "doIteration", "select", "poll", "_run_once", "take_turn"})


@dataclass(frozen=True)
class Hold:
    """An event that held the reactor: for how many seconds, and the frames at the time, the loop's first."""

    seconds: float
    culprit: object  # what `blame` made of its frames; None where nobody could look
    lasts: bool = False


class Watch:
    """Looks at the thread that calls `start`, until `stop`.

    `blame` makes what is reported of the frames of an event, outermost first; it is called in our thread.
    `report` is called in our thread as well, once for each event that held the reactor for long.
    """

    def __init__(
        self,
        blame: Callable[[Sequence[FrameType]], object],
        report: Callable[[Hold], None],
        thread: Callable[..., Thread] = Thread,
    ) -> None:
        self._blame = blame
        self._report = report
        self._make_thread = thread
        self._thread: Thread | None = None
        self._ended = Event()

    def start(self) -> None:
        """Begin; no call of the reactor's may be under way that is to be reported."""
        if self._thread is None:
            self._ended.clear()
            looks = _Looks(threading.get_ident(), threading.get_native_id(), self._blame, self._report)
            self._thread = self._make_thread(target=self._run, args=(looks,), name="sockd-watch", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # no more threads: nothing is watched
                self._thread = None

    def stop(self) -> None:
        """Look no more; returns when the thread has ended."""
        if self._thread is not None:
            self._ended.set()
            self._thread.join(timeout=1.0)
            self._thread = None

    def _run(self, looks: "_Looks") -> None:
        looks.begin()
        while not self._ended.wait(INTERVAL):
            looks.look()


class _Looks:
    """What the looks so far have seen."""

    def __init__(
        self,
        main: int,
        main_number: int,
        blame: Callable[[Sequence[FrameType]], object],
        report: Callable[[Hold], None],
    ) -> None:
        self._main = main
        self._blame = blame
        self._report = report
        self._waited = _RunDelay(main_number)
        self._event: object = None  # the frame of the event, or None
        self._seen = 0.0  # for how long it was, in seconds
        self._culprit: object = None
        self._reported = False

    def begin(self) -> None:
        self._own = _RunDelay(threading.get_native_id())
        self._last = time.monotonic()
        self._used = time.process_time()

    def look(self) -> None:
        """Look once."""
        now, used = time.monotonic(), time.process_time()
        passed, worked = now - self._last, used - self._used
        self._last, self._used = now, used
        waited, ours = self._waited.since(), self._own.since()
        # Python's documented way to look at another thread, in spite of its name.
        frames = event_of(sys._current_frames().get(self._main))  # noqa: SLF001 - see above
        event = frames[0] if frames else None
        locked = 0.0
        if passed > _LATE:
            # Late, and not for want of a processor: Python's lock was held, or the process was stopped.
            locked = min(passed - INTERVAL - ours, worked)
            passed = max(locked, INTERVAL)
        if event is None or event is not self._event:
            self._end()
            self._event = event
            self._seen = 0.0
            if event is None and locked >= HELD:
                self._report(Hold(locked, None))
            self._add(max(0.0, locked), frames)
        else:
            self._add(max(0.0, passed - waited), frames)

    def _add(self, seconds: float, frames: Sequence[FrameType]) -> None:
        self._seen += seconds
        if frames and self._culprit is None and self._seen + INTERVAL >= HELD:
            try:
                self._culprit = self._blame(frames)
            except Exception:  # noqa: BLE001 - the tree may change while it is looked at
                self._culprit = frames[-1].f_code.co_qualname
        if self._seen >= ENDLESS and not self._reported:
            self._reported = True
            self._report(Hold(self._seen, self._culprit, lasts=True))

    def _end(self) -> None:
        """The event is over."""
        if self._culprit is not None:
            self._report(Hold(self._seen + INTERVAL, self._culprit))
        self._culprit = None
        self._reported = False


def event_of(frame: FrameType | None) -> list[FrameType]:
    """The frames of the event that a thread works on, outermost first; empty while it waits for one."""
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    frames.reverse()
    below = -1  # the innermost frame of the loop's own
    for number, one in enumerate(frames):
        if _is(one.f_code, _LOOPS) or (below == number - 1 and _is(one.f_code, _PARTS)):
            below = number
    if below < 0:
        return []  # the reactor isn't running
    event = frames[below + 1 :]
    if not event and frames[below].f_code.co_name not in _WAITS:
        return frames[below:]  # a timer's call that has no frame, as it is written in C
    return event


def _is(code: CodeType, names: frozenset[str]) -> bool:
    """Whether this is one of these functions of a reactor."""
    return code.co_name in names and _of_a_reactor(code.co_filename)


_KNOWN: dict[str, bool] = {}


def _of_a_reactor(file: str) -> bool:
    known = _KNOWN.get(file)
    if known is None:
        place = Path(file)
        known = _KNOWN[file] = (
            place.parts[-2:-1] in (("internet",), ("asyncio",), ("process",)) or place.name == "selectors.py"
        )
    return known


class _RunDelay:
    """For how long a thread was ready to run and had no processor (schedstat(5)); 0 where that isn't told."""

    def __init__(self, number: int) -> None:
        self._path = f"/proc/self/task/{number}/schedstat"
        self._last = self._read()

    def since(self) -> float:
        """Seconds since it was last asked."""
        last, self._last = self._last, self._read()
        return self._last - last

    def _read(self) -> float:
        try:
            with open(self._path) as file:
                return int(file.read().split()[1]) / 1e9
        except (OSError, ValueError, IndexError):
            return 0.0
