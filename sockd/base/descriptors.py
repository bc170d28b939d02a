"""Reserves file descriptors for sockd's own use: peers can take only those below the soft limit.

While sockd starts, it and Twisted may have all that the hard limit allows (`use_all`). Before the first peer
is accepted, the soft limit is set a little below the hard one (`reserve`). Where sockd itself needs a
descriptor that it can't get, to open the log again or to answer on the control socket, it raises the soft
limit for that moment. accept(2) for peers doesn't, so that a flood of them never takes the last descriptors.
"""

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import TypeVar

# Enough for the control socket's 32 connections, and a few files that are opened at the same time.
MAX_RESERVED = 40
LEAST = 32  # descriptors, with which sockd can run at all
_USUAL = 1024  # the soft limit of most systems

T = TypeVar("T")

_lock = Lock()
_inside = 0  # how many threads, or calls within them, use the reserved descriptors now
_soft = 0  # the soft limit without them


def open_standard() -> None:
    """Have /dev/null in the place of each standard stream that was closed when we were started.

    Otherwise what is opened next gets its number: then the log, which goes to 1, could reach a client.
    """
    with suppress(OSError):
        while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(fd, True)
        os.close(fd)


def reserved(hard: int) -> int:
    """How many are reserved where the hard limit is `hard`: an eighth at most."""
    return min(MAX_RESERVED, hard // 8)


def limit() -> int:
    """The hard limit: how many descriptors the process may have, the reserved ones included."""
    return _limits()[1]


def _limits() -> tuple[int, int]:
    """The soft and the hard one; where a sandbox forbids to ask, what is usual."""
    try:
        return resource.getrlimit(resource.RLIMIT_NOFILE)
    except OSError:
        return _USUAL, _USUAL


def use_all() -> None:
    """Raise the soft limit, which is low for the sake of select(2), to the hard one."""
    _set_soft(lambda hard: hard)


def reserve() -> None:
    """Set the soft limit so that just the reserved ones are left."""
    _set_soft(lambda hard: hard - reserved(hard))


def _set_soft(of_hard: Callable[[int], int]) -> None:
    global _soft  # noqa: PLW0603 - the limit is one for the process
    with _lock:
        hard = limit()
        _soft = of_hard(hard)
        if not _inside:
            _set(_soft, hard)


def lent() -> bool:
    """Whether a thread is `beyond` the soft limit now: peers wait until it has returned."""
    return _inside > 0


@contextmanager
def beyond() -> Iterator[None]:
    """A context in which the reserved descriptors can be had as well."""
    global _inside, _soft  # noqa: PLW0603 - the limit is one for the process
    with _lock:
        soft, hard = _limits()
        if not _inside:
            _soft = soft
            _set(hard, hard)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _set(_soft, hard)


def take(opening: Callable[[], T]) -> T:
    """The result of `opening`, which gets a reserved descriptor where it fails for want of one."""
    try:
        return opening()
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
    with beyond():
        return opening()


def _set(soft: int, hard: int) -> None:
    with suppress(OSError, ValueError):  # then the limit stays as it is
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
