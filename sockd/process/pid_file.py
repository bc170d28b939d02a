"""The file that holds the daemon's pid, and says by a lock whether the daemon lives.

A pid alone proves nothing: after a crash the file stays, and its number may be another program's by then, or
our own, as in a container where each start is process 1. So the daemon keeps the file open with a lock on it
(an open file description lock, fcntl(2)), which ends with the daemon however that ends. Only those who may
write to the file can hold such a lock. It survives the fork of daemonizing, and the exec of an upgrade.

A daemon without the lock (one of twistd's other services, or an older sockd) is recognised by its process:
it is a twistd or a sockd, and older than the file.
"""

import errno
import fcntl
import os
import re
import stat
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sockd.base import paths
from sockd.base.account import Account
from sockd.base.errors import SockdError

_LOCK = struct.Struct("hhqqi4x")  # struct flock: type, whence, start, length (0: to the end), pid
_SIZE_LIMIT = 32  # bytes: a longer file holds something else
_CLOCK_SLACK = (
    2.0  # seconds by which the file's time and the process's may differ though they belong together
)
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class PidFileError(SockdError):
    """There can be no daemon with this pid file."""


@dataclass(frozen=True)
class PidFile:
    """The file, open and locked while this exists."""

    path: Path
    fd: int

    @classmethod
    def take(cls, path: Path, mode: int, user: Account | None) -> "PidFile":
        """Make it, still empty, in the place of one that a daemon which ended has left behind.

        `user` is the one that the daemon, while it is root, is going to be. PidFileError where a daemon has
        the file, and where something else is at the path, or can't be made there.
        """
        try:
            with paths.hands(path, user):
                _remove_stale(path)
                fd = os.open(path, _FLAGS | os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        except OSError as error:
            raise PidFileError(f"the pid file {path} can't be made: {error.strerror}") from None
        with suppress(OSError):  # some file systems have no modes
            os.fchmod(fd, mode)
        _lock(fd)
        return cls(path, fd)

    @classmethod
    def inherited(cls, path: Path, fd: int | None) -> "PidFile | None":
        """That of the program before in this process; None where it is gone.

        `fd` is its descriptor, if that program had it open: then the lock goes on.
        """
        try:
            if fd is None:
                fd = os.open(path, _FLAGS | os.O_RDWR)
                _lock(fd)
            os.set_inheritable(fd, False)
        except OSError:
            return None
        return cls(path, fd)

    def write(self) -> None:
        """Say which process the daemon is."""
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, b"%d" % os.getpid(), 0)

    def remove(self) -> None:
        """Empty, remove and close the file; one that has taken its name since stays.

        Where only root may remove it, it is at least empty: nobody signals a process by it.
        """
        ours = os.fstat(self.fd)
        with suppress(OSError):
            os.ftruncate(self.fd, 0)
        with suppress(OSError):
            paths.remove(self.path, lambda status: os.path.samestat(status, ours))
        os.close(self.fd)


def _remove_stale(path: Path) -> None:
    try:
        fd = _open(path)
    except FileNotFoundError:
        return
    try:
        status = os.fstat(fd)
        pid = _pid(path, fd, status)
        if not _lock(fd) or (pid is not None and runs(pid, status.st_mtime)):
            raise PidFileError(
                f"a daemon runs already, as process {pid} ({path}): stop it, or name another --pidfile"
            )
        os.unlink(path)
    finally:
        os.close(fd)


def _open(path: Path) -> int:
    try:
        return os.open(path, _FLAGS | os.O_RDWR)
    except PermissionError:
        return os.open(path, _FLAGS | os.O_RDONLY)
    except OSError as error:
        why = {
            errno.ELOOP: "it is a link",
            errno.EISDIR: "it is a directory",
            errno.ENXIO: "it is a FIFO or a socket",
        }
        if error.errno in why:
            raise OSError(error.errno, f"{why[error.errno]}, which sockd leaves alone") from None
        raise


def _pid(path: Path, fd: int, status: os.stat_result) -> int | None:
    """The number that the file holds; None: it is empty, as a crash may leave it."""
    text = os.pread(fd, _SIZE_LIMIT + 1, 0) if stat.S_ISREG(status.st_mode) else b"none"
    if not text.strip(b"\0 \t\r\n"):
        return None
    if len(text) > _SIZE_LIMIT or not re.fullmatch(rb"\s*[0-9]+\s*", text):
        raise PidFileError(f"the pid file {path} holds something else than a pid: remove it, or name another")
    return int(text)


def _lock(fd: int) -> bool:
    """Lock the file; False: another process has locked it. Where there are no locks it stays as it is."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        if error.errno == errno.EBADF:  # it may only be read: somebody may hold it all the same
            return not _locked(fd)
    return True


def _locked(fd: int) -> bool:
    found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    return bool(_LOCK.unpack(found)[0] != fcntl.F_UNLCK)


def runs(pid: int, written: float, proc: Path = Path("/proc")) -> bool:
    """Whether the process that wrote its pid to a file, then (seconds since 1970), is a daemon that lives."""
    if pid in (0, os.getpid()):
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    try:
        command = (proc / str(pid) / "cmdline").read_bytes()
        # The 22nd field, counted from behind the name, which may have blanks and brackets (proc(5)).
        began = int((proc / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()[19])
    except FileNotFoundError:
        return not proc.joinpath("self").exists()  # /proc isn't mounted: then the pid is all there is
    except (OSError, ValueError, IndexError):
        return True
    if not {os.path.basename(word) for word in command.split(b"\0")} & {b"twistd", b"sockd"}:
        return False
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - began / os.sysconf("SC_CLK_TCK")
    return time.time() - age <= written + _CLOCK_SLACK
