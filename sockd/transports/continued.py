"""The calls of one endpoint that are to come in later turns of the reactor, within a slice of each.

# Theory of operation

Work that takes longer than one event may is done in pieces: a piece now, and the rest in a call that comes
later. With `reactor.callLater(0, …)` every one of these calls would come in the reactor's next turn, however
many there are. The lines of 300 members of a chat, each of which waits for the others to be delivered, would
then have a whole turn for themselves, and so would the timers of 900 members that are due in the same moment.

So these calls don't go to the reactor. Each endpoint has one queue of them, as it has one lane for its
events (`lanes`), and the queue has one timer of the reactor's. When that rings, calls are made for a slice
of time (`flush.SLICE`), in the order in which they are due; what is left goes on in the next turn. A
call that was asked for while the queue runs comes after those that are due already.

Each call is an event to the flusher: what it writes leaves at its end, or joins what the same lane
still has to say (`flush`).
"""

from collections import deque
from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from itertools import count
from time import perf_counter
from typing import TypeVar

from sockd.base.reactor import Timer
from sockd.transports.flush import SLICE, Flusher

Item = TypeVar("Item")

PIECE = 64  # connections that one call of `each` is for: a few hundred microseconds, where each is closed
_CANCELLED_KEPT = 64  # calls that were cancelled, until those that are due later are looked through


class Call:
    """One call that is to come: a `base.reactor.Timer`."""

    __slots__ = ("_arguments", "_due", "_function", "_work")

    def __init__(
        self,
        work: "ContinuedWork",
        due: float,
        function: Callable[..., object],
        arguments: tuple[object, ...],
    ) -> None:
        self._work = work
        self._due = due
        self._function: Callable[..., object] | None = function
        self._arguments = arguments

    def cancel(self) -> None:
        """Don't make this call; nothing happens where it was made or cancelled before."""
        if self._function is not None:
            self._function = None
            self._arguments = ()
            if self._due:
                self._work.cancelled()

    def active(self) -> bool:
        """Whether it is still to come."""
        return self._function is not None

    def getTime(self) -> float:  # noqa: N802
        """When it is due, in the reactor's seconds."""
        return self._due

    def make(self) -> None:
        """Make the call, unless it was cancelled."""
        function, arguments = self._function, self._arguments
        if function is not None:
            self._function = None
            self._arguments = ()
            function(*arguments)


class ContinuedWork:
    """The calls of one endpoint that are to come, and the reactor's timer for the next one.

    `failed` is called while the exception of a call is being handled. `lane` is that of the endpoint's
    connections: while calls are made, the flusher knows that there is more to come for these.
    """

    def __init__(self, flusher: Flusher, failed: Callable[[str], None], lane: object = None) -> None:
        self._flusher = flusher
        self._reactor = flusher.reactor
        self._failed = failed
        self._lane = lane
        self._now: deque[Call] = deque()
        self._delayed: list[tuple[float, int, Call]] = []  # a heap: when it is due, which came first
        self._cancelled = 0  # of those
        self._numbers = count()
        self._timer: Timer | None = None
        self._rings_at = 0.0

    def __len__(self) -> int:
        return len(self._now) + len(self._delayed)

    def later(self, function: Callable[..., object], *arguments: object, delay: float = 0.0) -> Call:
        """Call this in a later turn, after so many seconds or as soon as its turn has come."""
        due = self._reactor.seconds() + delay if delay else 0.0
        call = Call(self, due, function, arguments)
        if delay:
            heappush(self._delayed, (due, next(self._numbers), call))
        else:
            self._now.append(call)
        self._ring_at(due)
        return call

    def each(self, items: Iterable[Item], function: Callable[[Item], object]) -> None:
        """Call this with each of these: with the first few now, with the others in later turns."""
        self._some(tuple(items), 0, function)

    def _some(self, items: tuple[Item, ...], done: int, function: Callable[[Item], object]) -> None:
        end = done + PIECE
        for item in items[done:end]:
            function(item)
        if end < len(items):
            self.later(self._some, items, end, function)

    def cancelled(self) -> None:
        """One that was delayed won't be made. They are taken out together, once they are the greater part."""
        self._cancelled += 1
        waiting = len(self._delayed)
        if self._cancelled > max(_CANCELLED_KEPT, waiting // 2) or self._cancelled >= waiting:
            self._cancelled = 0
            self._delayed = [each for each in self._delayed if each[2].active()]
            heapify(self._delayed)
            if self._timer is not None and not len(self):
                self._timer.cancel()
                self._timer = None

    def _ring_at(self, due: float) -> None:
        """Have the timer ring by then; 0 is the reactor's next turn."""
        timer = self._timer
        if timer is not None:
            if self._rings_at <= due:
                return
            timer.cancel()
        self._rings_at = due
        self._timer = self._reactor.callLater(
            max(0.0, due - self._reactor.seconds()) if due else 0, self._run
        )

    def _run(self) -> None:
        self._timer = None
        flusher, until = self._flusher, perf_counter() + SLICE
        flusher.hearing.add(self._lane)
        left = len(self._now)  # what is asked for from here on comes in the next turn
        now = self._reactor.seconds()
        try:
            while True:
                # By turns, as either alone may have more than the slice.
                call = self._next_due(now)
                if call is not None:
                    self._make(call)
                if left:
                    left -= 1
                    self._make(self._now.popleft())
                elif call is None:
                    break
                if perf_counter() > until:
                    break
        finally:
            if self._now or self._due(now):
                self._ring_at(0.0)
            elif self._delayed:
                self._ring_at(self._delayed[0][0])

    def _due(self, now: float) -> bool:
        return bool(self._delayed) and self._delayed[0][0] <= now

    def _next_due(self, now: float) -> Call | None:
        return heappop(self._delayed)[2] if self._due(now) else None

    def _make(self, call: Call) -> None:
        self._flusher.active = True
        try:
            call.make()
        except BaseException:  # noqa: BLE001 - whatever a protocol raises
            self._failed("later")
        self._flusher.end()
