"""Opens the file that records are appended to."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sockd.base import descriptors, paths
from sockd.base.errors import SockdError

_FLAGS = os.O_WRONLY | os.O_NONBLOCK
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


def open_to_append(target: Target) -> Opened:
    """Open the file, or make it; SinkError where that can't be."""
    try:
        fd, _, shared = descriptors.take(lambda: paths.open_to_append(target.path, _FLAGS, target.mode))
        found = os.fstat(fd)
    except OSError as error:
        raise problem(target.path, error) from None
    # A descriptor that the process had may be a socket too, as systemd's standard output is.
    if shared or any(is_kind(found.st_mode) for is_kind in _KINDS):
        return Opened(fd, found, shared)
    os.close(fd)
    raise SinkError(f"{target.path}: is neither a file nor a FIFO")


def is_torn(path: Path, opened: Opened) -> bool:
    """Whether the last line has no end, as a crash leaves it; False where that can't be found out."""
    if opened.shared or not stat.S_ISREG(opened.found.st_mode) or not opened.found.st_size:
        return False
    try:
        fd = paths.reopen_to_read(path, opened.fd)
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
    if error.errno == errno.ENOENT and not (end := Path(os.path.realpath(path))).parent.is_dir():
        parent = end.parent if path.parent.is_dir() else path.parent
        return SinkError(f"{path}: the directory {parent} does not exist")
    if error.errno == errno.ENXIO:
        return SinkError(f"{path}: no program reads from this FIFO (or it is a socket)")
    return SinkError(f"{path}: {error.strerror}")
