"""Our reactor where it differs from Twisted's: turns without timers, who wants no log context, what fails."""

import errno
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet import error
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python import context
from twisted.python.failure import Failure
from twisted.python.log import ILogContext

from sockd import reactor as module
from sockd.reactor import SockdReactor

SYSTEM = "transport"


@pytest.fixture
def reactor(make: object) -> Iterator[SockdReactor]:
    """One that is not installed; it ends before the transports."""
    one = SockdReactor()
    yield one
    end(one)


def end(reactor: SockdReactor) -> None:
    """Leave no descriptor behind."""
    reactor.removeAll()
    for reader in reactor._internalReaders:
        reactor.removeReader(reader)
        reader.connectionLost(None)
    reactor._poller.close()


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    """What is logged meanwhile."""
    events: list[LogEvent] = []
    observer: Any = events.append
    globalLogPublisher.addObserver(observer)
    yield events
    globalLogPublisher.removeObserver(observer)


def failures(events: list[LogEvent]) -> list[type[BaseException]]:
    told = [event.get("log_failure") or event.get("failure") for event in events]
    return [failure.type for failure in told if failure is not None]


class One:
    """A transport over one end of a socket pair; `then` is what its events do."""

    def __init__(self, then: Callable[["One"], object] = lambda one: None) -> None:
        self.sock, self.other = socket.socketpair()
        self.then = then
        self.contexts: list[str] = []
        self.lost: list[Failure] = []

    def fileno(self) -> int:
        return self.sock.fileno()

    def logPrefix(self) -> str:
        return SYSTEM

    def doRead(self) -> None:
        self.sock.recv(1)
        self._noted()

    def doWrite(self) -> None:
        self._noted()

    def _noted(self) -> None:
        self.contexts.append((context.get(ILogContext) or {}).get("system", "-"))
        self.then(self)

    def connectionLost(self, reason: Failure) -> None:
        self.lost.append(reason)

    def close(self) -> None:
        self.sock.close()
        self.other.close()


class Terse(One):
    """One that wants no log context."""

    logs_nothing = True


@pytest.fixture
def make() -> Iterator[Callable[..., Any]]:
    """Makes transports whose other end has said something; they are closed in the end."""
    made: list[One] = []

    def one(kind: type[One], *args: Any) -> One:
        made.append(kind(*args))
        made[-1].other.send(b"x")
        return made[-1]

    yield one
    for each in made:
        each.close()


def test_a_context_where_it_is_wanted(reactor: SockdReactor, make: Callable[..., Any]) -> None:
    """For reads of those who log nothing there is none; the rare event of another kind has one."""
    plain, terse = make(One), make(Terse)
    for one in (plain, terse):
        reactor.addReader(one)
    reactor.doIteration(0)
    assert (plain.contexts, terse.contexts) == ([SYSTEM], ["-"])
    reactor.addWriter(terse)
    reactor.doIteration(0)
    assert terse.contexts == ["-", SYSTEM]


@pytest.mark.parametrize("kind", [One, Terse])
def test_one_that_raises(
    kind: type[One], reactor: SockdReactor, make: Callable[..., Any], logged: list[LogEvent]
) -> None:
    """It is logged and loses its connection; the others have their events."""

    def bad(one: One) -> None:
        raise ZeroDivisionError

    one, other = make(kind, bad), make(kind)
    for each in (one, other):
        reactor.addReader(each)
    reactor.doIteration(0)
    assert [failure.type for failure in one.lost] == [ZeroDivisionError]
    assert one not in reactor.getReaders()
    assert failures(logged) == [ZeroDivisionError]
    assert (len(other.contexts), other.lost) == (1, [])


def test_one_has_another_leave(reactor: SockdReactor, make: Callable[..., Any]) -> None:
    """Whose event was reported together with its own: that is dropped."""
    ones: list[One] = []

    def alone(one: One) -> None:
        for other in ones:
            if other is not one:
                reactor.removeReader(other)

    ones += [make(Terse, alone) for _ in range(3)]
    for one in ones:
        reactor.addReader(one)
    reactor.doIteration(0)
    assert sorted(len(one.contexts) for one in ones) == [0, 0, 1]


def test_more_than_are_fetched(
    reactor: SockdReactor, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest comes in the next turn; nobody has two events before all had one."""
    monkeypatch.setattr(module, "MANY", 2)
    ones = [make(Terse) for _ in range(5)]
    for one in ones:
        one.other.send(b"more")
        reactor.addReader(one)
    for n in (2, 4, 6):
        reactor.doIteration(0)
        assert sum(len(one.contexts) for one in ones) == n
    assert all(one.contexts for one in ones)


@pytest.mark.parametrize(
    ("both", "why"), [(True, error.ConnectionDone), (False, error.ConnectionLost)], ids=["reading", "writing"]
)
def test_gone(both: bool, why: type[Exception], reactor: SockdReactor, make: Callable[..., Any]) -> None:
    """The other end has closed in both directions."""
    one = make(Terse)
    one.sock.recv(1)
    if both:
        reactor.addReader(one)
        reactor._poller = Told(reactor._poller, [(one.fileno(), select.EPOLLHUP)])
    else:
        reactor.addWriter(one)
        one.other.close()
    reactor.doIteration(0)
    assert [failure.type for failure in one.lost] == [why]


class Told:
    """An epoll that tells these events, or fails; all else is the real one's."""

    def __init__(self, poller: Any, told: Any) -> None:
        self.poller = poller
        self.told = told
        self.waits: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.poller, name)

    def poll(self, timeout: float, most: int) -> Any:
        self.waits.append(timeout)
        if isinstance(self.told, OSError):
            raise self.told
        return self.told


def test_interrupted(reactor: SockdReactor) -> None:
    """By a signal: nothing has happened. What else the kernel says is a bug of ours."""
    reactor._poller = told = Told(reactor._poller, OSError(errno.EINTR, "interrupted"))
    reactor.doIteration(0)
    told.told = OSError(errno.EBADF, "bad file descriptor")
    with pytest.raises(OSError, match="bad file"):
        reactor.doIteration(0)


def test_how_long_a_turn_waits(reactor: SockdReactor) -> None:
    """For ever without timers, else until the first; not at all before it runs and as it ends."""
    reactor._poller = told = Told(reactor._poller, [])
    reactor._take_turn()
    reactor.running = True
    reactor._take_turn()
    late = reactor.callLater(1000, int)
    reactor._take_turn()
    late.cancel()
    reactor.running = False
    late = reactor.callLater(1000, int)
    reactor._take_turn()
    late.cancel()
    first, forever, until, ending = told.waits
    assert (first, forever, ending) == (0, -1, 0)
    assert 990 < until <= 1000
    reactor.threadCallQueue.append((told.waits.clear, (), {}))
    reactor._take_turn()
    assert told.waits == [0]


def test_a_turn_that_fails(reactor: SockdReactor, logged: list[LogEvent]) -> None:
    """It is logged, and the next one comes; the loop ends when the reactor stops."""
    turns = iter([OSError("a bug"), None, KeyboardInterrupt(), None])

    def take_turn() -> None:
        failure = next(turns, StopIteration)
        if failure is StopIteration:
            reactor._started = False
        elif isinstance(failure, BaseException):
            raise failure

    reactor._take_turn = take_turn  # type: ignore[method-assign]
    reactor._started = True
    reactor.mainLoop()
    assert failures(logged) == [OSError, KeyboardInterrupt]


def test_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the one that everybody imports from then on."""
    installed: list[Any] = []
    monkeypatch.setattr(module, "installReactor", installed.append)
    module.install()
    (one,) = installed
    assert isinstance(one, SockdReactor)
    assert one.doIteration == one.doPoll
    end(one)
