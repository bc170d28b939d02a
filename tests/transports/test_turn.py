"""When what was written leaves, and when sockets close."""

import errno
import socket

import pytest

from sockd.transports.turn import FEW, READ, Turn
from tests.transports.loop import Loop


class Transport:
    """Counts its flushes; `then` is flushed because of it."""

    def __init__(self, turn: Turn, then: "Transport | None" = None) -> None:
        self.turn = turn
        self.then = then
        self.flushed = 0

    def flush(self) -> None:
        self.flushed += 1
        if self.then is not None:
            self.turn.add(self.then)


def test_end_of_an_event_flushes_all() -> None:
    """Also what was written because of a flush."""
    turn = Turn(Loop())
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
    turn = Turn(loop)
    transports = [Transport(turn) for _ in range(FEW + 1)]
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
    turn = Turn(Loop())
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
    turn = Turn(loop)
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
    turn = Turn(loop)
    pair = socket.socketpair()
    for sock in pair:
        turn.bury(sock)
        assert sock.fileno() != -1
    assert len(loop.getDelayedCalls()) == 1
    loop.advance(0)
    assert [sock.fileno() for sock in pair] == [-1, -1]


def test_room_for_datagrams_is_shared() -> None:
    """It costs once what the largest one needs, however many sockets are opened and closed."""
    turn = Turn(Loop())
    assert turn.room(100) is turn.view
    room = turn.room(READ + 1)
    assert len(room) == READ + 1
    assert turn.room(READ) is turn.room(READ + 1) is room
    assert len(turn.view) == READ
