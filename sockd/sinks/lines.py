"""Lines for a file, written by a thread, so that a disk that doesn't answer holds nobody up.

line-log's sinks can have their sources wait; a log can't, since anything may be what it reports. So a queue
takes the lines, at most QUEUE_LIMIT bytes of them, and says at once which it has no room for. The thread
takes all that is there, as a thread that took single lines would wait for Python's lock before each. Other
work on the file (to open it again, to close it) goes through the same queue, and so keeps its place among the
lines. A caller waits for that work, or for the lines before it, for a limited time, and not at all where the
disk has kept the thread for that long already.
"""

import errno
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Condition, Lock, RLock
from typing import NamedTuple, TypeVar

from sockd.sinks.thread import ThreadError, start_thread

QUEUE_LIMIT = 1024 * 1024  # bytes that are not written yet: some thousand lines

ResultT = TypeVar("ResultT")


class Line(NamedTuple):
    """A line with its newline, and how many are lost where it can't be written: it may tell of others."""

    data: bytes
    lines: int


def no_answer(limit: float) -> OSError:
    """The error of a disk on which something isn't done after so many seconds."""
    return OSError(errno.ETIMEDOUT, f"its disk or file server has not answered for {limit:g} seconds")


def _start(name: str, work: Callable[[], None]) -> None:
    """OSError where no thread can be had."""
    try:
        start_thread(name, work)
    except ThreadError as error:
        raise OSError(errno.EAGAIN, str(error)) from None


class LineThread:
    """Gives lines to `write`, in order, in a thread that starts with the first of them.

    Any thread may call its methods; a `__del__` that interrupts one may, too.
    """

    def __init__(self, name: str, write: Callable[[Sequence[Line]], None]) -> None:
        self._name = name
        self._write = write
        self._lock = RLock()
        self._more = Condition(self._lock)
        self._queue: deque[Line | Callable[[], None]] = deque()
        self._size = 0  # bytes of the queue and of what is being written
        self._sleeps = False
        self._started = self._ended = False
        self._since = 0.0  # in monotonic seconds, what is done now; 0: nothing is

    def put(self, line: Line) -> bool:
        """Have it written soon; False where there is no room. OSError where no thread can be had."""
        with self._lock:
            if self._size + len(line.data) > QUEUE_LIMIT:
                return False
            self._size += len(line.data)
            try:
                self._add(line)
            except OSError:
                self._size -= len(line.data)
                raise
        return True

    def run(self, job: Callable[[], ResultT], limit: float) -> ResultT:
        """What the job returns or raises, after all that was put before; `no_answer` where that takes longer.

        It is done all the same, once the disk answers. OSError, too, where no thread can be had.
        """
        done: Future[ResultT] = Future()

        def work() -> None:
            try:
                done.set_result(job())
            except BaseException as error:  # noqa: BLE001
                done.set_exception(error)

        with self._lock:
            self._add(work)
            already = time.monotonic() - self._since if self._since else 0.0
        try:
            return done.result(max(0.0, limit - already))
        except TimeoutError:
            raise no_answer(limit) from None

    def settle(self, limit: float) -> bool:
        """Wait until all is written, at most for so many seconds; whether it is."""
        if not self._started:
            return True
        try:
            self.run(lambda: None, limit)
        except OSError:
            return False
        return True

    def end(self, last: Callable[[], None]) -> None:
        """Do this when all is written, and nothing after it; once, however often it is asked for."""
        with self._lock:
            if self._ended:
                return
            if self._started:
                self._add(last)
            else:
                last()
            self._ended = True

    def _add(self, what: Line | Callable[[], None]) -> None:
        if not self._started:
            _start(self._name, self._work)
            self._started = True
        self._queue.append(what)
        if self._sleeps:
            self._sleeps = False
            self._more.notify()

    # -- in the thread

    def _work(self) -> None:
        while True:
            with self._lock:
                while not self._queue:
                    if self._ended:
                        return
                    self._sleeps = True
                    self._more.wait()
                lines, job = self._take()
                self._since = time.monotonic()
            if job is not None:
                job()
            else:
                self._write(lines)
            with self._lock:
                self._size -= sum(len(line.data) for line in lines)
                self._since = 0.0
            del lines, job  # or the last ones' memory is kept until the next

    def _take(self) -> tuple[list[Line], Callable[[], None] | None]:
        """The lines before the next job; that job where there are none."""
        lines: list[Line] = []
        while self._queue:
            first = self._queue[0]
            if not isinstance(first, Line):
                return (lines, None) if lines else (lines, self._queue.popleft())  # type: ignore[return-value]
            lines.append(first)
            self._queue.popleft()
        return lines, None


def open_in_time(
    opening: Callable[[], ResultT], discard: Callable[[ResultT], object], limit: float
) -> ResultT:
    """What `opening` returns or raises in a thread; `no_answer` where that takes longer.

    What is opened too late goes to `discard`. OSError where there is no thread.
    """
    opened: Future[ResultT] = Future()
    decided = Lock()  # the first to take it decides: the thread that all is well, or the caller to give up

    def work() -> None:
        try:
            result = opening()
        except BaseException as error:  # noqa: BLE001
            opened.set_exception(error)
            return
        if decided.acquire(blocking=False):
            opened.set_result(result)
        else:
            discard(result)

    _start("opens the log", work)
    try:
        return opened.result(limit)
    except TimeoutError:
        if decided.acquire(blocking=False):
            raise no_answer(limit) from None
        return opened.result()


def append(descriptor: int, lines: Sequence[Line], torn: bool) -> tuple[bool, int, str]:
    """Write lines; `torn`: the last one before them was written in part, and is ended first.

    Whether the last of these was, how many are lost, and why. One that is written in part is lost, too.
    """
    lost, why = 0, ""
    left = deque(lines)
    while left:
        start = b"\n" if torn else b""
        try:
            count = os.write(descriptor, start + b"".join([line.data for line in left]))
        except (OSError, MemoryError) as error:
            why = getattr(error, "strerror", None) or "memory is used up"
            return torn, lost + sum(line.lines for line in left), why
        count -= len(start)
        torn = False
        while left and count >= len(left[0].data):
            count -= len(left.popleft().data)
        if count:
            torn = True
            lost += left.popleft().lines
            why = os.strerror(errno.ENOSPC)
    return torn, lost, why
