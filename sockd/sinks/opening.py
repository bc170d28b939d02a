"""Opens the file that records are appended to."""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from sockd.base import descriptors
from sockd.base.errors import SockdError

_LINKS_FOLLOWED = 40  # as many as the kernel follows (path_resolution(7))
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_KINDS = (stat.S_ISREG, stat.S_ISFIFO, stat.S_ISCHR)


class SinkError(SockdError):
    """A file that can't be opened or written now."""


class Target(NamedTuple):
    """Which file to append to."""

    path: Path
    mode: int  # of the file, where it is created
    repair: Callable[[], bytes]  # what to write after a line that a crash has torn


class Opened(NamedTuple):
    """An open file."""

    fd: int
    found: os.stat_result
    shared: bool  # a copy of a descriptor that the process had: others write there as well

    @property
    def inode(self) -> tuple[int, int]:
        return self.found.st_dev, self.found.st_ino


def own_descriptor(path: Path) -> int | None:
    """The number behind `/dev/stdout`, `/dev/fd/3`, `/proc/self/fd/3` or a link to one of these; else None.

    Opening such a path anew would give a place of its own in the file, so that two programs which append to
    the same redirected output overwrite each other's lines; and the user may not be allowed to open it.
    """
    ours = f"/proc/{os.getpid()}/fd"
    name = str(path)
    for _ in range(_LINKS_FOLLOWED):
        directory, _, last = name.rpartition("/")
        if os.path.realpath(directory or "/") == ours and last.isascii() and last.isdigit():
            return int(last)
        try:
            name = os.path.join(directory, os.readlink(name))
        except OSError:
            return None
    return None


def open_to_append(target: Target) -> Opened:
    """Open the file, or make it; SinkError where that can't be."""
    ours = own_descriptor(target.path)
    try:
        fd = descriptors.take(lambda: _created_or_found(target)) if ours is None else os.dup(ours)
        found = os.fstat(fd)
    except OSError as error:
        raise problem(target.path, error) from None
    # A descriptor that the process had may be a socket too, as systemd's standard output is.
    if ours is not None or any(is_kind(found.st_mode) for is_kind in _KINDS):
        return Opened(fd, found, ours is not None)
    os.close(fd)
    raise SinkError(f"{target.path}: is neither a file nor a FIFO")


def _created_or_found(target: Target) -> int:
    try:
        fd = os.open(target.path, _FLAGS | os.O_CREAT | os.O_EXCL, target.mode)
    except FileExistsError:
        return os.open(target.path, _FLAGS)
    with suppress(OSError):  # some file systems have no modes; never looser than what was asked for
        os.fchmod(fd, target.mode)  # gives back what the umask took
    return fd


def is_torn(path: Path, opened: Opened) -> bool:
    """Whether the last line has no end, as a crash leaves it; False where that can't be found out."""
    if opened.shared or not stat.S_ISREG(opened.found.st_mode) or not opened.found.st_size:
        return False
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:  # it may be written, but not read
        return False
    try:
        return os.pread(fd, 1, opened.found.st_size - 1) not in (b"\n", b"")
    except OSError:
        return False
    finally:
        os.close(fd)


def problem(path: Path, error: OSError) -> SinkError:
    """The error in words for people."""
    if error.errno == errno.ENOENT and not path.parent.is_dir():
        return SinkError(f"{path}: the directory {path.parent} does not exist")
    if error.errno == errno.ENXIO:
        return SinkError(f"{path}: no program reads from this FIFO (or it is a socket)")
    return SinkError(f"{path}: {error.strerror}")
