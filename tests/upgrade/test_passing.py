"""A handover gets from one program to the next by a file in memory; sockets go beside it."""

import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from sockd.upgrade import passing
from sockd.upgrade.value import HandedConnection, HandedEndpoint, HandedListener, Handover, HandoverError


def handover(*listeners: int, connections: tuple[Any, ...] = ()) -> Handover:
    endpoint = HandedEndpoint(
        "echo", connections=tuple(HandedConnection({"fd": c}, None) for c in connections)
    )
    return Handover(
        file="f",
        runtime="r",
        logs="l",
        started=1.0,
        listeners=tuple(HandedListener(fd, "tcp://127.0.0.1:1", "echo") for fd in listeners),
        endpoints={"echo": endpoint},
        reload=b"x" * 200_000,
    )


@pytest.fixture
def file() -> Iterator[int]:
    fd = passing.write(handover())
    yield fd
    os.close(fd)


def test_what_was_written_is_read(file: int) -> None:
    """Several times, from the beginning, whatever was read before."""
    os.lseek(file, 5, os.SEEK_SET)
    assert passing.read(file) == passing.read(file) == handover()
    assert not os.get_inheritable(file)


def test_it_is_taken_once() -> None:
    """The variable and the descriptor are gone afterwards."""
    fd = passing.write(handover())
    environ = {passing.VARIABLE: str(fd), "OTHER": "1"}
    assert passing.take(environ) == handover()
    assert environ == {"OTHER": "1"}
    assert passing.take(environ) is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_it_can_be_looked_at_before_it_is_taken() -> None:
    """Which file is to be read is needed early."""
    fd = passing.write(handover())
    environ = {passing.VARIABLE: str(fd)}
    assert passing.peek(environ) == passing.peek(environ) == passing.take(environ)
    assert passing.peek(environ) is None


@pytest.mark.parametrize("text", ["", "three", "1000000", "-1", "9" * 30, "3.5"])
def test_a_variable_that_is_wrong_is_told_in_one_line(text: str) -> None:
    """Somebody may have set it by hand."""
    with pytest.raises(HandoverError, match=r"^SOCKD_HANDOVER=[^\n]*$"):
        passing.take({passing.VARIABLE: text})


def test_something_else_than_a_handover_is_not_read() -> None:
    """Not even a byte of a pipe, which might block."""
    ends = os.pipe()
    with pytest.raises(HandoverError, match="not what a running sockd hands over"):
        passing.read(ends[0])
    for end in ends:
        os.close(end)


def test_a_file_that_is_cut_meanwhile_is_refused(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no end without a beginning."""
    monkeypatch.setattr(os, "pread", lambda *_: b"")
    with pytest.raises(HandoverError, match="not what a running sockd hands over"):
        passing.read(file)


def test_there_may_be_too_much(monkeypatch: pytest.MonkeyPatch, file: int) -> None:
    """Neither writing nor reading is without a bound."""
    monkeypatch.setattr(passing, "SIZE_LIMIT", 1000)
    with pytest.raises(HandoverError, match="at most 1000 can be"):
        passing.write(handover())
    with pytest.raises(HandoverError, match="not what a running sockd hands over"):
        passing.read(file)


def test_memory_may_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The running program goes on, without a descriptor more than before."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(HandoverError, match=r"no memory .* No space left"):
        passing.write(handover())
    assert os.listdir("/proc/self/fd") == before


def test_sockets_are_adopted() -> None:
    """They are ready for the reactor, and no child gets them."""
    ends = [end.detach() for end in socket.socketpair()]
    passing.inherit([*ends, 1_000_000], True)
    assert [os.get_inheritable(end) for end in ends] == [True, True]
    sockets = passing.adopt(handover(ends[0], connections=(ends[1],)))
    assert list(sockets) == ends
    for fd, sock in sockets.items():
        assert sock.fileno() == fd
        assert not sock.getblocking()
        assert not sock.get_inheritable()
        sock.close()


@pytest.mark.parametrize("wrong", ["closed", "file", "twice", "none", "text"])
def test_what_is_no_socket_is_not_adopted(wrong: str, file: int) -> None:
    """And those before it are left as they are."""
    one, other = socket.socketpair()
    fds = {"closed": 1_000_000, "file": file, "twice": one.fileno(), "none": None, "text": "7"}
    with pytest.raises(HandoverError, match=r"can't be used: descriptor [^\n]*$"):
        passing.adopt(handover(one.fileno(), connections=(fds[wrong],)))
    one.send(b"still open")
    assert other.recv(100) == b"still open"
    one.close()
    other.close()
