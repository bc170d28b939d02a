"""A user as the kernel knows one, and how to act with no more rights than that user's for a moment."""

import errno
import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sockd.base.users import user_name

_UNCHANGED = 2**32 - 1  # (uid_t) -1: setfsuid(2) then changes nothing, and answers with the present one

_EMPTY_PATH = 0x1000  # AT_EMPTY_PATH (linux/fcntl.h)


@dataclass(frozen=True)
class Account:
    """A user, its group, and the supplementary groups that the system's group file gives it."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    @classmethod
    def of(cls, uid: int, gid: int | None = None) -> "Account":
        """As twistd's --uid and --gid make it; KeyError where no group is named and nobody has this uid."""
        try:
            found = pwd.getpwuid(uid)
        except KeyError:
            if gid is None:
                raise
            return cls(uid, gid, (gid,))
        gid = found.pw_gid if gid is None else gid
        return cls(uid, gid, tuple(os.getgrouplist(found.pw_name, gid)))

    @property
    def name(self) -> str:
        """As people call it; the number where it has no name."""
        return user_name(self.uid) or str(self.uid)

    @contextmanager
    def acting(self) -> Iterator[None]:
        """A context in which files are reached with this user's rights; what is made belongs to it.

        Only the calling thread's rights change, with its fsuid and fsgid (setfsuid(2)), so that others of a
        root process go on undisturbed. PermissionError where this process can't act for others.
        """
        groups, gid, uid = os.getgroups(), setfs("gid")(_UNCHANGED), acting_uid()
        os.setgroups(self.groups)
        try:
            setfs("gid")(self.gid)
            setfs("uid")(self.uid)
            if acting_uid() != self.uid:  # setfsuid(2) reports no errors
                raise PermissionError(errno.EPERM, f"this process can't act as the user {self.uid}")
            yield
        finally:
            setfs("uid")(uid)
            setfs("gid")(gid)
            os.setgroups(groups)


@contextmanager
def making_for(gid: int | None) -> Iterator[None]:
    """A context in which files are made with this group, if this thread may choose it (None: its own)."""
    before = setfs("gid")(_UNCHANGED)
    if gid is not None:
        setfs("gid")(gid)  # refused silently, which leaves the group as it is
    try:
        yield
    finally:
        setfs("gid")(before)


def acting_uid() -> int:
    """The uid by which the kernel decides what this thread may do with files: mostly the effective one."""
    found = setfs("uid")(_UNCHANGED)
    return os.geteuid() if found == _UNCHANGED else found  # a sandbox refuses to say


def give_pinned(fd: int, uid: int, gid: int) -> None:
    """As chown(2), for what an O_PATH descriptor stands for; needs no /proc."""
    import ctypes  # noqa: PLC0415

    library = ctypes.CDLL(None, use_errno=True)
    if library.fchownat(
        fd, b"", ctypes.c_uint(uid & _UNCHANGED), ctypes.c_uint(gid & _UNCHANGED), _EMPTY_PATH
    ):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@cache
def setfs(what: str) -> Callable[[int], int]:
    """setfsuid(2) or setfsgid(2) of the C library; each returns what was set before."""
    import ctypes  # noqa: PLC0415 - `sockd status` does without

    function: Any = getattr(ctypes.CDLL(None), f"setfs{what}")  # Any: ctypes knows no signatures
    function.argtypes = (ctypes.c_uint,)
    function.restype = ctypes.c_uint
    call: Callable[[int], int] = function
    return call


def acts_as_root() -> bool:
    """Whether this thread reaches files that others' rights don't reach.

    Not in a user namespace that knows one user alone, as `unshare -r` makes: there are no others.
    """
    if acting_uid() != 0:
        return False
    try:
        mapped = Path("/proc/self/uid_map").read_text("ascii").split()
    except OSError:
        return True
    return mapped[2:] != ["1"]
