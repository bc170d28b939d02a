"""Descriptors that no peer of an endpoint can take: the soft limit is that much below the hard one."""

import errno
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import TypeVar

# For all connections of the control socket, and for each file of the log's, line-log's or the configuration's
# that is opened anew.
MOST = 40

T = TypeVar("T")

_lock = Lock()
_inside = 0  # how many are beyond the soft limit now, in any thread
_soft = 0  # what it was before


def kept(hard: int) -> int:
    """How many are kept back of so many: no more than an eighth."""
    return min(MOST, hard // 8)


def limit() -> int:
    """How many descriptors the process may have, all in all: the hard limit."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def keep() -> None:
    """Raise the soft limit, which is for programs that use select(2), to just below the hard one."""
    hard = limit()
    _set(hard - kept(hard), hard)


def lent() -> bool:
    """Whether somebody, in another thread perhaps, is `beyond` now: peers are to wait until it is over."""
    return _inside > 0


@contextmanager
def beyond() -> Iterator[None]:
    """Meanwhile those that are kept back can be had as well."""
    global _inside, _soft  # noqa: PLW0603 - the limit is the process'
    with _lock:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
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
    """What `opening` gives; where descriptors have run out, with one of those that are kept back."""
    try:
        return opening()
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
    with beyond():
        return opening()


def _set(soft: int, hard: int) -> None:
    with suppress(OSError, ValueError):  # then it stays as it is
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
