"""Appends to a file, by calls that may block: opening, writing on at the byte where it stopped, reopening."""

import errno
import os
import select
import stat
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sockd.errors import SockdError
from sockd.sinks.descriptors import descriptor

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # the file is good; it may have room later
_NOTHING = memoryview(b"")
_KINDS = (stat.S_ISREG, stat.S_ISFIFO, stat.S_ISCHR)


class SinkError(SockdError):
    """A file that can't be opened or written now."""


class Appender:
    """A file and what is still to be written to it.

    The reactor's thread appends to `queue` whole records and reads `written`; one other thread makes all the
    calls. Each raises SinkError.
    """

    def __init__(self, path: Path, mode: int, mend: Callable[[], bytes]) -> None:
        self.path = path
        self._mode = mode
        self._mend_with = mend
        self._fd = -1
        self._shared = False  # it is a descriptor that we had, which others write to as well
        self._inode = (0, 0)  # of the file that is open, or was last
        self._within_record = False  # the last byte there is ours and not a record's end
        self._mend = b""  # ends a line that was torn; goes out before all else
        self._rest = _NOTHING  # of the last write
        self.queue: deque[bytes] = deque()
        self.written = 0  # bytes of the queue, ever

    def open(self) -> None:
        """Open the file unless it is open."""
        if self._fd >= 0:
            # A file that somebody deleted to make room gives its room back only when we let it go.
            with suppress(OSError):
                if os.fstat(self._fd).st_nlink:
                    return
            self._drop()
        self._adopt(*self._opened())

    def reopen(self) -> bool:
        """Go over to the file that now has the path; a record that is half-written ends in the old one.

        False where there is nothing to go over to: if no file is open, the next `open` goes by the path.
        """
        if self._shared and descriptor(self.path) is not None:
            return False
        if self._within_record and self._fd >= 0:
            with suppress(SinkError):  # what then is left goes to the new file
                self._write_rest(bytes(self._rest).find(b"\n") + 1)
        if self._fd < 0:
            return False
        new = self._opened()
        old = self._fd
        self._adopt(*new)
        self._close(old)
        return True

    def write(self) -> None:
        """Write what was left, then all that the queue holds now, as one."""
        self._write_rest(len(self._rest))
        count = len(self.queue)
        if count:
            self._rest = memoryview(b"".join([self.queue.popleft() for _ in range(count)]))
            self._write_rest(len(self._rest))
        self._rest = _NOTHING

    def close(self) -> None:
        """Close the file, if it is open; a file server may tell only now what it could not store."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._close(fd)

    def unwritten_lines(self) -> int:
        """How many; a record that was written in part counts as unwritten."""
        return bytes(self._rest).count(b"\n") + sum(data.count(b"\n") for data in tuple(self.queue))

    def _write_rest(self, size: int) -> None:
        """Write so many bytes of `_rest`."""
        try:
            while self._mend:
                self._mend = self._mend[self._write_some(self._mend) :]
            while size:
                count = self._write_some(self._rest[:size])
                self._within_record = self._rest[count - 1] != ord("\n")
                self._rest = self._rest[count:]
                self.written += count
                size -= count
        except OSError as error:
            if error.errno not in _NO_ROOM:
                self._drop()
            raise self._problem(error) from None

    def _write_some(self, data: bytes | memoryview) -> int:
        if self._shared and len(data) > select.PIPE_BUF:
            # Others write to it as well, and a pipe keeps no more than this in one piece: whole records.
            data = data[: bytes(data[: select.PIPE_BUF]).rfind(b"\n") + 1 or select.PIPE_BUF]
        while True:
            try:
                return os.write(self._fd, data)
            except BlockingIOError:  # a FIFO that is full
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll()

    def _adopt(self, fd: int, found: os.stat_result) -> None:
        inode = (found.st_dev, found.st_ino)
        if inode != self._inode or not self._within_record:
            self._within_record = False
            self._mend = self._mend_with() if self._torn(found) else b""
        self._fd, self._inode = fd, inode

    def _torn(self, found: os.stat_result) -> bool:
        """Whether the last line has no end, as a crash leaves it; no where that can't be known."""
        if self._shared or not stat.S_ISREG(found.st_mode) or not found.st_size:
            return False
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except OSError:  # we may write it, but not read it
            return False
        try:
            return os.pread(fd, 1, found.st_size - 1) not in (b"\n", b"")
        except OSError:
            return False
        finally:
            os.close(fd)

    def _opened(self) -> tuple[int, os.stat_result]:
        ours = descriptor(self.path)
        try:
            fd = self._created_or_found() if ours is None else os.dup(ours)
            found = os.fstat(fd)
        except OSError as error:
            raise self._problem(error) from None
        self._shared = ours is not None  # then it may be a socket too, as systemd's standard output is
        if self._shared or any(is_kind(found.st_mode) for is_kind in _KINDS):
            return fd, found
        os.close(fd)
        raise SinkError(f"{self.path}: is neither a file nor a FIFO")

    def _created_or_found(self) -> int:
        try:
            fd = os.open(self.path, _FLAGS | os.O_CREAT | os.O_EXCL, self._mode)
        except FileExistsError:
            return os.open(self.path, _FLAGS)
        with suppress(OSError):  # some file systems have no modes; never looser than what was asked for
            os.fchmod(fd, self._mode)  # gives what the umask took
        return fd

    def _drop(self) -> None:
        with suppress(SinkError):
            self.close()

    def _close(self, fd: int) -> None:
        try:
            os.close(fd)
        except OSError as error:
            raise self._problem(error) from None

    def _problem(self, error: OSError) -> SinkError:
        if error.errno == errno.ENOENT and not self.path.parent.is_dir():
            return SinkError(f"{self.path}: the directory {self.path.parent} does not exist")
        if error.errno == errno.ENXIO:
            return SinkError(f"{self.path}: no program reads from this FIFO (or it is a socket)")
        return SinkError(f"{self.path}: {error.strerror}")
