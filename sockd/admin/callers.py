"""Who asks on the control socket, and who may: what the kernel says of the peer of a Unix socket."""

import array
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass

_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid
_PEERGROUPS = 59  # SO_PEERGROUPS (Linux 4.13), which Python's socket module doesn't name
_MOST = 1024  # bytes that Python's getsockopt takes; of somebody in more than 256 groups one group counts


@dataclass(frozen=True, slots=True)
class Caller:
    """A process as it was when it connected."""

    uid: int
    pid: int
    groups: frozenset[int]

    @classmethod
    def of(cls, sock: socket.socket) -> "Caller":
        """From SO_PEERCRED and SO_PEERGROUPS (unix(7), socket(7))."""
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, gid = _CREDENTIALS.unpack(credentials)
        groups = array.array("I")
        with suppress(OSError):  # ERANGE: too many of them; ENOPROTOOPT: an old kernel
            groups.frombytes(sock.getsockopt(socket.SOL_SOCKET, _PEERGROUPS, _MOST))
        return cls(uid, pid, frozenset((gid, *groups)))


@dataclass(frozen=True, slots=True)
class Allowed:
    """Root, the daemon's own user, and the members of a group (None: of none)."""

    uid: int
    group: int | None

    def admits(self, caller: Caller) -> bool:
        return caller.uid in (0, self.uid) or self.group in caller.groups
