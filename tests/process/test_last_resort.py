"""The watch over stops, with the process's signals and a main thread that answers, or doesn't."""

import faulthandler
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sockd.process.last_resort import LastResort


class Main:
    """A main thread that answers or not; `ended` is set once the process would have ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, limit: float) -> None:
        self.answers = True
        self.again = 0
        self.why = ""
        self.ended = threading.Event()
        self.armed: list[float] = []
        monkeypatch.setattr(
            faulthandler, "dump_traceback_later", lambda seconds, **_: self.armed.append(seconds)
        )
        self.resort = LastResort(lambda: limit, self._call, self._again, self._end)

    def _call(self, method: Callable[[], object]) -> None:
        if self.answers:
            method()

    def _again(self) -> None:
        self.again += 1

    def _end(self, why: str) -> None:
        self.why = why
        self.ended.set()
        threading.Event().wait()  # a process would have ended here


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], Main]]:
    before = signal.set_wakeup_fd(-1)
    yield lambda limit: Main(monkeypatch, limit)
    signal.set_wakeup_fd(before)


def test_signals_go_on_to_twisted(main: Any) -> None:
    """Twisted waits for SIGCHLD at the pipe that Python had before."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)
    one = main(1000.0)
    one.resort.watch()
    one.resort.watch()
    signal.raise_signal(signal.SIGCHLD)
    assert os.read(read, 10) == bytes([signal.SIGCHLD])
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("answers", [True, False])
def test_asked_twice(main: Any, answers: bool) -> None:
    """The main thread is told as well; one that doesn't answer has half a second, another one two."""
    one = main(1000.0)
    one.answers = answers
    one.resort.watch()
    one.resort.handle(signal.SIGTERM)
    one.resort.handle(signal.SIGINT)
    assert one.ended.wait(30)
    assert one.again == answers
    assert " after it was asked again to stop, " in one.why
    assert float(one.why.partition("s after")[0]) >= (1.9 if answers else 0.5)
    assert one.armed


def test_a_stop_that_nobody_signalled(main: Any) -> None:
    """It has the same deadline."""
    one = main(0.0)
    one.answers = False
    one.resort.watch()
    one.resort.stopping()
    assert one.ended.wait(30)
    assert "s after it was asked to stop, " in one.why
