"""The reactor as sockd's own code sees it: a clock, timers, and watched descriptors.

Twisted's reactor is an object whose type hides behind zope interfaces; in tests it is a clock or a loop.
These protocols say what each part of sockd needs of it, so that mypy checks a stand-in too.
"""

from collections.abc import Callable
from typing import Any, Protocol

# Something with fileno, doRead, doWrite and connectionLost. Any: Twisted's IReadDescriptor and
# IWriteDescriptor are interfaces of zope's, which are no types of our own classes.
Descriptor = Any
# A reactor for functions of Twisted. Any: they ask for its interfaces of zope's, which are no types of our
# own classes either, and allow no method to be replaced.
TwistedReactor = Any
# What is passed on to a function. Any: with `object`, no class could name its own parameters as Twisted's do.
Argument = Any


class Timer(Protocol):
    """A call that is due later (Twisted's IDelayedCall)."""

    def cancel(self) -> None: ...
    def active(self) -> bool: ...
    def getTime(self) -> float: ...  # noqa: N802


class Clock(Protocol):
    """Time in seconds from any origin, which never goes back (Twisted's IReactorTime)."""

    def seconds(self) -> float: ...

    def callLater(  # noqa: N802
        self,
        delay: float,
        callable: Callable[..., object],  # noqa: A002
        *args: Argument,
        **kw: Argument,
    ) -> Timer: ...


class Later(Protocol):
    """Has a function called in a later turn of the reactor, at the earliest after `delay` seconds.

    Work that takes longer than one event may goes on this way: all calls of one endpoint share a slice of
    each turn (`transports.continued`), which calls of the reactor's own timers don't.
    """

    def __call__(
        self, function: Callable[..., object], /, *arguments: object, delay: float = 0.0
    ) -> Timer: ...


def later_by(clock: Clock) -> Later:
    """The same by a clock's own timers, for where there is no endpoint."""

    def later(function: Callable[..., object], /, *arguments: object, delay: float = 0.0) -> Timer:
        return clock.callLater(delay, function, *arguments)

    return later


class Watcher(Protocol):
    """Calls `doRead` and `doWrite` of descriptors that are ready: the reactor, or a lane within it."""

    def addReader(self, reader: Descriptor) -> object: ...  # noqa: N802
    def removeReader(self, reader: Descriptor) -> object: ...  # noqa: N802
    def addWriter(self, writer: Descriptor) -> object: ...  # noqa: N802
    def removeWriter(self, writer: Descriptor) -> object: ...  # noqa: N802


class Reactor(Clock, Watcher, Protocol):
    """A clock that also watches descriptors and takes calls from other threads."""

    def callFromThread(  # noqa: N802
        self,
        callable: Callable[..., object],  # noqa: A002
        /,
        *args: Argument,
        **kw: Argument,
    ) -> object: ...


class MainReactor(Reactor, Protocol):
    """The reactor that the process runs."""

    def callWhenRunning(  # noqa: N802
        self,
        callable: Callable[..., object],  # noqa: A002
        /,
        *args: Argument,
        **kw: Argument,
    ) -> object: ...


class ProcessReactor(MainReactor, Protocol):
    """The same for the process itself, which ends with it (Twisted's IReactorCore)."""

    def stop(self) -> None: ...
