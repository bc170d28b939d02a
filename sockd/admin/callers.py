"""Who asks on the control socket, and who may: what the kernel says of the peer of a Unix socket."""

import socket
from dataclasses import dataclass

from sockd.transports.unix import credentials, groups_of


@dataclass(frozen=True, slots=True)
class Caller:
    """A process as it was when it connected."""

    uid: int
    pid: int
    groups: frozenset[int]

    @classmethod
    def of(cls, sock: socket.socket) -> "Caller":
        """From SO_PEERCRED and SO_PEERGROUPS (unix(7), socket(7))."""
        uid, pid = credentials(sock)
        return cls(uid, pid, groups_of(sock))


@dataclass(frozen=True, slots=True)
class Allowed:
    """Root, the daemon's own user, and the members of a group (None: of none)."""

    uid: int
    group: int | None

    def admits(self, caller: Caller) -> bool:
        return caller.uid in (0, self.uid) or self.group in caller.groups
