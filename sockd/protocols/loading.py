"""Loads what third parties wrote, and finds out whether doing so has installed a reactor."""

import sys
from collections.abc import Callable
from typing import TypeVar

from sockd.base.errors import SockdError

T = TypeVar("T")

_REACTOR = "twisted.internet.reactor"
_USUAL = ("twisted.internet.epollreactor", "sockd.process.reactor")
_MAX_REASON = 300  # characters
# What installs a reactor when it is loaded, and its name: a module does so only when it is imported first.
_taken: dict[str, str] = {}


class ReactorInstalledError(SockdError):
    """What was loaded can't be served, as there is one reactor, which is sockd's."""


def load(name: str, what: Callable[[], T]) -> T:
    """The result of `what`, which loads the object of this name; whatever it raises is raised here.

    A module may call sys.exit: a SystemExit is an error like any other.
    """
    before = sys.modules.get(_REACTOR)
    loaded = what()
    there = sys.modules.get(_REACTOR)
    usual = type(there).__module__ in _USUAL
    if there is not before and not (usual and before is None):
        _taken[name] = type(there).__name__
    if name in _taken:
        raise ReactorInstalledError(
            f"installs a reactor of its own, {_taken[name]}; there can only be one, which is sockd's"
        )
    return loaded


def reason(error: BaseException) -> str:
    """The error on one line, for a message."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:_MAX_REASON]
