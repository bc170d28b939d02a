"""A descriptor that rings: once for each time that was set, and not before."""

import ctypes
import os
import select
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from sockd.process.reactor import Alarm


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    one = Alarm()
    yield one
    one.close()


@pytest.fixture
def poller(alarm: Alarm) -> Iterator[select.epoll]:
    with select.epoll() as one:
        one.register(alarm.fileno, select.EPOLLIN | select.EPOLLET)
        yield one


@pytest.mark.parametrize("seconds", [1e-12, 0.02, 1.005])
def test_rings_once(seconds: float, alarm: Alarm, poller: select.epoll) -> None:
    """When the time has come; nobody need read it for it to be silent again."""
    began = time.monotonic()
    alarm.set(seconds)
    assert poller.poll(10) == [(alarm.fileno, select.EPOLLIN)]
    assert time.monotonic() - began >= seconds
    assert not poller.poll(0)


def test_set_anew(alarm: Alarm, poller: select.epoll) -> None:
    """It rings at the last time that was set, also after it rang."""
    alarm.set(1000)
    for _ in range(2):
        alarm.set(0.001)
        assert poller.poll(10)
    alarm.set(1000)
    assert not poller.poll(0)


def test_closed(alarm: Alarm) -> None:
    """Programs that are started don't have it, nor has anybody when it is closed."""
    assert not os.get_inheritable(alarm.fileno)
    other = Alarm()
    other.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(other.fileno)


@pytest.mark.parametrize(
    "library",
    [
        SimpleNamespace(),
        SimpleNamespace(timerfd_create=lambda *_: -1, timerfd_settime=0),
        SimpleNamespace(
            timerfd_create=lambda *_: os.open(os.devnull, os.O_RDONLY), timerfd_settime=lambda *_: -1
        ),
    ],
)
def test_there_is_none(library: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """The C library doesn't know it, or the kernel or a sandbox refuses."""
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: library)
    with pytest.raises(OSError):
        Alarm()
