"""When what was written leaves, and when sockets close."""

import errno
import socket
from collections.abc import Sequence
from typing import Any

import pytest

from sockd.transports import flush as turn_module
from sockd.transports.flush import FAN_OUT, FAN_OUT_WAIT, Flusher
from tests.transports.loop import Loop


class Transport:
    """Counts its flushes; `then` is flushed because of it."""

    def __init__(self, turn: Flusher, then: "Transport | None" = None) -> None:
        self.turn = turn
        self.then = then
        self.flushed = 0
        self.lane: object = self

    def flush(self) -> None:
        self.flushed += 1
        if self.then is not None:
            self.turn.add(self.then)


def test_end_of_an_event_flushes_all() -> None:
    """Also what was written because of a flush."""
    turn = Flusher(Loop())
    second = Transport(turn)
    first = Transport(turn, second)
    turn.active = True
    turn.add(first)
    assert not first.flushed
    turn.end()
    assert first.flushed == second.flushed == 1
    assert not turn.active
    assert not turn.reactor.getDelayedCalls()


def test_many_wait_for_the_end_of_the_turn() -> None:
    """Each message to many members is not a call to each of them: all events of the turn share them."""
    loop = Loop()
    turn = Flusher(loop)
    transports = [Transport(turn) for _ in range(FAN_OUT + 1)]
    marked = set()
    for _ in range(3):
        turn.active = True
        for transport in transports:
            if transport not in marked:  # as `Server` marks itself
                marked.add(transport)
                turn.add(transport)
        turn.end()
        assert not turn.active
    assert not any(transport.flushed for transport in transports)
    loop.advance(0)
    assert {transport.flushed for transport in transports} == {1}


class Broken(Transport):
    """Fails as epoll_ctl may."""

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")


def test_one_that_fails_keeps_nobody_back() -> None:
    """The others are flushed next time."""
    turn = Flusher(Loop())
    good = Transport(turn)
    turn.active = True
    turn.add(Broken(turn))
    turn.add(good)
    with pytest.raises(OSError, match="no space"):
        turn.end()
    assert not turn.active
    turn.end()
    assert good.flushed == 1


def test_outside_an_event_one_call_flushes_all() -> None:
    """However many transports write: the reactor is asked once."""
    loop = Loop()
    turn = Flusher(loop)
    transports = [Transport(turn) for _ in range(3)]
    for transport in transports:
        turn.add(transport)
    assert len(loop.getDelayedCalls()) == 1
    loop.advance(0)
    assert [transport.flushed for transport in transports] == [1, 1, 1]
    turn.add(transports[0])
    assert len(loop.getDelayedCalls()) == 1


def test_sockets_close_after_the_turn() -> None:
    """A number isn't given away while events that were reported for it are still being worked off."""
    loop = Loop()
    turn = Flusher(loop)
    pair = socket.socketpair()
    for sock in pair:
        turn.bury(sock)
        assert sock.fileno() != -1
    assert len(loop.getDelayedCalls()) == 1
    loop.advance(0)
    assert [sock.fileno() for sock in pair] == [-1, -1]


def test_room_for_datagrams_is_shared() -> None:
    """It costs once what the largest one needs, however many sockets are opened and closed."""
    turn = Flusher(Loop())
    small = turn.room(100)
    assert len(small) == 100
    assert turn.room(99) is small
    large = turn.room(101)
    assert len(large) == 101
    assert turn.room(100) is turn.room(101) is large


class Clocked:
    """A turn, its loop, and the time that slices are measured by."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = 0.0
        monkeypatch.setattr(turn_module, "perf_counter", lambda: self.time)
        monkeypatch.setattr(turn_module, "SLICE", 1.0)
        self.loop = Loop()
        self.turn = Flusher(self.loop)

    def take(self) -> None:
        """What the reactor would call in its next turn; a Clock would call what that asks for as well."""
        call: Any
        (call,) = self.loop.getDelayedCalls()
        run = call.func
        call.cancel()
        run()

    def say(self, transports: Sequence[Transport]) -> None:
        """To many, in one event."""
        self.turn.active = True
        for transport in transports:
            self.turn.add(transport)
        self.turn.end()


class Slow(Transport):
    """Takes half a slice."""

    def __init__(self, clocked: Clocked, lane: object) -> None:
        super().__init__(clocked.turn)
        self.lane = lane
        self.clocked = clocked

    def flush(self) -> None:
        super().flush()
        self.clocked.time += 0.5


def test_many_are_sent_to_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between them others have their turn; each lane has a slice of its own."""
    clocked = Clocked(monkeypatch)
    here, there = ([Slow(clocked, lane) for _ in range(FAN_OUT + 1)] for lane in ("here", "there"))
    clocked.say(here)
    clocked.say(there)
    for done in (*range(3, FAN_OUT + 1, 3), FAN_OUT + 1):
        clocked.take()
        assert [sum(each.flushed for each in lane) for lane in (here, there)] == [done, done]
    assert {each.flushed for each in (*here, *there)} == {1}
    assert not clocked.loop.getDelayedCalls()


def test_many_wait_while_more_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as their lane hears something in each turn of the reactor, and for FAN_OUT_WAIT at most."""
    clocked = Clocked(monkeypatch)
    members = [Transport(clocked.turn) for _ in range(FAN_OUT + 1)]
    for member in members:
        member.lane = "room"
    clocked.say(members)
    for _ in range(3):
        clocked.turn.hearing.add("room")
        clocked.take()
        assert not any(member.flushed for member in members)
    clocked.take()
    assert {member.flushed for member in members} == {1}
    clocked.say(members)
    clocked.turn.hearing.add("room")
    clocked.time += 2 * FAN_OUT_WAIT
    clocked.take()
    assert {member.flushed for member in members} == {2}


def test_who_comes_while_many_wait_waits_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same lane: a speaker whom its own event sent to isn't sent to for each that speaks after it."""
    clocked = Clocked(monkeypatch)
    members = [Transport(clocked.turn) for _ in range(FAN_OUT + 1)]
    speaker, stranger = Transport(clocked.turn), Transport(clocked.turn)
    for member in (*members, speaker):
        member.lane = "room"
    clocked.say(members)
    clocked.say([speaker, stranger])
    assert (speaker.flushed, stranger.flushed) == (0, 1)
    clocked.take()
    assert {member.flushed for member in (*members, speaker)} == {1}
    assert not clocked.loop.getDelayedCalls()


def test_where_few_wait_nobody_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait for there having been no event when they wrote."""
    clocked = Clocked(monkeypatch)
    few = [Transport(clocked.turn) for _ in range(FAN_OUT)]
    one = Transport(clocked.turn)
    for transport in (*few, one):
        transport.lane = "here"
    for transport in few:
        clocked.turn.add(transport)
    clocked.say([one])
    assert one.flushed == 1
    assert not any(transport.flushed for transport in few)


def test_the_first_of_many_wait_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint's first connections, which the reactor watches, hear what the others hear, and as often."""
    clocked = Clocked(monkeypatch)
    first, *others = members = [Transport(clocked.turn) for _ in range(FAN_OUT + 1)]
    first.lane = clocked.loop
    for member in others:
        member.lane = "room"
    clocked.say(members)
    clocked.turn.hearing.add("room")
    clocked.take()
    assert not first.flushed
    clocked.take()
    assert {member.flushed for member in members} == {1}


def test_many_whom_the_reactor_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no lane but its own."""
    clocked = Clocked(monkeypatch)
    members = [Transport(clocked.turn) for _ in range(FAN_OUT + 1)]
    for member in members:
        member.lane = clocked.loop
    clocked.say(members)
    assert not any(member.flushed for member in members)
    clocked.take()
    assert {member.flushed for member in members} == {1}


def test_one_of_many_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are sent to all the same, and sockets are closed."""
    clocked = Clocked(monkeypatch)
    good = [Transport(clocked.turn) for _ in range(FAN_OUT)]
    bad = Broken(clocked.turn)
    for member in (bad, *good):
        member.lane = "room"
    sock = socket.socket()
    clocked.turn.bury(sock)
    clocked.say([bad, *good])
    with pytest.raises(OSError, match="no space"):
        clocked.take()
    assert sock.fileno() == -1
    clocked.take()
    assert {member.flushed for member in good} == {1}
