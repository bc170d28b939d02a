"""The way that root takes to a file, directory by directory, so that nobody leads it elsewhere.

A user who may write to a directory decides where every path through it leads: a name can become a link to
anything, at any moment, also between two system calls. So root goes from directory to directory by their
descriptors (openat(2)), and looks at each. A directory is *root's alone* if it belongs to root and nobody
else may write to it; in a sticky one (like /tmp) that goes for root's own entries. Through directories that
are root's alone all paths hold, links included, since only root can have made them. From the first other
directory on, the way ends at a link.
"""

import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

LINKS_FOLLOWED = 40  # as many as the kernel follows (path_resolution(7))
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class PreparedError(PermissionError):
    """Somebody else could lead root there."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EPERM, why)


@dataclass
class _Step:
    """A directory on the way. `held`: nobody but root can put another in its place."""

    fd: int
    held: bool


@dataclass
class Way:
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
def way_to(path: Path) -> Iterator[Way]:
    """The way that root takes; OSError as the kernel would have it."""
    way = Way([_Step(os.open("/", _DIRECTORY), True)])
    try:
        _go(way, deque(_names(os.path.join("/", os.fspath(path)))))
        yield way
    finally:
        for step in way.steps:
            os.close(step.fd)


def _go(way: Way, names: deque[str]) -> None:
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


def _follow(way: Way, name: str, names: deque[str]) -> None:
    way.links += 1
    if way.links > LINKS_FOLLOWED:
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
