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

from sockd.base.addresses import Address, Kind
from sockd.transports.sockets.inet import OpenError, explain
from sockd.transports.sockets.options import SocketOptions

_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid
_PEERGROUPS = 59  # SO_PEERGROUPS (Linux 4.13), which Python's socket module doesn't name
_GROUPS_SIZE = 1024  # bytes that Python's getsockopt takes; of a peer in more than 256 groups only one counts


@dataclass(frozen=True)
class SocketFile:
    """The file of a socket that we bound; it is not mistaken for a later file of the same name."""

    path: str
    device: int
    inode: int

    @classmethod
    def of(cls, path: str) -> "SocketFile":
        status = os.lstat(path)
        return cls(path, status.st_dev, status.st_ino)

    def there(self) -> bool:
        """Whether the path still leads to our socket."""
        try:
            return SocketFile.of(self.path) == self
        except OSError:
            return False

    def remove(self) -> None:
        """Remove it if it is still ours; OSError where that isn't allowed."""
        if self.there():
            os.unlink(self.path)


class PathTakenError(OpenError):
    """Another program has the socket at a path open."""


def open_unix(address: Address, options: SocketOptions) -> tuple[socket.socket, SocketFile | None]:
    """A bound socket (stream ones listen) and its file, which abstract ones don't have.

    A stale file is replaced. OpenError where another program answers there, where something else has the
    name, and where the kernel refuses.
    """
    kind = socket.SOCK_STREAM if address.kind is Kind.UNIX else socket.SOCK_DGRAM
    try:
        sock = socket.socket(socket.AF_UNIX, kind)
    except OSError as error:  # descriptors or memory ran out
        raise OpenError(_explain(error, address)) from error
    try:
        sock.setblocking(False)
        if kind == socket.SOCK_DGRAM:
            ask_for_credentials(sock)
        file = None
        if address.path.startswith("@"):
            sock.bind("\0" + address.path[1:])
        else:
            _make_room(address, kind)
            file = _bind(sock, address.path, options)
        if kind == socket.SOCK_STREAM:
            sock.listen(options.backlog)
    except OSError as error:
        sock.close()
        raise OpenError(_explain(error, address)) from error
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


def _bind(sock: socket.socket, path: str, options: SocketOptions) -> SocketFile:
    # Only we may connect until owner, group and mode are set.
    with _umask(0o177):
        sock.bind(path)
    file = SocketFile.of(path)
    try:
        if options.user is not None or options.group is not None:
            os.chown(
                path,
                -1 if options.user is None else options.user,
                -1 if options.group is None else options.group,
            )
        os.chmod(path, options.mode)
    except OSError:
        file.remove()
        raise
    return file


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _explain(error: OSError, address: Address) -> str:
    directory = os.path.dirname(address.path)
    if error.errno == errno.ENOENT:
        return f"there is no directory {directory}"
    if error.errno == errno.EACCES:
        return f"no right to write to {directory}"
    if error.errno == errno.EPERM:
        return "no right to give the socket this user or group"
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
