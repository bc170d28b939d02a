"""Opens, makes and removes files at paths that a lesser user may have prepared.

Whoever may write to a directory decides where every path through it leads: a name can become a link to
anything, at any moment, also between two system calls. A process that is root must not be led: it would open,
make or give away what that user has no right to. So root goes from directory to directory by their
descriptors (openat(2)), and looks at each: a directory is *root's alone* if it belongs to root and nobody
else may write to it; in a sticky one (like /tmp) that goes for root's own entries. Through directories that
are root's alone all paths hold, links included, since only root can have made them. From the first other
directory on no link is followed, and nothing is opened that has a second name (a hard link) elsewhere.

Where only a path will do, as for bind(2), `hands` acts with the rights of the user who may lead the path:
then it leads nowhere that this user couldn't go alone.

A process that isn't root has no rights to lend, and takes paths as the kernel does.
"""

import errno
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from sockd.base.account import Account, acts_as_root
from sockd.base.errors import SockdError

_LINKS_FOLLOWED = 40  # as many as the kernel follows (path_resolution(7))
_TRIES = 10  # where what has the name changes under our eyes
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def absolute(path: str | Path) -> Path:
    """The path from the root; SockdError where it is relative to a directory that is gone."""
    try:
        return Path(path).absolute()
    except OSError as error:
        raise SockdError(
            f"{path} is relative to the current directory, which can't be found: {error.strerror}"
        ) from None


class PreparedError(PermissionError):
    """Somebody else could lead root there."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EPERM, why)


class Appendable(NamedTuple):
    """A file that is open for appending."""

    fd: int
    made: bool  # just now, by us
    shared: bool = False  # a copy of a descriptor that the process had


@dataclass
class _Step:
    """A directory on the way. `held`: nobody but root can put another in its place."""

    fd: int
    held: bool


@dataclass
class _Way:
    """Where a path leads: to the name `name` in the last of `steps`."""

    steps: list[_Step]
    name: str = ""
    found: os.stat_result | None = None  # what has the name, never a link
    alone: bool = False  # nobody but root can have put that there, or put anything else there
    leader: int = 0  # the user who may lead the path elsewhere, if it is one
    own: int | None = None  # the descriptor of ours that the path stands for
    link: str = ""  # at which the way ends, because another user may have made it
    links: int = field(default=0, repr=False)

    @property
    def directory(self) -> int:
        return self.steps[-1].fd

    @property
    def held(self) -> bool:
        """Whether nobody but root can lead the way to another directory."""
        return self.steps[-1].held and not self.link

    def check(self) -> None:
        """PreparedError where the way ends at a link."""
        if self.link:
            raise PreparedError(f"{self.link} is a link that another user than root may have made")


@contextmanager
def _way(path: Path) -> Iterator[_Way]:
    """The way that root takes; OSError as the kernel would have it."""
    way = _Way([_Step(os.open("/", _DIRECTORY), True)])
    try:
        _go(way, deque(_names(os.path.join("/", os.fspath(path)))))
        yield way
    finally:
        for step in way.steps:
            os.close(step.fd)


def _go(way: _Way, names: deque[str]) -> None:
    if not names:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    while names:
        name = names.popleft()
        if name == "..":
            if len(way.steps) > 1:
                os.close(way.steps.pop().fd)
            continue
        here = way.steps[-1]
        if _is_own_descriptor(name, here.fd):
            way.own = int(name)
            return
        found = _found(name, here.fd)
        directory = os.fstat(here.fd)
        alone = here.held and _roots_alone(directory, found)
        if here.held and not alone and not way.leader:
            way.leader = directory.st_uid or (found.st_uid if found is not None else 0)
        if found is not None and stat.S_ISLNK(found.st_mode):
            if not alone:
                way.link = name
                return
            _follow(way, name, names)
        elif names:
            if found is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            way.steps.append(_Step(os.open(name, _DIRECTORY, dir_fd=here.fd), alone))
        else:
            way.name, way.found, way.alone = name, found, alone


def _is_own_descriptor(name: str, directory: int) -> bool:
    if not (name.isascii() and name.isdigit()):
        return False
    try:
        return os.path.samestat(os.fstat(directory), os.stat("/proc/self/fd"))
    except FileNotFoundError:  # /proc isn't mounted
        return False


def _found(name: str, directory: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _follow(way: _Way, name: str, names: deque[str]) -> None:
    way.links += 1
    if way.links > _LINKS_FOLLOWED:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    target = os.readlink(name, dir_fd=way.steps[-1].fd)
    if target.startswith("/"):
        while len(way.steps) > 1:
            os.close(way.steps.pop().fd)
    names.extendleft(reversed(list(_names(target))))


def _names(path: str) -> Iterator[str]:
    return (name for name in path.split("/") if name not in ("", "."))


def _roots_alone(directory: os.stat_result, entry: os.stat_result | None) -> bool:
    """Whether only root can have made this entry, or can replace it."""
    if directory.st_uid != 0:
        return False
    if not directory.st_mode & _OTHERS_WRITE:
        return True
    return bool(directory.st_mode & stat.S_ISVTX) and (entry is None or entry.st_uid == 0)


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
    with _way(path) as way:
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
    with _way(Path(path)) as way:
        return way.alone


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
    with _way(path) as way:
        way.check()
        if way.own is None:
            return _open_or_make(way, flags, mode)
    # Only now: while the way was open, its descriptors could have had this very number.
    return Appendable(os.dup(way.own), made=False, shared=True)


def _open_or_make(way: _Way, flags: int, mode: int) -> Appendable:
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
    for _ in range(_LINKS_FOLLOWED):
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
    with _way(path) as way:
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
