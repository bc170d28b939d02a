"""An epoll that reports what a test says, and what Twisted's reactors have no public name for."""

from typing import Any


class Epoll:
    """An epoll that reports these events, or fails; all else is the real one's.

    `asked` is how long (seconds) and for how many events it was asked each time.
    """

    def __init__(self, real: Any, reported: Any) -> None:
        self.real = real
        self.reported = reported
        self.asked: list[tuple[float, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    @property
    def waits(self) -> list[float]:
        return [timeout for timeout, _ in self.asked]

    def poll(self, timeout: float, most: int) -> Any:
        self.asked.append((timeout, most))
        if isinstance(self.reported, OSError):
            raise self.reported
        return self.reported


def report(watcher: Any, events: Any, kind: type[Epoll] = Epoll) -> Epoll:
    """Have the epoll of a reactor or a lane report these events from now on, or raise this OSError.

    `_poller` is Twisted's name in an EPollReactor, and a lane's after it. The kernel reports some of these
    events only together with others, and fails only when it likes.
    """
    watcher._poller = epoll = kind(watcher._poller, events)  # noqa: SLF001 - see above
    return epoll


def restore(watcher: Any) -> None:
    """The same, undone."""
    watcher._poller = watcher._poller.real  # noqa: SLF001 - as in `report`


def internal_readers(reactor: Any) -> set[Any]:
    """The descriptors that a reactor of Twisted's has opened for itself, and closes nowhere."""
    return set(reactor._internalReaders)  # noqa: SLF001 - Twisted has no other name for them


def close(reactor: Any) -> None:
    """Leave no descriptor of a reactor behind that isn't the process's own."""
    reactor.removeAll()
    for reader in internal_readers(reactor):
        reactor.removeReader(reader)
        reader.connectionLost(None)
    epoll = getattr(reactor, "_poller", None)  # Twisted never closes it; a SelectReactor has none
    if epoll is not None:
        epoll.close()
