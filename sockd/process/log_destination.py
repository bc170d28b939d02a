"""Where the log of the process goes: a file or a standard stream, written without ever waiting."""

import os
import select
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

from sockd.base import descriptors, paths
from sockd.base.account import Account
from sockd.base.frozen import Frozen

LINE_LIMIT = 4096  # bytes: a pipe that polls writable takes as many without blocking (PIPE_BUF, pipe(7))
CUT_MARK = " [cut]"  # ends a line that was longer
_FILE_MODE = 0o640  # of a log file that sockd creates


class Destination:
    """A file descriptor that is never waited for: `lost` counts lines that there was no room for.

    With a path it is a file, which can be reopened; without, it is standard output, or another `descriptor`.
    That is given, too, where the file at the path is open already. `user` is the one that the daemon, while
    it is root, is going to be: that user must be able to write to the file and to reopen it.
    """

    def __init__(
        self, path: Path | None = None, descriptor: int | None = None, user: Account | None = None
    ) -> None:
        self.path = path
        self.lost = 0
        self._torn = False  # the last line was written in part: a disk had no more room
        if descriptor is None:
            descriptor = 1 if path is None else _open(path, user)
        self.descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(self.descriptor, select.POLLOUT)

    def write(self, text: str) -> None:
        """Write a line or several, the last newline excluded."""
        for line in text.split("\n"):
            if not self.put(line):
                self.lost += 1

    def put(self, line: str) -> bool:
        """Write one line, if that is possible without waiting; whether it was."""
        data = encoded(line) + b"\n"
        if len(data) > LINE_LIMIT:
            data = (
                data[: LINE_LIMIT - len(CUT_MARK) - 1].decode("utf-8", "ignore").encode()
                + CUT_MARK.encode()
                + b"\n"
            )
        if self._torn:
            data = b"\n" + data
        try:
            ready = self._poll.poll(0)
            if not ready or not ready[0][1] & select.POLLOUT:
                return False
            count = os.write(self.descriptor, data)
        except OSError:
            return False
        self._torn = not data[:count].endswith(b"\n")
        return count == len(data)

    def reopen(self) -> None:
        """Open the file that is at the path now, after logrotate; an OSError leaves the old one in use."""
        if self.path is not None:
            path = self.path
            fresh = descriptors.take(lambda: _open(path))
            self._poll.unregister(self.descriptor)
            os.close(self.descriptor)
            self.descriptor = fresh
            self._torn = False
            self._poll.register(fresh, select.POLLOUT)

    def freeze(self) -> Frozen | None:
        """The open file, for the program that goes on with it; None for standard output."""
        return None if self.path is None else {"fd": self.descriptor, "path": str(self.path)}

    def close(self) -> None:
        if self.path is not None:
            os.close(self.descriptor)

    def isatty(self) -> bool:
        return os.isatty(self.descriptor)

    def width(self) -> int | None:
        """How many columns the terminal has; None where it is none, or doesn't say."""
        try:
            return os.get_terminal_size(self.descriptor).columns or None
        except OSError:
            return None

    def is_journal(self, environ: Mapping[str, str]) -> bool:
        """Whether systemd's journal reads what is written."""
        return is_journal(self.descriptor, environ)


def is_journal(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Whether the descriptor has the device and the inode of $JOURNAL_STREAM (systemd.exec(5))."""
    status = os.fstat(descriptor)
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
