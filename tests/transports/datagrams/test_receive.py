"""Datagrams are read off a socket in batches that can't be too much, or one by one, with the same result."""

import socket
from typing import Any

import pytest

from sockd.transports.datagrams import receive as receivers
from sockd.transports.datagrams.receive import (
    FEW_DATAGRAMS,
    QUIET_READS,
    SINGLE_READS,
    InBatches,
    OneByOne,
    control_room,
    largest,
    receiver,
)
from sockd.transports.flush import Flusher
from sockd.transports.sockets.inet import ask_for_destination
from tests.transports.loop import Loop

MOST, SHORT = 64, 4096


class Datagrams:
    """Arrays of a kernel that always has more, of these lengths in turn; what was asked for."""

    count = MOST

    def __init__(self) -> None:
        self.length = 100
        self.waiting = 1 << 30
        self.asked: list[int] = []
        self.given_back = 0

    def receive(self, descriptor: int, most: int) -> Any:
        self.asked.append(most)
        taken = min(most, self.waiting)
        return [b""] * taken, [b""] * taken, [self.length] * taken, ()

    def give_back(self) -> None:
        self.given_back += 1


class OneDatagram:
    """A kernel that always has one."""

    def receive_one(self) -> Any:
        return b"one", (("127.0.0.1", 1), ())


def in_batches() -> tuple[InBatches, Datagrams]:
    arrays: Any = Datagrams()
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        one_by_one: Any = OneDatagram()
        return InBatches(sock, arrays, one_by_one, SHORT, 0), arrays


def test_how_many_are_asked_for() -> None:
    """One more each time, as long as so many came; never more than the caller wants or there is room for."""
    one, kernel = in_batches()
    assert [one.receive(MOST)[2] for _ in range(MOST + 2)] == [*range(1, MOST + 1), MOST, MOST]
    assert one.receive(5)[2:4] == (5, True)
    kernel.waiting = 3
    assert one.receive(MOST)[2:4] == (3, False)
    kernel.waiting = MOST
    assert one.receive(MOST)[2] == MOST


def test_long_ones_come_one_at_a_time() -> None:
    """After a long datagram so many could be long that it would be too much; their memory is given back."""
    one, kernel = in_batches()
    for _ in range(MOST):
        one.receive(MOST)
    kernel.length = 60_000
    assert [one.receive(MOST)[2] for _ in range(3)] == [MOST, 1, 1]
    assert kernel.given_back == 1
    kernel.length = SHORT
    assert [one.receive(MOST)[2] for _ in range(3)] == [1, 2, 3]


def test_few_come_one_by_one() -> None:
    """After some calls that found few; then it is looked at, now and then, whether there are more."""
    one, kernel = in_batches()
    one.receive(MOST)
    kernel.waiting = FEW_DATAGRAMS
    one.receive(MOST)  # as many as were asked for: there may be more
    one.receive(MOST)
    kernel.waiting = 3
    one.receive(MOST)
    assert one.receive(1)[2] == 1  # no more were wanted
    kernel.waiting = 1
    for _ in range(QUIET_READS - 1):
        assert not one.plain
        one.receive(MOST)
    assert not one.plain
    kernel.waiting = FEW_DATAGRAMS
    for _ in range(3):
        one.receive(MOST)
        assert one.plain
        for _ in range(SINGLE_READS):
            assert one.plain
            assert one.receive_one()[0] == b"one"
        assert not one.plain
    kernel.waiting = MOST
    for _ in range(MOST):
        one.receive(MOST)
    kernel.waiting = 1
    for _ in range(QUIET_READS - 1):
        one.receive(MOST)
    assert not one.plain
    one.receive(MOST)
    assert one.plain


@pytest.fixture
def turn() -> Flusher:
    return Flusher(Loop())


def test_which_there_is(turn: Flusher, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's calls for many where there are such."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        assert isinstance(receiver(sock, turn, MOST, SHORT), InBatches)
        monkeypatch.setattr(receivers, "inbox", lambda *_: None)
        assert isinstance(receiver(sock, turn, MOST, SHORT), OneByOne)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_room_for_what_is_told(family: int) -> None:
    """None where nothing was asked; on a Unix socket not a byte more than for the sender's credentials."""
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        assert control_room(sock) == 0
        ask_for_destination(sock, family)
        assert control_room(sock) >= socket.CMSG_SPACE(20)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        assert control_room(sock) == socket.CMSG_SPACE(12)


def test_largest() -> None:
    """UDP's limit is its header's; a Unix sender's is what its buffer can be made to hold."""
    assert largest(socket.AF_INET) == largest(socket.AF_INET6) == 65_535
    with open("/proc/sys/net/core/wmem_max", encoding="ascii") as file:
        assert largest(socket.AF_UNIX) == 2 * int(file.read())
