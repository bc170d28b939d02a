"""Where sockd's reactor differs from Twisted's: turns without timers, reads without a log context."""

import errno
import os
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet import error
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python import context
from twisted.python.failure import Failure
from twisted.python.log import ILogContext

from sockd.process import reactor as module
from sockd.process.reactor import SockdReactor
from tests.reactors import Epoll, close, report, restore

SYSTEM = "transport"


@pytest.fixture
def reactor(make: object) -> Iterator[SockdReactor]:
    """One that is not installed; it ends before the transports."""
    one = SockdReactor()
    yield one
    close(one)


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    """What is logged during the test."""
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
    """There is none for reads of a transport that logs nothing; its other, rare events have one."""
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
    """Events of both were reported together: that of the one that left is dropped."""
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
    monkeypatch.setattr(module, "EVENTS_A_TURN", 2)
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
        report(reactor, [(one.fileno(), select.EPOLLHUP)])
    else:
        reactor.addWriter(one)
        one.other.close()
    reactor.doIteration(0)
    assert [failure.type for failure in one.lost] == [why]


def test_interrupted(reactor: SockdReactor) -> None:
    """By a signal: nothing has happened. What else the kernel says is a bug of ours."""
    epoll = report(reactor, OSError(errno.EINTR, "interrupted"))
    reactor.doIteration(0)
    epoll.reported = OSError(errno.EBADF, "bad file descriptor")
    with pytest.raises(OSError, match="bad file"):
        reactor.doIteration(0)


def test_how_long_a_turn_waits(reactor: SockdReactor) -> None:
    """Without an alarm: for ever if there are no timers, else until the first; not before and after."""
    epoll = report(reactor, [])
    reactor.take_turn()
    reactor.running = True
    reactor.take_turn()
    late = reactor.callLater(1000, int)
    reactor.take_turn()
    reactor.take_turn()
    late.cancel()
    reactor.running = False
    late = reactor.callLater(1000, int)
    reactor.take_turn()
    late.cancel()
    first, forever, until, again, ending = epoll.waits
    assert (first, forever, ending) == (0, -1, 0)
    assert 990 < again <= until <= 1000
    reactor.threadCallQueue.append((epoll.asked.clear, (), {}))
    reactor.take_turn()
    assert epoll.waits == [0]


class Bell:
    """An alarm that notes what it is set to."""

    fileno = 1 << 20

    def __init__(self) -> None:
        self.set_to: list[int] = []

    def set(self, seconds: float) -> None:
        self.set_to.append(round(seconds))


def test_when_the_alarm_is_set(reactor: SockdReactor) -> None:
    """When the first timer is another and earlier one, or it rang; else turns look at no timer."""
    bell: Any = Bell()
    epoll = report(reactor, [])
    reactor.alarm = bell
    reactor.running = True
    reactor.callLater(1000, int)
    soon = reactor.callLater(100, int)
    for _ in range(3):
        reactor.take_turn()
    assert bell.set_to == [100]
    reactor.callLater(2000, int)
    reactor.take_turn()
    assert bell.set_to == [100]
    soon.reset(50)
    for _ in range(3):
        reactor.take_turn()
    assert bell.set_to == [100, 50]
    soon.cancel()
    reactor.take_turn()
    epoll.reported = [(bell.fileno, select.EPOLLIN)]
    reactor.take_turn()
    epoll.reported = []
    for _ in range(3):
        reactor.take_turn()
    assert bell.set_to[:2] == [100, 50]
    assert len(bell.set_to) == 3
    assert set(epoll.waits) == {-1}
    for call in reactor.getDelayedCalls():
        call.cancel()


SECONDS = st.sampled_from([0, 0, 0.0005, 0.001, 0.003, 0.01])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["callLater", "callLater", "cancel", "reset", "delay"]), st.integers(0, 9), SECONDS
    ),
    max_size=20,
)


@pytest.mark.parametrize("there", [True, False], ids=["alarm", "no-alarm"])
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, apart=SECONDS)
def test_timers(
    steps: list[tuple[str, int, float]], apart: float, there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set, cancelled, moved by each other: a timer that isn't cancelled is called, and not too early."""

    def none() -> None:
        raise OSError(errno.ENOSYS, "not here")

    if not there:
        monkeypatch.setattr(module, "Alarm", none)
    reactor = SockdReactor()
    calls: list[Any] = []
    called: list[tuple[float, float]] = []

    def step(left: list[tuple[str, int, float]]) -> None:
        if not left:
            wait_for_all()
            return
        what, which, seconds = left[0]
        if what == "callLater":
            number = len(calls)
            calls.append(
                reactor.callLater(
                    seconds, lambda: called.append((reactor.seconds(), calls[number].getTime()))
                )
            )
        elif calls and calls[which % len(calls)].active():
            call = calls[which % len(calls)]
            call.cancel() if what == "cancel" else getattr(call, what)(seconds)
        reactor.callLater(apart, step, left[1:])

    def wait_for_all() -> None:
        if any(call.active() for call in calls):
            reactor.callLater(0.001, wait_for_all)
        else:
            reactor.crash()

    reactor.callLater(0, step, steps)
    try:
        reactor.run(installSignalHandlers=False)
    finally:
        close(reactor)
        monkeypatch.undo()
    assert len(called) == sum(bool(call.called) for call in calls)
    assert all(call.called or call.cancelled for call in calls)
    assert all(now >= due for now, due in called)


def test_an_alarm_that_cannot_be_watched(reactor: SockdReactor) -> None:
    """epoll has no room for it: timers go without."""

    class Full(Epoll):
        def register(self, number: int, events: int) -> None:
            raise OSError(errno.ENOSPC, "no space left")

    before = set(os.listdir("/proc/self/fd"))
    report(reactor, [], Full)
    reactor.callLater(0, reactor.crash)
    reactor.run(installSignalHandlers=False)
    restore(reactor)
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_turn_that_fails(reactor: SockdReactor, logged: list[LogEvent]) -> None:
    """It is logged, and the next one comes; the loop ends when the reactor stops."""
    turns = iter([OSError("a bug"), None, KeyboardInterrupt(), None])

    def take_turn() -> None:
        failure = next(turns, StopIteration)
        if failure is StopIteration:
            reactor.crash()
        elif isinstance(failure, BaseException):
            raise failure

    reactor.take_turn = take_turn  # type: ignore[method-assign]
    reactor.run(installSignalHandlers=False)
    assert failures(logged) == [OSError, KeyboardInterrupt]


def test_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the one that everybody imports from then on."""
    installed: list[Any] = []
    monkeypatch.setattr(module, "installReactor", installed.append)
    module.install()
    (one,) = installed
    assert isinstance(one, SockdReactor)
    assert one.doIteration == one.doPoll
    close(one)
