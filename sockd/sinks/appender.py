"""Appends to a file, by calls that may block: opening, writing on at the byte where it stopped, reopening."""

import errno
import os
import select
import stat
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from sockd.base import descriptors
from sockd.base.errors import SockdError

_MOST_LINKS = 40  # as the kernel has it (path_resolution(7))


def descriptor(path: Path) -> int | None:
    """The number behind `/dev/stdout`, `/dev/fd/3`, `/proc/self/fd/3` or a link to one; else None.

    Opening such a path again would give a place in the file of its own, so that two who append to one
    redirected output overwrite each other; and another user may not be allowed to.
    """
    ours = f"/proc/{os.getpid()}/fd"
    name = str(path)
    for _ in range(_MOST_LINKS):
        directory, _, last = name.rpartition("/")
        if os.path.realpath(directory or "/") == ours and last.isascii() and last.isdigit():
            return int(last)
        try:
            name = os.path.join(directory, os.readlink(name))
        except OSError:
            return None
    return None


_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # the file is good; it may have room later
_NOTHING = memoryview(b"")
_PORTION = (
    512 * 1024
)  # bytes that are put together for one write: the reactor's thread stands still meanwhile
_KINDS = (stat.S_ISREG, stat.S_ISFIFO, stat.S_ISCHR)


class SinkError(SockdError):
    """A file that can't be opened or written now."""


class Target(NamedTuple):
    """Which file to append to, its mode where it is created, and what gives the end of a torn line."""

    path: Path
    mode: int
    mend: Callable[[], bytes]


class _Opened(NamedTuple):
    fd: int
    found: os.stat_result
    shared: bool  # a descriptor that we had


class Appender:
    """A file and what is still to be written to it.

    The reactor's thread appends to `queue` whole records, reads `written` and sets `target` to one of the
    same path; one other thread makes all the calls. Each raises SinkError. `freeze` and `thaw` are for the
    reactor's thread while no call is under way.
    """

    def __init__(self, path: Path, mode: int, mend: Callable[[], bytes]) -> None:
        self.target = Target(path, mode, mend)
        self._fd = -1
        self._shared = False  # it is a descriptor that we had, which others write to as well
        self._inode = (0, 0)  # of the file that is open, or was last
        self._within_record = False  # the last byte there is ours and not a record's end
        self._mend = b""  # ends a line that was torn; goes out before all else
        self._rest = _NOTHING  # of the last write
        self.queue: deque[bytes] = deque()
        self.written = 0  # bytes of the queue, ever

    @property
    def path(self) -> Path:
        return self.target.path

    def open(self) -> None:
        """Open the file unless it is open."""
        if self._fd >= 0:
            # A file that somebody deleted to make room gives its room back only when we let it go.
            with suppress(OSError):
                if os.fstat(self._fd).st_nlink:
                    return
            self._drop()
        self._adopt(self._opened(self.target))

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
        new = self._opened(self.target)
        old = self._fd
        self._adopt(new)
        self._close(old)
        return True

    def redirect(self, target: Target, wanted: Callable[[], bool]) -> SinkError | None:
        """Go over to another file; the old one gets what it still takes. Returns what closing it brought up.

        A record that is written in part goes to the new file whole. `wanted` is asked at the last moment.
        """
        if target.path == self.path:
            if wanted():
                self.target = target
            return None
        new = self._opened(target)
        if self._fd >= 0:
            with suppress(SinkError):
                self.write()
        if not wanted():
            os.close(new.fd)
            return None
        complaint = None
        try:
            self.close()
        except SinkError as problem:
            complaint = problem
        self.target = target
        if self._within_record and _inode(new) != self._inode:
            self._rewind()
        self._adopt(new)
        return complaint

    def let_go(self, target: Target) -> None:
        """Close the file; `target` is what will be opened."""
        self._drop()
        self.target = target

    def write(self) -> None:
        """Write what was left, then all that the queue holds now, in few pieces."""
        self._write_rest(len(self._rest))
        count = len(self.queue)
        while count:
            some, size = [], 0
            while count and size < _PORTION:
                some.append(self.queue.popleft())
                size += len(some[-1])
                count -= 1
            self._rest = memoryview(b"".join(some))
            self._write_rest(len(self._rest))
        self._rest = _NOTHING

    def close(self) -> None:
        """Close the file, if it is open; a file server may tell only now what it could not store."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._close(fd)

    def freeze(self) -> dict[str, Any]:
        """What is not written, from the beginning of the record that is written in part."""
        whole, at, start = self._record_begun()
        return {
            "unwritten": b"".join([whole[start:], *self.queue]),
            "offset": at - start,
            "inode": list(self._inode),
        }

    def thaw(self, state: dict[str, Any]) -> None:
        unwritten, offset = memoryview(state["unwritten"]), int(state["offset"])
        if not 0 <= offset <= len(unwritten):
            raise ValueError(f"{offset} bytes of {len(unwritten)} can't be written")
        self._rest = unwritten[offset:]
        self._within_record = offset > 0
        device, inode = state["inode"]
        self._inode = (int(device), int(inode))

    @property
    def unwritten(self) -> int:
        """How many bytes."""
        return len(self._rest) + sum(map(len, self.queue))

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
            raise _problem(self.path, error) from None

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

    def _record_begun(self) -> tuple[bytes, int, int]:
        """The last write, how much of it is written, and where the record begins that comes next."""
        whole: Any = self._rest.obj
        at = len(whole) - len(self._rest)
        return whole, at, whole.rfind(b"\n", 0, at) + 1 if self._within_record else at

    def _rewind(self) -> None:
        """The record that is written in part is to be written whole."""
        whole, at, start = self._record_begun()
        self._rest = memoryview(whole)[start:]
        self.written -= at - start

    def _adopt(self, opened: _Opened) -> None:
        self._shared = opened.shared  # then it may be a socket too, as systemd's standard output is
        inode = _inode(opened)
        if inode != self._inode or not self._within_record:
            self._within_record = False
            self._mend = self.target.mend() if self._torn(opened.found) else b""
        self._fd, self._inode = opened.fd, inode

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

    def _opened(self, target: Target) -> _Opened:
        ours = descriptor(target.path)
        try:
            fd = descriptors.take(lambda: _created_or_found(target)) if ours is None else os.dup(ours)
            found = os.fstat(fd)
        except OSError as error:
            raise _problem(target.path, error) from None
        if ours is not None or any(is_kind(found.st_mode) for is_kind in _KINDS):
            return _Opened(fd, found, ours is not None)
        os.close(fd)
        raise SinkError(f"{target.path}: is neither a file nor a FIFO")

    def _drop(self) -> None:
        with suppress(SinkError):
            self.close()

    def _close(self, fd: int) -> None:
        try:
            os.close(fd)
        except OSError as error:
            raise _problem(self.path, error) from None


def _created_or_found(target: Target) -> int:
    try:
        fd = os.open(target.path, _FLAGS | os.O_CREAT | os.O_EXCL, target.mode)
    except FileExistsError:
        return os.open(target.path, _FLAGS)
    with suppress(OSError):  # some file systems have no modes; never looser than what was asked for
        os.fchmod(fd, target.mode)  # gives what the umask took
    return fd


def _inode(opened: _Opened) -> tuple[int, int]:
    return opened.found.st_dev, opened.found.st_ino


def _problem(path: Path, error: OSError) -> SinkError:
    if error.errno == errno.ENOENT and not path.parent.is_dir():
        return SinkError(f"{path}: the directory {path.parent} does not exist")
    if error.errno == errno.ENXIO:
        return SinkError(f"{path}: no program reads from this FIFO (or it is a socket)")
    return SinkError(f"{path}: {error.strerror}")
