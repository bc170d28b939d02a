"""Methods of objects that others wrote, which may lack them, raise when asked for one, or be `async def`.

What may return a Deferred may be `async def` too: Twisted's `maybeDeferred` calls it, and takes both. Of any
other method nobody would await the coroutine, and it would silently do nothing: that is refused.
"""

from collections.abc import Callable
from functools import lru_cache
from inspect import iscoroutine, iscoroutinefunction
from typing import Any, TypeVar

from sockd.base.errors import SockdError

# Classes of which is remembered what was found out: a module that is imported anew has new ones.
CLASSES_KEPT = 1000

T = TypeVar("T")


class NotAwaitedError(SockdError):
    """A protocol has `async def` where nobody would await it."""


# Any: what a third party's method takes and returns is between it and the contract.
def method_of(hosted: object, name: str) -> Callable[..., Any] | None:
    """The object's method of this name; None where it has none, or something that can't be called.

    A look-up runs code of the object's (`__getattr__`, properties), so what it raises is raised here: call
    this where the method's own exceptions are caught.
    """
    found = getattr(hosted, name, None)
    return found if callable(found) else None


def offers(hosted: object, name: str) -> bool:
    """Whether the object has a method of this name; not where asking for it raises."""
    try:
        return method_of(hosted, name) is not None
    except BaseException:  # noqa: BLE001
        return False


def awaited_nowhere(hosted: object, methods: tuple[str, ...]) -> None:
    """NotAwaitedError if one of these methods, whose results nobody awaits, is `async def`."""
    # mypy sees the `__hash__` of the class's objects in place of its own.
    _look_for_coroutines(type(hosted), methods)  # type: ignore[arg-type]


@lru_cache(maxsize=CLASSES_KEPT)
def _look_for_coroutines(kind: type, methods: tuple[str, ...]) -> None:
    for name in methods:
        if iscoroutinefunction(getattr(kind, name, None)):
            raise _not_awaited(f"{kind.__qualname__}.{name}")


def made(hosted: T, maker: str) -> T:
    """What a callable returned; NotAwaitedError if that is a coroutine."""
    if iscoroutine(hosted):
        hosted.close()
        raise _not_awaited(maker)
    return hosted


def _not_awaited(name: str) -> NotAwaitedError:
    return NotAwaitedError(
        f"{name} is `async def`, and nobody awaits what it returns: make it a plain function,"
        " and begin what takes longer with Deferred.fromCoroutine"
    )
