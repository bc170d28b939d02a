"""The reactor as sockd's own code sees it: a clock, timers, and watched descriptors.

Twisted's reactor is an object whose type hides behind zope interfaces; in tests it is a clock or a loop.
These protocols say what each part of sockd needs of it, so that mypy checks a stand-in too.
"""

from collections.abc import Callable
from typing import Any, Protocol


class Timer(Protocol):
    """A call that is due later (Twisted's IDelayedCall)."""

    def cancel(self) -> None: ...
    def active(self) -> bool: ...
    def getTime(self) -> float: ...  # noqa: N802


class Clock(Protocol):
    """Time in seconds from any origin, which never goes back (Twisted's IReactorTime)."""

    def seconds(self) -> float: ...

    # What a timer's call returns is dropped, so it may be anything.
    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any, **kw: Any) -> Timer: ...  # noqa: A002, N802


class Later(Protocol):
    """Has a function called in a later turn of the reactor, at the earliest after `delay` seconds.

    Work that takes longer than one event may goes on this way: all calls of one endpoint share a slice of
    each turn (`transports.continued`), which calls of the reactor's own timers don't.
    """

    # What the call returns is dropped, so it may be anything.
    def __call__(self, function: Callable[..., Any], /, *arguments: Any, delay: float = 0.0) -> Timer: ...


def later_by(clock: Clock) -> Later:
    """The same by a clock's own timers, for where there is no endpoint."""

    def later(function: Callable[..., Any], /, *arguments: Any, delay: float = 0.0) -> Timer:
        return clock.callLater(delay, function, *arguments)

    return later


class Watcher(Protocol):
    """Calls `doRead` and `doWrite` of descriptors that are ready: the reactor, or a lane within it."""

    # IReadDescriptor and IWriteDescriptor: zope's interfaces are no types of our own classes.
    def addReader(self, reader: Any) -> object: ...  # noqa: N802
    def removeReader(self, reader: Any) -> object: ...  # noqa: N802
    def addWriter(self, writer: Any) -> object: ...  # noqa: N802
    def removeWriter(self, writer: Any) -> object: ...  # noqa: N802


class Reactor(Clock, Watcher, Protocol):
    """A clock that also watches descriptors and takes calls from other threads."""

    def callFromThread(self, callable: Callable[..., Any], /, *args: Any, **kw: Any) -> object: ...  # noqa: A002, N802


class MainReactor(Reactor, Protocol):
    """The reactor that the process runs."""

    def callWhenRunning(self, callable: Callable[..., Any], /, *args: Any, **kw: Any) -> object: ...  # noqa: A002, N802


class ProcessReactor(MainReactor, Protocol):
    """The same for the process itself, which ends with it (Twisted's IReactorCore)."""

    def stop(self) -> None: ...
