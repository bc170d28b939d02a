"""A lane within a reactor: what it watches, and that it leaves others their turn."""

import select
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure

from sockd.transports import lanes
from sockd.transports.flush import Flusher
from sockd.transports.lanes import EVENTS_PER_POLL, Lane
from tests.reactors import report, restore
from tests.transports.loop import Loop


class One:
    """A transport that notes its events; `then()` is called in each read event."""

    def __init__(self, sock: socket.socket, then: Callable[["One"], object] | None = None) -> None:
        self.sock = sock
        self.then = then
        self.events: list[str] = []
        self.lost: list[Failure] = []

    def fileno(self) -> int:
        return self.sock.fileno()

    def doRead(self) -> None:
        self.events.append("read")
        if self.then:
            self.then(self)

    def doWrite(self) -> None:
        self.events.append("write")

    def connectionLost(self, reason: Failure) -> None:
        self.lost.append(reason)


class Stage:
    """A lane and sockets in it; the slice is over when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loop = Loop()
        self.turn = Flusher(self.loop)
        self.lane = Lane(self.turn)
        self.time = 0.0
        self.pairs: list[tuple[socket.socket, socket.socket]] = []
        monkeypatch.setattr(lanes, "perf_counter", lambda: self.time)

    def one(self, then: Callable[[One], object] | None = None, *, ready: bool = True) -> One:
        pair = socket.socketpair()
        self.pairs.append(pair)
        one = One(pair[0], then)
        self.lane.addReader(one)
        if ready:
            pair[1].send(b"x")
        return one

    def takes_its_time(self, one: One) -> None:
        self.time += 1
        one.sock.recv(1)

    def close(self) -> None:
        for pair in self.pairs:
            for sock in pair:
                sock.close()


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    stage = Stage(monkeypatch)
    yield stage
    stage.close()


def test_events(stage: Stage) -> None:
    """Reading and writing are told as they were asked for."""
    one = stage.one(lambda one: one.sock.recv(1))
    stage.lane.addWriter(one)
    stage.loop.turn()
    assert one.events == ["read", "write"]
    stage.lane.removeWriter(one)
    stage.loop.turn()
    assert one.events == ["read", "write"]
    stage.lane.addWriter(one)
    stage.lane.removeReader(one)
    stage.loop.turn()
    assert one.events == ["read", "write", "write"]


def test_asked_twice(stage: Stage) -> None:
    """Who is watched already, or isn't, stays so."""
    one = stage.one()
    stage.lane.addReader(one)
    stage.lane.removeWriter(one)
    stage.lane.removeReader(one)
    stage.lane.removeReader(one)
    stage.loop.turn()
    assert not one.events


def test_a_descriptor_as_long_as_it_has_somebody(stage: Stage) -> None:
    """An endpoint without connections costs none, and the reactor knows nothing of it."""
    assert stage.lane.fileno() == -1
    one = stage.one()
    assert stage.lane.fileno() >= 0
    assert stage.loop.readers == {stage.lane}
    stage.lane.removeReader(one)
    assert stage.lane.fileno() == -1
    assert not stage.loop.readers


def test_the_slice_is_over(stage: Stage) -> None:
    """Each turn has one event that takes as long; nobody is handled twice before all were once."""
    ones = [stage.one(stage.takes_its_time) for _ in range(5)]
    for n in range(1, 6):
        stage.loop.turn()
        assert sum(len(one.events) for one in ones) == n
    assert [one.events for one in ones] == [["read"]] * 5


def test_left_over_and_gone(stage: Stage) -> None:
    """Who left between two slices, or whose number another one has, isn't called."""
    ones = [stage.one(stage.takes_its_time) for _ in range(3)]
    stage.loop.turn()
    waiting = [one for one in ones if not one.events]
    assert len(waiting) == 2
    for one in waiting:
        stage.lane.removeReader(one)
    other = One(waiting[0].sock)
    stage.lane.addReader(other)
    waiting[0].sock.recv(1)
    stage.loop.turn()
    assert not any(one.events for one in (*waiting, other))


def test_left_over_is_all_that_is_left(stage: Stage) -> None:
    """When it leaves within its own event the lane closes."""

    def leave(one: One) -> None:
        stage.takes_its_time(one)
        stage.lane.removeReader(one)

    first, second = stage.one(leave), stage.one(leave)
    stage.loop.turn()
    stage.loop.turn()
    assert (first.events, second.events) == (["read"], ["read"])
    assert stage.lane.fileno() == -1
    stage.lane.doRead()  # the reactor had it among its events
    assert stage.lane.fileno() == -1


def test_one_has_another_leave(stage: Stage) -> None:
    """Within one fetch: its event is dropped."""
    ones: list[One] = []

    def alone(one: One) -> None:
        one.sock.recv(1)
        for other in ones:
            if other is not one:
                stage.lane.removeReader(other)

    ones += [stage.one(alone) for _ in range(3)]
    stage.loop.turn()
    assert sorted(len(one.events) for one in ones) == [0, 0, 1]


def test_more_than_are_fetched(stage: Stage) -> None:
    """The kernel gives those first that had to wait."""
    ones = [stage.one(lambda one: one.sock.recv(1)) for _ in range(EVENTS_PER_POLL + 10)]
    stage.loop.turn()
    stage.loop.turn()
    assert all(one.events == ["read"] for one in ones)


@pytest.mark.parametrize("reading", [True, False])
def test_gone(stage: Stage, reading: bool) -> None:
    """The other end has closed in both directions: that is done if it was being read, else lost."""
    one = stage.one(ready=False)
    if not reading:
        stage.lane.addWriter(one)
        stage.lane.removeReader(one)
    # The kernel has EPOLLIN with each EPOLLHUP as long as it is asked for.
    epoll = report(stage.lane, [(one.fileno(), select.EPOLLHUP)])
    stage.lane.doRead()
    restore(stage.lane)
    assert epoll.asked == [(0, EVENTS_PER_POLL)]
    assert [failure.type for failure in one.lost] == [ConnectionDone if reading else ConnectionLost]
    assert not one.events


@pytest.mark.parametrize("also_writing", [False, True])
def test_one_that_raises(stage: Stage, also_writing: bool) -> None:
    """It loses its connection, and a log line tells; the others have their events."""
    events: list[LogEvent] = []
    observer: Any = events.append

    def bad(one: One) -> None:
        raise ValueError("a bug")

    ones = [stage.one(bad), stage.one(lambda one: one.sock.recv(1))]
    if also_writing:
        stage.lane.addWriter(ones[0])
    globalLogPublisher.addObserver(observer)
    try:
        stage.loop.turn()
    finally:
        globalLogPublisher.removeObserver(observer)
    assert [failure.type for failure in ones[0].lost] == [ValueError]
    assert (ones[1].events, ones[1].lost) == (["read"], [])
    assert [event["log_failure"].type for event in events if "log_failure" in event] == [ValueError]


def test_the_reactor_ends(stage: Stage) -> None:
    """All its transports are told."""
    ones: list[Any] = [stage.one() for _ in range(2)]
    stage.lane.connectionLost(Failure(ConnectionLost()))
    assert [one.lost[0].type for one in ones] == [ConnectionLost] * 2


def test_who_hears(stage: Stage) -> None:
    """A lane that has events says so, as what is sent to many waits for that."""
    stage.one(lambda one: one.sock.recv(1))
    assert not stage.turn.hearing
    stage.loop.turn()
    assert stage.turn.hearing == {stage.lane}
