"""Accepting: exactly as many as there is room for, and without spinning when something has run out."""

import errno
import itertools
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.python.failure import Failure

from sockd.base import descriptors
from sockd.transports import acceptor
from sockd.transports.acceptor import ACCEPTS_PER_EVENT, SHORTAGE_PAUSE, Acceptor
from tests.transports.loop import Loop


class Listening:
    """A listening socket whose errors can be prescribed."""

    def __init__(self) -> None:
        self.sock = socket.socket()
        self.sock.bind(("127.0.0.1", 0))
        self.sock.listen(200)
        self.sock.setblocking(False)
        self.fileno = self.sock.fileno
        self.errors: list[OSError] = []

    def accept(self) -> Any:
        if self.errors:
            raise self.errors.pop(0)
        return self.sock.accept()


class Door:
    """An acceptor, its room, and what it took and told."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.listening = Listening()
        self.space = 1000
        self.taken: list[socket.socket] = []
        self.told: list[int | None] = []
        self.errors: list[OSError] = []  # of taking
        self.clients: list[socket.socket] = []
        self.losses: list[tuple[BaseException, object]] = []
        self.acceptor = self.another()

    def another(self, *, reserved: bool = False) -> Acceptor:
        """One more, that accepts from the same socket."""
        sock: Any = self.listening
        return Acceptor(sock, self.loop, self.take, self.room, self.short, self.lost, reserved=reserved)

    def take(self, sock: socket.socket, sockaddr: Any) -> None:
        assert sock.getblocking() is False
        assert sockaddr[0] == "127.0.0.1"
        if self.errors:
            sock.close()
            raise self.errors.pop()
        self.taken.append(sock)
        if self.room() <= 0:
            self.acceptor.accept(False)

    def room(self) -> int:
        return self.space - len(self.taken)

    def short(self, error: OSError) -> None:
        self.told.append(error.errno)

    def lost(self, error: BaseException, what: object) -> None:
        self.losses.append((error, what))

    def connect(self, count: int) -> None:
        for _ in range(count):
            self.clients.append(socket.create_connection(self.listening.sock.getsockname()))

    def close(self) -> None:
        self.acceptor.leave()
        for sock in (self.listening.sock, *self.taken, *self.clients):
            sock.close()


@pytest.fixture
def door() -> Iterator[Door]:
    door = Door()
    yield door
    door.close()


def test_nothing_is_accepted_before_it_is_wanted(door: Door) -> None:
    """An open listener waits for the word to serve, and can be told to cease."""
    door.connect(1)
    door.loop.settle()
    assert not door.taken
    door.acceptor.accept(True)
    door.acceptor.accept(True)
    door.loop.until(lambda: len(door.taken) == 1)
    door.acceptor.accept(False)
    door.connect(1)
    door.loop.settle()
    assert len(door.taken) == 1


def test_the_limit_is_exact(door: Door) -> None:
    """Not one more than there is room for; the others wait in the backlog until there is."""
    door.space = 3
    door.connect(5)
    door.acceptor.accept(True)
    door.loop.until(lambda: len(door.taken) == 3)
    door.loop.settle()
    assert len(door.taken) == 3
    assert not door.loop.readers
    door.space = 4
    door.acceptor.accept(True)
    door.loop.until(lambda: len(door.taken) == 4)
    assert not door.loop.readers


def test_no_room_is_asked_each_time(door: Door) -> None:
    """Without room nothing is accepted though the socket is still being read."""
    door.space = 0
    door.connect(1)
    door.acceptor.accept(True)
    door.acceptor.doRead()
    assert not door.taken


def test_many_newcomers_leave_others_their_turn(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """One event accepts so many and no more, however quick it is, and fewer where its slice is over."""
    monkeypatch.setattr(acceptor, "perf_counter", lambda: 0.0)
    door.connect(ACCEPTS_PER_EVENT + 5)
    door.acceptor.accept(True)
    door.acceptor.doRead()
    assert len(door.taken) == ACCEPTS_PER_EVENT
    seconds = itertools.count()
    monkeypatch.setattr(acceptor, "perf_counter", lambda: float(next(seconds)))
    door.acceptor.doRead()
    assert len(door.taken) == ACCEPTS_PER_EVENT + 1
    door.loop.until(lambda: len(door.taken) == ACCEPTS_PER_EVENT + 5)


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_shortage_rests_then_resumes(error: int, door: Door) -> None:
    """Out of descriptors or memory, newcomers wait; no event is wasted on them meanwhile."""
    door.listening.errors = [OSError(error, "short"), OSError(error, "short")]
    door.connect(1)
    door.acceptor.accept(True)
    door.loop.until(lambda: door.told == [error])
    assert not door.loop.readers
    door.loop.advance(SHORTAGE_PAUSE)
    door.loop.until(lambda: len(door.told) == 2)
    assert not door.taken
    door.loop.advance(SHORTAGE_PAUSE)
    door.loop.until(lambda: door.taken)


def test_reserved_descriptors(door: Door) -> None:
    """Where there are none for others, whoever is to have those that are kept back gets one."""
    door.listening.errors = [OSError(errno.EMFILE, "short"), OSError(errno.EMFILE, "short")]
    door.connect(1)
    door.acceptor.take_queued(1)
    assert door.told == [errno.EMFILE]
    reserved = door.another(reserved=True)
    reserved.take_queued(1)
    assert len(door.taken) == 1
    assert door.told == [errno.EMFILE]
    reserved.leave()


def test_reserved_descriptors_ran_out_too(door: Door) -> None:
    """Then it is as with all others; anything but the lack of descriptors is at once."""
    for error in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        door.listening.errors = [OSError(error, "short")] * (2 if error == errno.EMFILE else 1)
        reserved = door.another(reserved=True)
        reserved.take_queued(1)
        assert door.told.pop() == error
        assert not door.listening.errors
        reserved.leave()


def test_others_wait_while_reserved_descriptors_are_lent(door: Door) -> None:
    """What a thread of ours opens nobody else takes away from it; nothing is told of that."""
    door.connect(1)
    door.acceptor.accept(True)
    reserved = door.another(reserved=True)
    with descriptors.beyond():
        door.acceptor.doRead()
        assert not door.taken
        assert not door.loop.readers
        reserved.take_queued(1)
        assert len(door.taken) == 1
    door.connect(1)
    door.loop.advance(SHORTAGE_PAUSE)
    door.loop.until(lambda: len(door.taken) == 2)
    assert not door.told


def test_shortage_after_accepting(door: Door) -> None:
    """What the reactor needs for a newcomer may run out as well: the others wait; the socket stays."""
    door.connect(2)
    door.errors = [OSError(errno.ENOSPC, "watches")]
    door.acceptor.accept(True)
    door.loop.until(lambda: door.told == [errno.ENOSPC])
    assert not door.loop.readers
    assert not door.taken
    door.loop.advance(SHORTAGE_PAUSE)
    door.loop.until(lambda: door.taken)
    assert not door.losses


def test_wishes_while_resting(door: Door) -> None:
    """What is said meanwhile holds afterwards."""
    door.listening.errors = [OSError(errno.EMFILE, "short")]
    door.connect(1)
    door.acceptor.accept(True)
    door.acceptor.doRead()
    door.acceptor.accept(False)
    door.acceptor.accept(True)
    assert not door.loop.readers
    door.acceptor.accept(False)
    door.loop.advance(SHORTAGE_PAUSE)
    assert not door.loop.readers


def test_newcomers_own_errors_are_skipped(door: Door) -> None:
    """A connection that was aborted in the queue costs the next one nothing (accept(2))."""
    door.listening.errors = [
        OSError(errno.ECONNABORTED, "gone"),
        OSError(errno.EPROTO, "odd"),
        InterruptedError(),
    ]
    door.connect(1)
    door.acceptor.accept(True)
    door.loop.until(lambda: door.taken)
    assert not door.told


def test_an_error_that_would_come_again_rests(door: Door) -> None:
    """Whatever else accept says is told, and not asked for again at once."""
    door.listening.errors = [OSError(errno.EINVAL, "not listening")]
    door.connect(1)
    door.acceptor.accept(True)
    door.loop.until(lambda: door.told)
    assert not door.taken
    door.loop.advance(SHORTAGE_PAUSE)
    door.loop.until(lambda: door.taken)


def test_the_queue_is_taken_in(door: Door) -> None:
    """Before closing, who waits is accepted, as many as asked for and as there is room for."""
    door.connect(6)
    door.acceptor.take_queued(2)
    assert len(door.taken) == 2
    door.space = 3
    door.acceptor.take_queued(100)
    assert len(door.taken) == 3
    door.space = 1000
    door.acceptor.take_queued(100)
    assert len(door.taken) == 6


def test_shortage_while_taking_in_the_queue(door: Door) -> None:
    """Leaving afterwards leaves no timer behind; the socket is whoever's it was."""
    door.listening.errors = [OSError(errno.EMFILE, "short"), OSError(errno.EMFILE, "short")]
    door.connect(1)
    door.acceptor.take_queued(1)
    door.acceptor.take_queued(1)
    assert len(door.loop.getDelayedCalls()) == 1
    door.acceptor.leave()
    assert not door.loop.getDelayedCalls()
    assert door.listening.sock.fileno() != -1


def test_what_the_reactor_asks_of_a_reader(door: Door) -> None:
    """It has a name for the log."""
    assert door.acceptor.logPrefix() == "sockd"


def test_end_of_the_reactors_doing(door: Door) -> None:
    """When the reactor let go of it, its listener is told why and closes it; it accepts no more."""
    error = ZeroDivisionError("a bug of ours")
    door.connect(1)
    door.acceptor.accept(True)
    door.loop.removeReader(door.acceptor)
    door.acceptor.connectionLost(Failure(error))
    assert door.losses == [(error, door.acceptor)]
    assert door.listening.sock.fileno() != -1
    door.acceptor.take_queued(1)
    assert not door.taken
