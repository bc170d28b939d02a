"""Unix sockets, stream and datagram, whose files have the right owner and mode from the start."""

import array
import errno
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sockd.base import paths
from sockd.base.account import Account, acting_uid, give_pinned, making_for
from sockd.base.addresses import Address, Kind
from sockd.base.way import PreparedError
from sockd.transports.sockets.inet import OpenError, explain
from sockd.transports.sockets.options import SocketOptions

_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid
_PEERGROUPS = 59  # SO_PEERGROUPS (Linux 4.13), which Python's socket module doesn't name
_REPLACED = "somebody else has replaced the socket's file: choose a directory that only sockd may write to"
_KEPT = "others may replace the socket's file, so that root gives it to nobody: choose root's own directory"
_NOT_ALONE = "others may replace the socket's file, so that root changes it only by a restart"
_GROUPS_SIZE = 1024  # bytes that Python's getsockopt takes; of a peer in more than 256 groups only one counts


@dataclass(frozen=True)
class SocketFile:
    """The file of a socket that we bound; it is not mistaken for a later file of the same name."""

    path: str
    device: int
    inode: int

    @classmethod
    def of(cls, path: str) -> "SocketFile":
        return cls.named(path, os.lstat(path))

    @classmethod
    def named(cls, path: str, status: os.stat_result) -> "SocketFile":
        return cls(path, status.st_dev, status.st_ino)

    def there(self) -> bool:
        """Whether the path still leads to our socket."""
        try:
            return SocketFile.of(self.path) == self
        except OSError:
            return False

    def is_of(self, status: os.stat_result) -> bool:
        """Whether this is the status of our file."""
        return (status.st_dev, status.st_ino) == (self.device, self.inode)

    def remove(self) -> None:
        """Remove it if it is still ours; OSError where that isn't allowed."""
        paths.remove(Path(self.path), self.is_of)

    def change(self, uid: int | None, gid: int | None, mode: int | None) -> None:
        """Give the file to others, and set its mode (None: as it is), if it is still ours.

        PermissionError for root where another user may have replaced it: then nobody knows whose it is.
        """
        pinned = _pinned(self.path)
        try:
            status = os.fstat(pinned)
            wanted = _differing(status, uid, gid, mode)
            ours = self.is_of(status) and stat.S_ISSOCK(status.st_mode)
            if not ours or wanted == _NOTHING:
                return
            if not paths.is_roots_alone(self.path):
                raise PermissionError(errno.EPERM, _NOT_ALONE)
            _give(pinned, *wanted)
        finally:
            os.close(pinned)


def _pinned(path: str) -> int:
    """A descriptor of what has the path now, a link itself, which holds whatever becomes of the path."""
    return os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)


def _differing(
    status: os.stat_result, uid: int | None, gid: int | None, mode: int | None
) -> tuple[int, int, int | None]:
    """What is to be given to a file that has this status: -1, and None for the mode, where it stays."""
    return (
        -1 if uid is None or uid == status.st_uid else uid,
        -1 if gid is None or gid == status.st_gid else gid,
        None if mode == stat.S_IMODE(status.st_mode) else mode,
    )


_NOTHING = (-1, -1, None)


def _give(pinned: int, uid: int, gid: int, mode: int | None) -> None:
    if (uid, gid) != (-1, -1):
        give_pinned(pinned, uid, gid)
    if mode is not None:
        try:
            os.chmod(f"/proc/self/fd/{pinned}", mode)  # by this name the kernel finds what is pinned
        except FileNotFoundError:
            raise OSError(
                errno.ENOSYS, "a socket's mode can't be changed where /proc isn't mounted"
            ) from None


class PathTakenError(OpenError):
    """Another program has the socket at a path open."""


def open_unix(
    address: Address, options: SocketOptions, user: Account | None = None
) -> tuple[socket.socket, SocketFile | None]:
    """A bound socket (stream ones listen) and its file, which abstract ones don't have.

    A stale file is replaced. OpenError where another program answers there, where something else has the
    name, and where the kernel refuses. `user` is the one that the daemon, while it is root, is going to be.
    """
    kind = socket.SOCK_STREAM if address.kind is Kind.UNIX else socket.SOCK_DGRAM
    try:
        sock = socket.socket(socket.AF_UNIX, kind)
    except OSError as error:  # descriptors or memory ran out
        raise OpenError(reason_for(error, address)) from error
    try:
        sock.setblocking(False)
        if kind == socket.SOCK_DGRAM:
            ask_for_credentials(sock)
        file = None
        if address.path.startswith("@"):
            sock.bind("\0" + address.path[1:])
        else:
            file = _make_file(sock, address, options, user)
        if kind == socket.SOCK_STREAM:
            sock.listen(options.backlog)
    except OSError as error:
        sock.close()
        raise OpenError(reason_for(error, address)) from error
    except BaseException:
        sock.close()
        raise
    return sock, file


def ask_for_credentials(sock: socket.socket) -> None:
    """Have the kernel say who sent a datagram; and let a datagram of any size be sent back."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**30)  # the kernel cuts this to its maximum


def _make_room(address: Address, kind: int) -> None:
    """Remove a socket file that no program listens on any more."""
    try:
        status = os.lstat(address.path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise OpenError(
            "there is something at this path that is not a socket: remove it, or choose another path"
        )
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        refused = probe.connect_ex(address.path)
    if refused == errno.EACCES:
        raise OpenError(
            "there is a socket at this path that sockd may not connect to: remove it, or choose another path"
        )
    if refused not in (errno.ECONNREFUSED, errno.ENOENT):
        # Success, EAGAIN (a full backlog), EPROTOTYPE (the other kind of socket): a program has it open.
        raise PathTakenError("another program answers at this path: stop it, or choose another path")
    os.unlink(address.path)


def _make_file(
    sock: socket.socket, address: Address, options: SocketOptions, user: Account | None
) -> SocketFile:
    """Bind the socket to its path, where nobody else's file is touched, whatever others do to the path."""
    path = address.path
    with paths.hands(Path(path), user) as maker:
        _make_room(address, sock.type)
        # It is made with its mode and group: what is set by the path afterwards may be set of another file.
        with _umask(0o777 & ~options.mode), making_for(options.group):
            sock.bind(path)
        pinned = _pinned(path)
    try:
        status = os.fstat(pinned)
        if not stat.S_ISSOCK(status.st_mode) or status.st_nlink != 1:
            raise OpenError(_REPLACED)
        file = SocketFile.named(path, status)
        try:
            gives = paths.is_roots_alone(path) if maker is None else maker == user
            _settle(pinned, status, options, maker, gives=gives)
        except PermissionError:
            paths.remove(Path(path), file.is_of, user)
            raise OpenError("no right to give the socket this user or group") from None
        except (OSError, OpenError):
            paths.remove(Path(path), file.is_of, user)
            raise
    finally:
        os.close(pinned)
    return file


def _settle(
    fd: int, status: os.stat_result, options: SocketOptions, maker: Account | None, *, gives: bool
) -> None:
    """Set what the file could not be made with: another owner, a group that only chown(2) gives, a mode.

    Root `gives` only what nobody can have put in the place of our file, or nobody but the user who made it,
    which is the daemon's: that one controls the socket anyway.
    """
    wanted = _differing(status, options.user, options.group, options.mode)
    if wanted == _NOTHING:
        return
    if status.st_uid != (acting_uid() if maker is None else maker.uid):
        raise OpenError(_REPLACED)
    if not gives:
        raise OpenError(_KEPT)
    _give(fd, *wanted)


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def reason_for(error: OSError, address: Address) -> str:
    """Why the socket of this address can't be opened, in words that say what is missing."""
    directory = os.path.dirname(address.path)
    if isinstance(error, PreparedError):
        return str(error.strerror)
    if error.errno == errno.ENOENT:
        return f"there is no directory {directory}"
    if error.errno == errno.EACCES:
        return f"no right to write to {directory}"
    return explain(error, address)


def credentials(sock: socket.socket) -> tuple[int, int]:
    """uid and pid of the process that connected (SO_PEERCRED, unix(7))."""
    pid, uid, _ = _CREDENTIALS.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    return uid, pid


def groups_of(sock: socket.socket) -> frozenset[int]:
    """The gids of the process that connected, the supplementary ones too (SO_PEERGROUPS, socket(7))."""
    _, _, gid = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    groups = array.array("I")
    with suppress(OSError):  # ERANGE: too many of them; ENOPROTOOPT: an old kernel
        groups.frombytes(sock.getsockopt(socket.SOL_SOCKET, _PEERGROUPS, _GROUPS_SIZE))
    return frozenset((gid, *groups))


def sent_credentials(ancillary: bytes) -> tuple[int, int, int]:
    """uid, pid and gid of a datagram's sender, from its SCM_CREDENTIALS."""
    pid, uid, gid = _CREDENTIALS.unpack_from(ancillary)
    return uid, pid, gid
