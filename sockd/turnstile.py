"""One at a time: those who ask while something is under way share the next one."""

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred

T = TypeVar("T")


class Turnstile(Generic[T]):
    """Calls `work` for who asks, never twice at a time; however many wait, once more is enough for all."""

    def __init__(self, work: Callable[[], Awaitable[T]]) -> None:
        self._work = work
        self._now: Deferred[T] | None = None
        self._next: list[Deferred[T]] = []
        self.closed = False

    @property
    def busy(self) -> bool:
        return self._now is not None

    def ask(self) -> Deferred[T]:
        """What comes of it; CancelledError after `close`. Who cancels it only doesn't wait any more."""
        waiting: Deferred[T] = Deferred(self._forget)
        if self.closed:
            waiting.errback(CancelledError())
            return waiting
        self._next.append(waiting)
        if self._now is None:
            self._begin()
        return waiting

    def _forget(self, waiting: Deferred[T]) -> None:
        if waiting in self._next:
            self._next.remove(waiting)

    def _begin(self) -> None:
        waiting, self._next = self._next, []
        now = self._now = ensureDeferred(self._work())  # type: ignore[arg-type]
        now.addBoth(self._ended, waiting)

    def _ended(self, result: Any, waiting: list[Deferred[T]]) -> None:
        self._now = None
        if self._next and not self.closed:
            self._begin()
        for each in waiting:
            if not each.called:  # else it was cancelled
                each.callback(result)

    def close(self) -> Deferred[None]:
        """Cancel what is under way, and who waits for a next one; fires when it has ended."""
        self.closed = True
        waiting, self._next = self._next, []
        for each in waiting:
            each.errback(CancelledError())
        ended: Deferred[None] = Deferred()
        if self._now is None:
            ended.callback(None)
        else:
            now = self._now
            now.addBoth(lambda _: ended.callback(None))
            now.cancel()
        return ended
