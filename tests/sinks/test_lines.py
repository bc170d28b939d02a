"""Lines that a thread writes: their order, their bound, and how long a caller waits for a disk that hangs."""

import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from sockd.sinks.lines import QUEUE_LIMIT, Line, LineThread, open_in_time

BOUND = 60.0  # seconds


class Disk:
    """What is written to it, once it answers; it can be made to hang."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.answers.set()
        self.asked = threading.Event()
        self.content = b""
        self.thread = LineThread("writes a test's lines", self.write)

    def write(self, lines: Sequence[Line]) -> None:
        self.asked.set()
        self.answers.wait(BOUND)
        self.content += b"".join(line.data for line in lines)

    def hang(self) -> None:
        """Once the thread is known to be held."""
        self.answers.clear()
        self.asked.clear()
        assert self.thread.put(Line(b"held\n", 1))
        assert self.asked.wait(BOUND)


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    yield disk
    disk.answers.set()
    disk.thread.end(lambda: None)


def test_lines_and_other_work_keep_their_order(disk: Disk) -> None:
    """Work that was given between two lines sees the first and not the second."""
    disk.hang()
    seen: list[bytes] = []
    disk.thread.put(Line(b"one\n", 1))
    with pytest.raises(OSError, match="has not answered for 0 seconds"):
        disk.thread.run(lambda: seen.append(disk.content), 0)
    disk.thread.put(Line(b"two\n", 1))
    disk.answers.set()
    assert disk.thread.settle(BOUND)
    assert seen == [b"held\none\n"]
    assert disk.content == b"held\none\ntwo\n"


def test_what_does_not_fit_is_refused(disk: Disk) -> None:
    """What is being written counts too; room comes back with the disk."""
    disk.hang()
    line = Line(b"x" * 4095 + b"\n", 1)
    accepted = 0
    while disk.thread.put(line):
        accepted += 1
    assert QUEUE_LIMIT - 2 * 4096 < accepted * 4096 < QUEUE_LIMIT
    disk.answers.set()
    assert disk.thread.settle(BOUND)
    assert disk.content.count(b"\n") == accepted + 1
    assert disk.thread.put(line)


def test_a_disk_that_hangs_is_waited_for_once(disk: Disk) -> None:
    """A caller that comes when the limit is over doesn't wait, so that many calls take no longer than one."""
    disk.hang()
    assert not disk.thread.settle(0.05)
    before = time.monotonic()
    for _ in range(1000):
        assert not disk.thread.settle(0.05)
    assert time.monotonic() - before < 1000 * 0.05 / 2


def test_what_fails_in_the_thread(disk: Disk) -> None:
    """The caller has the exception; the thread goes on."""

    def fail() -> None:
        raise PermissionError("not yours")

    with pytest.raises(PermissionError, match="not yours"):
        disk.thread.run(fail, BOUND)
    disk.thread.put(Line(b"on\n", 1))
    assert disk.thread.settle(BOUND)
    assert disk.content == b"on\n"


def test_the_end_comes_last(disk: Disk) -> None:
    """Closing the file is what follows the last line."""
    disk.hang()
    closed = threading.Event()
    contents: list[bytes] = []

    def last() -> None:
        contents.append(disk.content)
        closed.set()

    disk.thread.put(Line(b"last\n", 1))
    disk.thread.end(last)
    disk.answers.set()
    assert closed.wait(BOUND)
    assert contents == [b"held\nlast\n"]


def test_no_thread(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller hears of it and nothing is queued; later there is one."""

    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        for _ in range(2 * QUEUE_LIMIT // 4096):
            with pytest.raises(OSError, match="no thread can be started"):
                disk.thread.put(Line(b"x" * 4096, 1))
        with pytest.raises(OSError, match="no thread can be started"):
            open_in_time(lambda: None, lambda _: None, BOUND)
    disk.thread.put(Line(b"one\n", 1))
    assert disk.thread.settle(BOUND)
    assert disk.content == b"one\n"


def test_what_is_opened_too_late_is_closed() -> None:
    """It is nobody's any more."""
    answers, closed = threading.Event(), threading.Event()
    with pytest.raises(OSError, match="has not answered"):
        open_in_time(lambda: answers.wait(BOUND), lambda _: closed.set(), 0)
    answers.set()
    assert closed.wait(BOUND)
    assert open_in_time(lambda: 7, lambda _: None, BOUND) == 7
