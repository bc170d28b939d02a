"""Starts programs, reads what they say as it comes, types into them, and sees that they end."""

import contextlib
import fcntl
import os
import pty
import re
import signal
import subprocess
import termios
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

BOUND = 30.0  # seconds until a wait for an event is a failure; no test waits for a time to pass


class Process:
    """A program whose output is read by a thread; `expect` waits for a piece of it.

    With `terminal` it has one of its own, where Ctrl-C can be typed; else it talks through pipes.
    """

    def __init__(
        self,
        arguments: Sequence[str | Path],
        environment: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
        *,
        terminal: bool = False,
        **options: Any,
    ) -> None:
        self.output = b""
        self._ended = False
        self._news = threading.Condition()
        if terminal:
            self._keyboard, theirs = pty.openpty()
            self._screen = self._keyboard
            options |= {"stdin": theirs, "stdout": theirs, "start_new_session": True}
            options["preexec_fn"] = lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            ends = [theirs]
        else:
            (stdin, self._keyboard), (self._screen, stdout) = os.pipe(), os.pipe()
            options |= {"stdin": stdin, "stdout": stdout}
            ends = [stdin, stdout]
        self.process = subprocess.Popen(
            [str(argument) for argument in arguments],
            stderr=subprocess.STDOUT,
            env=changed(environment),
            cwd=cwd,
            **options,
        )
        for end in ends:
            os.close(end)
        self._ours = {self._keyboard, self._screen}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # EIO is how a terminal says that nobody writes to it any more
            while chunk := os.read(self._screen, 65536):
                with self._news:
                    self.output += chunk
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def until(self, found: Callable[[bytes], Any], what: str, bound: float = BOUND) -> Any:
        """What `found` makes of the output, as soon as it is true; fails at its end, or after the bound."""
        with self._news:
            self._news.wait_for(lambda: self._ended or found(self.output), bound)
            if result := found(self.output):
                return result
            raise AssertionError(f"{what} did not come from {self.process.args!r}:\n{self.text}")

    def expect(self, pattern: bytes | str, bound: float = BOUND) -> re.Match[bytes]:
        """The first match of a regular expression in the output so far or to come."""
        wanted = pattern.encode() if isinstance(pattern, str) else pattern
        match = self.until(lambda output: re.search(wanted, output, re.MULTILINE), repr(pattern), bound)
        assert isinstance(match, re.Match)
        return match

    @property
    def text(self) -> str:
        return self.output.decode(errors="backslashreplace")

    @property
    def terminal(self) -> int:
        """The descriptor of its terminal, where it has one."""
        return self._keyboard

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, data: bytes | str) -> None:
        """Types into it."""
        left = data.encode() if isinstance(data, str) else data
        while left:
            left = left[os.write(self._keyboard, left) :]

    def close_input(self) -> None:
        """Types end-of-file."""
        self._ours.remove(self._keyboard)
        os.close(self._keyboard)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit status, once it ended and all its output was read."""
        status = self.process.wait(BOUND)
        self._reader.join(BOUND)
        return status

    def end(self) -> None:
        """Whatever happened: it is gone, and so are its pipes."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(BOUND)
        self._reader.join(BOUND)
        while self._ours:
            os.close(self._ours.pop())


def changed(environment: Mapping[str, str | None] | None) -> dict[str, str]:
    """Our own environment with these changes; None takes a variable out."""
    merged = {**os.environ, **(environment or {})}
    return {key: value for key, value in merged.items() if value is not None}


def run(
    arguments: Sequence[str | Path], environment: Mapping[str, str | None] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """A program from start to end, within the bound; its output as text."""
    return subprocess.run(
        [str(argument) for argument in arguments],
        env=changed(environment),
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
        **{"stdin": subprocess.DEVNULL, **options},
    )
