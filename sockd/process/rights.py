"""The rights that the process has, as far as a daemon needs to know."""

import os
import pwd
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sockd.base import descriptors
from sockd.base.addresses import Address
from sockd.base.errors import FileWrongError
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
    def ours(cls, proc: Path = Path("/proc")) -> "Rights":
        """As they are now; what can't be found out is taken to be as usual."""
        found = re.search(r"^CapEff:\s*([0-9a-f]+)$", _text(proc / "self/status"), re.MULTILINE)
        capabilities = int(found[1], 16) if found else -1 if os.geteuid() == 0 else 0
        first = _text(proc / "sys/net/ipv4/ip_unprivileged_port_start").strip()
        return cls(
            os.geteuid(),
            frozenset((os.getegid(), *os.getgroups())),
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


def _text(path: Path) -> str:
    try:
        return descriptors.take(path.read_text)
    except OSError:
        return ""


def is_root() -> bool:
    """Whether this process is root or can become root again, other than in a user namespace of its own."""
    if 0 not in os.getresuid():
        return False
    try:
        inside, outside, _ = Path("/proc/self/uid_map").read_text("ascii").split()[:3]
    except (OSError, ValueError):
        return True
    return (inside, outside) == ("0", "0")


def refusal_as(uid: int | None, gid: int | None, euid: bool, read: Callable[[], object]) -> tuple[str, ...]:
    """Why the daemon can't go on as the user that twistd will make it, in lines; empty where it can.

    A child process becomes that user, in twistd's way, and tries to `read` what a reload will.
    """
    receiving, sending = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(receiving)
            said = "\n".join(_refusal_as(uid, gid, euid, read)).encode("utf-8", "backslashreplace")
            with open(sending, "wb") as pipe:
                pipe.write(said)
        finally:
            os._exit(0)
    os.close(sending)
    with open(receiving, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return tuple(said.decode().splitlines())


def _refusal_as(uid: int | None, gid: int | None, euid: bool, read: Callable[[], object]) -> Iterator[str]:
    from twisted.python.util import switchUID  # noqa: PLC0415 - `sockd status` does without Twisted

    who = f"the group {gid}"
    try:
        if uid is not None:
            account = pwd.getpwuid(uid)
            who = f"the user {account.pw_name}"
            gid = account.pw_gid if gid is None else gid
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is this user already
            switchUID(uid, gid, euid)
    except KeyError:
        yield f"--uid={uid}: there is no such user"
    except OSError as error:
        yield f"this process can't become {who} (--uid, --gid): {error.strerror}"
    else:
        try:
            read()
        except FileWrongError as error:
            yield from (f"{problem} (as {who}, which sockd is to become)" for problem in error.problems)
        except Exception as error:  # noqa: BLE001 - the parent waits for an answer, whatever it is
            yield f"{error} (as {who}, which sockd is to become)"
