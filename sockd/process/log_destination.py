"""The file or standard stream that the log of the process goes to, written without ever waiting."""

import os
import select
import stat
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from threading import RLock

from sockd.base import descriptors, paths
from sockd.base.account import Account
from sockd.base.frozen import Frozen
from sockd.sinks.lines import Line, LineThread, append

# Seconds for which a reload, SIGUSR1 and an upgrade wait for a disk. The last waits of a process are shorter.
ANSWER_LIMIT = 2.0
LINE_LIMIT = 4096  # bytes: a pipe that polls writable takes as many without blocking (PIPE_BUF, pipe(7))
CUT_MARK = " [cut]"  # ends a line that was longer
_FILE_MODE = 0o640  # of a log file that sockd creates


class Destination:
    """A file descriptor that is never waited for: `lost` counts lines that found no room.

    With a path it is a file, which can be reopened; without, it is standard output, or another `descriptor`.
    That is given, too, where the file at the path is open already. `user` is the one that the daemon, while
    it is root, is going to be: that user must be able to write to the file and to reopen it. A regular file
    is always ready, and may hang all the same: after `begin`, a thread writes to it.
    """

    def __init__(
        self, path: Path | None = None, descriptor: int | None = None, user: Account | None = None
    ) -> None:
        self.path = path
        self.lost = 0
        self._why = ""
        self._lock = RLock()  # of the two
        self._thread: LineThread | None = None
        self._process = 0  # the one that has that thread: a fork has none
        self._use((1 if path is None else _open(path, user)) if descriptor is None else descriptor)

    def _use(self, descriptor: int) -> None:
        self._status = os.fstat(descriptor)  # once: a disk that hangs doesn't answer this either
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._torn = False  # the last line was written in part: a disk had no more room
        self.descriptor = descriptor
        self._begin_thread()

    def begin(self) -> None:
        """From the next line on have a thread write, if this is a regular file: no fork follows."""
        self._process = os.getpid()
        self._begin_thread()

    def _begin_thread(self) -> None:
        if self._process and self._thread is None and stat.S_ISREG(self._status.st_mode):
            self._thread = LineThread("writes the log", self._append)

    def _own_thread(self) -> LineThread | None:
        """The thread, unless this is a fork of the process that has it."""
        return self._thread if self._thread is not None and self._process == os.getpid() else None

    def write(self, text: str, stands_for: int = 1) -> None:
        """Write a line or several, the last newline excluded; where one can't be, so many lines are lost."""
        for line in text.split("\n"):
            self.put(line, stands_for)

    def put(self, line: str, stands_for: int = 1) -> None:
        """Write one line, if that is possible without waiting."""
        data = encoded(line) + b"\n"
        if len(data) > LINE_LIMIT:
            data = (
                data[: LINE_LIMIT - len(CUT_MARK) - 1].decode("utf-8", "ignore").encode()
                + CUT_MARK.encode()
                + b"\n"
            )
        one = Line(data, stands_for)
        if thread := self._own_thread():
            with suppress(OSError):  # no thread can be had: then none has lines that come first
                if not thread.put(one):
                    self.lose(stands_for, "its file didn't answer")
                return
        ready = self._poll.poll(0)
        if ready and ready[0][1] & select.POLLOUT:
            self._append([one])
        else:
            self.lose(stands_for, "there was no room to write them at once")

    def _append(self, lines: Sequence[Line]) -> None:
        self._torn, lost, why = append(self.descriptor, lines, self._torn)
        if lost:
            self.lose(lost, why)

    def lose(self, lines: int, why: str) -> None:
        with self._lock:
            self.lost += lines
            self._why = why

    def take_lost(self) -> tuple[int, str]:
        """How many lines have been lost since this was asked the last time, and why the last was."""
        with self._lock:
            lost, self.lost = self.lost, 0
            return lost, self._why

    def reopen(self) -> None:
        """Open the file that is at the path now, after logrotate; an OSError leaves the old one in use.

        Where the old one doesn't answer either, this is done when it does.
        """
        if self.path is None:
            return
        if thread := self._own_thread():
            thread.run(partial(self._reopen, self.path), ANSWER_LIMIT)
        else:
            self._reopen(self.path)

    def _reopen(self, path: Path) -> None:
        fresh = descriptors.take(lambda: _open(path))
        old = self.descriptor
        self._use(fresh)
        os.close(old)

    def settle(self, limit: float) -> bool:
        """Wait until all is written, at most for so many seconds; whether it is."""
        thread = self._own_thread()
        return thread is None or thread.settle(limit)

    def freeze(self) -> Frozen | None:
        """The open file, for the program that goes on with it; None for standard output."""
        return None if self.path is None else {"fd": self.descriptor, "path": str(self.path)}

    def close(self) -> None:
        if thread := self._own_thread():
            thread.end(self._close)
        else:
            self._close()

    def _close(self) -> None:
        if self.path is not None:
            os.close(self.descriptor)

    def isatty(self) -> bool:
        return stat.S_ISCHR(self._status.st_mode) and os.isatty(self.descriptor)

    def width(self) -> int | None:
        """How many columns the terminal has; None where it is none, or doesn't say."""
        try:
            return os.get_terminal_size(self.descriptor).columns or None
        except OSError:
            return None

    def is_journal(self, environ: Mapping[str, str]) -> bool:
        """Whether systemd's journal reads what is written."""
        return is_journal(self._status, environ)


def is_journal(status: os.stat_result, environ: Mapping[str, str]) -> bool:
    """Whether a descriptor has the device and the inode of $JOURNAL_STREAM (systemd.exec(5))."""
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _open(path: Path, user: Account | None = None) -> int:
    # Non-blocking for the sake of FIFOs: one that nobody reads is an error (ENXIO), not a wait. The mode is
    # given whatever the umask: a user who reads this log is to read the next one.
    with nullcontext() if user is None else paths.hands(path, user):
        opened = paths.open_to_append(path, os.O_WRONLY | os.O_NONBLOCK, _FILE_MODE)
    if opened.made and user is not None:
        os.fchown(opened.fd, user.uid, user.gid)
    return opened.fd


def encoded(text: str) -> bytes:
    """As it is written: what isn't Unicode, as in a file's name, is escaped."""
    return text.encode("utf-8", "backslashreplace")
