"""The rights that the process has, as far as a daemon needs to know."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sockd.base import descriptors
from sockd.base.addresses import Address
from sockd.process import proc
from sockd.transports.sockets.options import SocketOptions

_CHOWN, _NET_BIND_SERVICE = 1 << 0, 1 << 10  # capabilities(7), as their numbers in linux/capability.h
_FIRST_FREE_PORT = 1024  # by default, for those without CAP_NET_BIND_SERVICE (ip(7))


def _may_write(directory: str) -> bool:
    return os.access(directory, os.W_OK | os.X_OK, effective_ids=True)


@dataclass(frozen=True)
class Rights:
    """What decides whether an address could be opened again that was opened when there were more rights."""

    uid: int
    groups: frozenset[int]
    gives_away: bool  # files to any user and group
    first_port: int  # that may be bound
    may_write: Callable[[str], bool] = field(default=_may_write, compare=False)  # to a directory

    @classmethod
    def ours(cls, kernel: Path = Path("/proc")) -> "Rights":
        """As they are now; what can't be found out is taken to be as usual."""
        try:
            capabilities = int(proc.status("self", kernel)["CapEff"], 16)
        except (OSError, LookupError, ValueError):
            capabilities = -1 if os.geteuid() == 0 else 0
        first = _text(kernel / "sys/net/ipv4/ip_unprivileged_port_start").strip()
        return cls(
            os.geteuid(),
            frozenset((os.getegid(), *_groups())),
            bool(capabilities & _CHOWN),
            0 if capabilities & _NET_BIND_SERVICE else int(first) if first.isdecimal() else _FIRST_FREE_PORT,
        )

    def missing(self, address: Address, options: SocketOptions) -> str:
        """Why the address couldn't be opened again; "" where it could, as far as is known."""
        if address.kind.inet:
            low = 0 < address.port < self.first_port
            return f"ports below {self.first_port} need root or CAP_NET_BIND_SERVICE" if low else ""
        if not address.kind.local or address.abstract:
            return ""
        directory = os.path.dirname(address.path)
        if not self.may_write(directory):
            return f"no right to write to {directory}"
        other = options.user not in (None, self.uid) or options.group not in (None, *self.groups)
        return "no right to give the socket this user or group" if other and not self.gives_away else ""


def _groups() -> list[int]:
    try:
        return os.getgroups()
    except OSError:  # of a sandbox
        return []


def _text(path: Path) -> str:
    try:
        return descriptors.take(path.read_text)
    except OSError:
        return ""
