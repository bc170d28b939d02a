"""What was read and isn't recorded yet: worked off bit by bit, so that no event takes long."""

from collections import deque
from typing import Any, Protocol


class Work(Protocol):
    """A connection that has been read more from than one event may record; it isn't read from meanwhile."""

    lost: bool  # it has ended

    def go_on(self) -> bool:
        """Record the next bit; whether some is left."""

    def finished(self) -> None:
        """Nothing was left. It may `add` itself again."""


class Backlog:
    """One endpoint's: in each of the reactor's turns one connection goes on, be it that it has ended.

    It is a source of the sink: while that is full nothing is recorded.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._waiting: deque[Work] = deque()
        self._timer: Any = None
        self._paused = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, work: Work) -> None:
        """It goes on after those that are here; it is not here itself."""
        self._waiting.append(work)
        self._run_soon()

    def drop(self, work: Work) -> None:
        """It is here, and has nothing to record."""
        self._waiting.remove(work)

    def finish(self) -> None:
        """Record all of those that have ended, now."""
        while ended := [work for work in self._waiting if work.lost]:
            for work in ended:
                self._waiting.remove(work)
                while work.go_on():
                    pass
                work.finished()

    def pauseProducing(self) -> None:  # noqa: N802
        self._paused = True

    def resumeProducing(self) -> None:  # noqa: N802
        self._paused = False
        self._run_soon()

    def _run_soon(self) -> None:
        if self._waiting and not self._paused and self._timer is None:
            self._timer = self._reactor.callLater(0, self._run)

    def _run(self) -> None:
        self._timer = None
        if self._waiting and not self._paused:
            work = self._waiting.popleft()
            try:
                if work.go_on():
                    self._waiting.append(work)
                else:
                    work.finished()
            finally:
                self._run_soon()
