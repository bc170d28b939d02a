"""Opens, makes and removes files at paths that a lesser user may have prepared.

A process that is root must not be led by such a path: it would open, make or give away what the user has no
right to. Root goes the way that `way.py` describes, follows no link that another user may have made, and
opens no file of another user's directory that has a second name (a hard link) elsewhere.

Where only a path will do, as for bind(2), `hands` acts with the rights of the user who may lead the path:
then it leads nowhere that this user couldn't go alone.

A process that isn't root has no rights to lend, and takes paths as the kernel does.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from sockd.base.account import Account, acts_as_root
from sockd.base.errors import SockdError
from sockd.base.way import LINKS_FOLLOWED, PreparedError, Way, way_to

_TRIES = 10  # where what has the name changes under our eyes


def absolute(path: str | Path) -> Path:
    """The path from the root; SockdError where it is relative to a directory that is gone."""
    try:
        return Path(path).absolute()
    except OSError as error:
        raise SockdError(
            f"{path} is relative to the current directory, which can't be found: {error.strerror}"
        ) from None


class Appendable(NamedTuple):
    """A file that is open for appending."""

    fd: int
    made: bool  # just now, by us
    shared: bool = False  # a copy of a descriptor that the process had


@contextmanager
def hands(path: Path, user: Account | None) -> Iterator[Account | None]:
    """A context for calls that take the path itself: with the rights of the user who may lead it.

    That is `user`, as which the daemon is going to run, wherever that one, or anybody else, may lead the
    path. Without it, it is the owner of the directory. The context is None where root, or a process that
    isn't root, acts with its own rights. PreparedError: nobody's rights would do.
    """
    account = _leader(path, user) if acts_as_root() else None
    if account is None:
        yield None
        return
    with account.acting():
        yield account


def _leader(path: Path, user: Account | None) -> Account | None:
    with way_to(path) as way:
        if way.alone or way.own is not None or (way.held and user is None):
            return None
        if user is not None:
            return user
        if way.leader == 0:
            raise PreparedError("others than root may write to a directory on the way to it")
        try:
            return Account.of(way.leader)
        except KeyError:
            return Account.of(way.leader, os.fstat(way.directory).st_gid)


def is_roots_alone(path: str) -> bool:
    """Whether nobody but root can have put there what has the path; True for a process that isn't root."""
    if not acts_as_root():
        return True
    with way_to(Path(path)) as way:
        return way.alone


def is_roots_own(path: Path) -> bool:
    """Whether nobody but root can have written what the file holds; True for a process that isn't root.

    A file that isn't there was written by nobody, unless another user may make it.
    """
    if not acts_as_root():
        return True
    try:
        with way_to(path) as way:
            found = way.found
            return way.alone and (
                found is None or (found.st_uid == 0 and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
            )
    except FileNotFoundError:
        return True


def open_to_append(path: Path, flags: int, mode: int) -> Appendable:
    """Open the file, through the last link too; where there is none, make it with exactly this mode."""
    flags |= os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY
    opened = _open_as_root if acts_as_root() else _open_plainly
    for _ in range(_TRIES):
        with suppress(FileExistsError):
            return opened(path, flags, mode)
    raise OSError(errno.EAGAIN, "what has this name changes all the time")


def _open_plainly(path: Path, flags: int, mode: int) -> Appendable:
    own = own_descriptor(path)
    if own is not None:
        return Appendable(os.dup(own), made=False, shared=True)
    try:
        return Appendable(os.open(path, flags), made=False)
    except FileNotFoundError:
        # There is nothing, or a link to nothing yet, at whose end the file is to be.
        return _made(os.path.realpath(path), flags, mode)


def _open_as_root(path: Path, flags: int, mode: int) -> Appendable:
    with way_to(path) as way:
        way.check()
        if way.own is None:
            return _open_or_make(way, flags, mode)
    # Only now: while the way was open, its descriptors could have had this very number.
    return Appendable(os.dup(way.own), made=False, shared=True)


def _open_or_make(way: Way, flags: int, mode: int) -> Appendable:
    if way.found is None:
        return _made(way.name, flags, mode, way.directory)
    try:
        fd = os.open(way.name, flags | os.O_NOFOLLOW, dir_fd=way.directory)
    except FileNotFoundError:
        raise FileExistsError from None  # it was there a moment ago: look again
    if not way.alone and os.fstat(fd).st_nlink > 1:
        os.close(fd)
        raise PreparedError("this file has a second name, and another user than root may have made this one")
    return Appendable(fd, made=False)


def _made(name: str, flags: int, mode: int, directory: int | None = None) -> Appendable:
    fd = os.open(name, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode, dir_fd=directory)
    with suppress(OSError):  # some file systems have no modes; never looser than what was asked for
        os.fchmod(fd, mode)  # gives back what the umask took
    return Appendable(fd, made=True)


def reopen_to_read(path: Path, fd: int) -> int:
    """A descriptor for reading the file that is open already, by this path, for writing."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    try:
        return os.open(f"/proc/self/fd/{fd}", flags)
    except FileNotFoundError:  # /proc isn't mounted, and the path may lead root elsewhere by now
        if acts_as_root():
            raise
        return os.open(path, flags)


def own_descriptor(path: Path) -> int | None:
    """The number behind `/dev/stdout`, `/dev/fd/3`, `/proc/self/fd/3` or a link to one of these; else None.

    Opening such a path anew would give a place of its own in the file, so that two programs which append to
    the same redirected output overwrite each other's lines; and the user may not be allowed to open it.
    """
    ours = f"/proc/{os.getpid()}/fd"
    name = str(path)
    for _ in range(LINKS_FOLLOWED):
        directory, _, last = name.rpartition("/")
        if os.path.realpath(directory or "/") == ours and last.isascii() and last.isdigit():
            return int(last)
        try:
            name = os.path.join(directory, os.readlink(name))
        except OSError:
            return None
    return None


def make_directory(path: Path, mode: int, user: Account | None) -> None:
    """Make it, and those above it that are missing, unless it is there; `user` is to own it."""
    if path.is_dir():
        return
    for one in (*reversed(path.parents), path):
        if not os.path.lexists(one):
            _make_one(one, mode, user, given=one == path)


def _make_one(path: Path, mode: int, user: Account | None, *, given: bool) -> None:
    if not acts_as_root():
        path.mkdir(mode)
        return
    with way_to(path) as way:
        if way.alone or user is None:
            way.check()
            os.mkdir(way.name, mode, dir_fd=way.directory)
            if given and user is not None:
                _give_directory(way.name, way.directory, user)
            return
    with user.acting():
        path.mkdir(mode)


def _give_directory(name: str, directory: int, user: Account) -> None:
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.fchown(fd, user.uid, user.gid)
    finally:
        os.close(fd)


def remove(path: Path, ours: Callable[[os.stat_result], bool], user: Account | None = None) -> None:
    """Remove the file if it is `ours`; OSError where that isn't allowed."""
    with hands(path, user), suppress(FileNotFoundError, NotADirectoryError):
        if ours(os.lstat(path)):
            os.unlink(path)
