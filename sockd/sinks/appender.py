"""Appends records to a file, by calls that may block."""

import errno
import os
import select
import stat
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

from sockd.base.frozen import Frozen
from sockd.base.paths import own_descriptor
from sockd.base.units import counted
from sockd.sinks.opening import Opened, SinkError, Target, is_torn, open_to_append, problem

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # the file is good; it may have room later
_NOTHING = memoryview(b"")
# Bytes that are put together for one write; while they are, the reactor's thread stands still.
PORTION = 512 * 1024


class Appender:
    """An open file, with the records that are still to be written to it.

    The calls may block and raise SinkError: one worker thread makes them all. The reactor's thread appends
    whole records to `queue`, reads `written`, and may set `target` to another of the same path. `freeze` and
    `thaw` are for the reactor's thread too, while no call is under way.

    A write may end within a record: where a disk is full, or a FIFO. `_rest` is what it has left; the next
    write goes on with it at the byte, if the file still ends there. If it doesn't, because another file has
    taken the path or somebody has emptied this one, the record is written whole. From a file that is left its
    part is taken back, where that is possible: no record is split over two files. If a file ends in a torn
    line that is not ours, as after a crash, `target.repair()` ends it first.
    """

    def __init__(self, path: Path, mode: int, repair: Callable[[], bytes]) -> None:
        self.target = Target(path, mode, repair)
        self._fd = -1
        self._shared = False  # others write to it as well
        self._inode = (0, 0)  # of the file that is open, or was last
        self._within_record = False  # the last byte there is one of ours, and not a record's end
        self._end = -1  # the file's size where a write ended within a record; -1: not known, or it has none
        self._repair = b""  # ends a torn line; goes out before all else
        self._rest = _NOTHING  # of the last write: a view whose `obj` is all that was to be written
        self.queue: deque[bytes] = deque()
        self.written = 0  # bytes of the queue, ever

    @property
    def path(self) -> Path:
        return self.target.path

    def open(self) -> None:
        """Open the file unless it is open."""
        if self._fd >= 0:
            # A file that somebody deleted to make room gives its room back only once it is closed.
            with suppress(OSError):
                if os.fstat(self._fd).st_nlink:
                    return
            self._drop()
        self._adopt(open_to_append(self.target))

    def reopen(self) -> bool:
        """Go over to the file that has the path now.

        A record that is written in part ends in the old one or, where that takes no more, is whole in the new
        one. False where nothing was open to go over from: the next `open` goes by the path.
        """
        if self._shared and own_descriptor(self.path) is not None:
            return False
        if self._within_record and self._fd >= 0:
            with suppress(SinkError):
                self._write_rest(bytes(self._rest).find(b"\n") + 1)
        if self._fd < 0:
            return False
        new = open_to_append(self.target)
        if new.inode != self._inode:
            self._withdraw()
        old = self._fd
        self._adopt(new)
        self._close(old)
        return True

    def redirect(self, target: Target, wanted: Callable[[], bool]) -> SinkError | None:
        """Go over to another file; the old one gets what it still takes.

        A record that is written in part goes to the new file whole. `wanted` is asked at the last moment.
        Returns the error of closing the old file, if there was one: a file server may report only then what
        it could not store.
        """
        if target.path == self.path:
            if wanted():
                self.target = target
            return None
        new = open_to_append(target)
        if self._fd >= 0:
            with suppress(SinkError):
                self.write()
        if not wanted():
            os.close(new.fd)
            return None
        complaint = None
        if new.inode != self._inode:
            self._withdraw()
        try:
            self.close()
        except SinkError as error:
            complaint = error
        self.target = target
        self._adopt(new)
        return complaint

    def let_go(self, target: Target) -> None:
        """Close the file, whatever that brings up; `target` is what `open` will open."""
        self._drop()
        self.target = target

    def write(self) -> None:
        """Write what was left, then all that the queue holds now, in few pieces."""
        self._write_rest(len(self._rest))
        count = len(self.queue)
        while count:
            some, size = [], 0
            while count and size < PORTION:
                some.append(self.queue.popleft())
                size += len(some[-1])
                count -= 1
            self._rest = memoryview(b"".join(some))
            self._write_rest(len(self._rest))
        self._rest = _NOTHING

    def close(self) -> None:
        """Close the file, if it is open; a file server may report only now what it could not store."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._close(fd)

    def freeze(self) -> Frozen:
        """What is not written, from the beginning of a record that is written in part."""
        whole, at, start = self._record_begun()
        return {
            "unwritten": b"".join([whole[start:], *self.queue]),
            "offset": at - start,
            "inode": list(self._inode),
            "end": self._end,
        }

    def thaw(self, state: Frozen) -> None:
        """Go on with what `freeze` gave; a KeyError, TypeError or ValueError where it is none of that."""
        unwritten, offset = memoryview(state["unwritten"]), int(state["offset"])
        if not 0 <= offset <= len(unwritten):
            raise ValueError(f"{counted(offset, 'byte')} of {len(unwritten)} can't be written")
        self._rest = unwritten[offset:]
        self._within_record = offset > 0
        device, inode = state["inode"]
        self._inode = (int(device), int(inode))
        self._end = int(state.get("end", -1))

    @property
    def unwritten(self) -> int:
        """In bytes."""
        return len(self._rest) + sum(map(len, self.queue))

    def unwritten_lines(self) -> int:
        """In lines; a record that is written in part counts as unwritten."""
        return bytes(self._rest).count(b"\n") + sum(data.count(b"\n") for data in tuple(self.queue))

    def _write_rest(self, size: int) -> None:
        """Write the first `size` bytes of `_rest`, after the beginning of their record if that is gone."""
        try:
            if self._within_record:
                size += self._rewind_if_gone()
            while self._repair:
                self._repair = self._repair[self.write_some(self._repair) :]
            while size:
                count = self.write_some(self._rest[:size])
                self._within_record = self._rest[count - 1] != ord("\n")
                self._rest = self._rest[count:]
                self.written += count
                size -= count
        except OSError as error:
            self._end = self._size() if self._within_record else -1
            if error.errno not in _NO_ROOM:
                self._drop()
            raise problem(self.path, error) from None

    def write_some(self, data: bytes | memoryview) -> int:
        """Write the beginning of `data`, in one call of write(2); how many bytes. Waits for a full FIFO."""
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
        whole = cast("bytes", self._rest.obj)
        at = len(whole) - len(self._rest)
        return whole, at, whole.rfind(b"\n", 0, at) + 1 if self._within_record else at

    def _rewind_if_gone(self) -> int:
        """As `_rewind`, where the open file doesn't end any more with the part of the record that it got."""
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size == self._end:
            return 0
        self._end_torn_line(Opened(self._fd, found, self._shared))
        return self._rewind()

    def _rewind(self) -> int:
        """The record that is written in part is to be written whole; how many bytes more that is."""
        whole, at, start = self._record_begun()
        self._rest = memoryview(whole)[start:]
        self._within_record = False
        self.written -= at - start
        return at - start

    def _withdraw(self) -> None:
        """Take back the part of a record that the file ends with, where it is a file and all our own."""
        if not self._within_record or self._shared or self._fd < 0:
            return
        _, at, start = self._record_begun()
        with suppress(OSError):
            if self._end >= 0 and self._size() == self._end:
                os.ftruncate(self._fd, self._end - (at - start))
                self._rewind()

    def _size(self) -> int:
        """Of the open file; -1 where it has none, or can't be asked."""
        with suppress(OSError):
            found = os.fstat(self._fd)
            if stat.S_ISREG(found.st_mode):
                return found.st_size
        return -1

    def _adopt(self, opened: Opened) -> None:
        if self._within_record:
            # An inode's number may be given to the file that takes a deleted one's place; so its size counts
            # too. A FIFO that was closed has, if anybody, a new reader.
            same = opened.inode == self._inode
            regular = stat.S_ISREG(opened.found.st_mode)
            if not (same and (opened.shared or (regular and opened.found.st_size == self._end))):
                self._rewind()
        if not self._within_record:
            self._end_torn_line(opened)
        self._fd, self._inode, self._shared = opened.fd, opened.inode, opened.shared

    def _end_torn_line(self, opened: Opened) -> None:
        """Have a torn line at the file's end be ended before anything else is written."""
        self._repair = self.target.repair() if is_torn(self.path, opened) else b""

    def _drop(self) -> None:
        self._withdraw()
        with suppress(SinkError):
            self.close()

    def _close(self, fd: int) -> None:
        try:
            os.close(fd)
        except OSError as error:
            raise problem(self.path, error) from None
