"""Descriptors that are kept back: nobody gets them by the way, and who may have them does."""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from sockd.base import descriptors
from tests.tree.house import raising

HARD = 524288


class Limits:
    """Those of a process that may have 524288 descriptors."""

    def __init__(self) -> None:
        self.now = (1024, HARD)
        self.set: list[tuple[int, int]] = []
        self.refuses: list[Exception] = []

    def change(self, _: int, limits: tuple[int, int]) -> None:
        if self.refuses:
            raise self.refuses.pop()
        self.now = limits
        self.set.append(limits)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Limits:
    limits = Limits()
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits.now)
    monkeypatch.setattr(resource, "setrlimit", limits.change)
    return limits


@pytest.fixture
def none_left() -> Iterator[None]:
    """Meanwhile this process may open nothing more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []
    lowest = os.open(os.devnull, os.O_RDONLY)
    held.append(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 1, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
    for one in held:
        os.close(one)


def test_the_soft_limit(limits: Limits) -> None:
    """It is raised to what the hard one allows, and then but for those that are kept back."""
    descriptors.use_all()
    assert limits.now == (HARD, HARD)
    descriptors.reserve()
    assert limits.now == (HARD - descriptors.MAX_RESERVED, HARD)
    assert descriptors.limit() == HARD


@pytest.mark.parametrize("error", [ValueError("not allowed"), PermissionError("not allowed")])
def test_a_limit_that_can_not_be_changed(error: Exception, limits: Limits) -> None:
    """The daemon goes on with what it has."""
    limits.refuses = [error]
    descriptors.reserve()
    assert limits.now == (1024, HARD)


@pytest.mark.parametrize(("hard", "kept"), [(8, 1), (64, 8), (320, 40), (HARD, 40)])
def test_how_many_are_kept(hard: int, kept: int) -> None:
    """An eighth, until that is enough for all connections of the control socket."""
    assert descriptors.reserved(hard) == kept


def test_beyond(limits: Limits) -> None:
    """Inside, all may be had; when the last one leaves, the limit is as it was before the first."""
    descriptors.reserve()
    with descriptors.beyond():
        assert limits.now == (HARD, HARD)
        assert descriptors.lent()
        with descriptors.beyond():
            pass
        assert limits.now == (HARD, HARD)
    assert limits.now == (HARD - descriptors.MAX_RESERVED, HARD)
    assert not descriptors.lent()


def test_reserving_while_a_thread_is_beyond(limits: Limits) -> None:
    """It keeps what it may have until it leaves, and leaves what was reserved since."""
    descriptors.use_all()
    with descriptors.beyond():
        descriptors.reserve()
        assert limits.now == (HARD, HARD)
    assert limits.now == (HARD - descriptors.MAX_RESERVED, HARD)


def test_beyond_in_two_threads(limits: Limits) -> None:
    """Who leaves first takes nothing from the other, and the last leaves nothing behind."""
    descriptors.reserve()
    entered, leave = Event(), Event()

    def other() -> None:
        with descriptors.beyond():
            entered.set()
            leave.wait(30)

    thread = Thread(target=other)
    with descriptors.beyond():
        thread.start()
        assert entered.wait(30)
    assert limits.now == (HARD, HARD)
    leave.set()
    thread.join(30)
    assert limits.now == (HARD - descriptors.MAX_RESERVED, HARD)


def test_taking_while_there_are_others(limits: Limits, tmp_path: Path) -> None:
    """Then nothing of the limit is touched; and what is wrong otherwise is told as it is."""
    assert descriptors.take(lambda: 7) == 7
    with pytest.raises(FileNotFoundError):
        descriptors.take(lambda: os.open(tmp_path / "none", os.O_RDONLY))
    assert not limits.set


def test_taking_when_there_are_no_others(none_left: None) -> None:
    """Who takes from the reserve gets a descriptor where nobody else does."""
    with pytest.raises(OSError, match="Too many open files") as caught:
        os.open(os.devnull, os.O_RDONLY)
    assert caught.value.errno == errno.EMFILE
    os.close(descriptors.take(lambda: os.open(os.devnull, os.O_RDONLY)))
    with pytest.raises(OSError, match="Too many open files"):
        os.open(os.devnull, os.O_RDONLY)


def test_the_limit_of_a_process() -> None:
    """A real one, which begins with less than it may have."""
    program = (
        "import resource as r\n"
        "from sockd.base import descriptors\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (64, r.getrlimit(r.RLIMIT_NOFILE)[1]))\n"
        "descriptors.reserve()\n"
        "soft, hard = r.getrlimit(r.RLIMIT_NOFILE)\n"
        "print(soft == hard - descriptors.reserved(hard) > 64)\n"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "True\n"


def test_a_limit_that_nobody_may_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox may forbid it: then it is taken to be the usual one."""
    monkeypatch.setattr(resource, "getrlimit", raising(PermissionError(errno.EPERM, "not permitted")))
    monkeypatch.setattr(resource, "setrlimit", raising(PermissionError(errno.EPERM, "not permitted")))
    assert descriptors.limit() == 1024
    descriptors.reserve()
    with descriptors.beyond():
        assert descriptors.lent()
