"""The process has one reactor, which sockd alone runs and stops, whatever a hosted protocol imports or calls.

Twisted keeps its reactor as a module, `twisted.internet.reactor`, that everything imports when it needs it. A
module that installs another one in its place, as importing daphne does, cuts all of them off from the loop
that runs: threads, time-outs and child processes never answer again. And a protocol that stops the reactor
stops every other endpoint. Both are refused, with an exception where it happens: in a start it holds that
endpoint, with the reason; in an event it costs that connection.
"""

import sys
from collections.abc import Callable
from typing import NoReturn

import twisted.internet
from twisted.internet import main

from sockd.base.errors import SockdError
from sockd.base.reactor import TwistedReactor

MODULE = "twisted.internet.reactor"

_install = main.installReactor

_kept: TwistedReactor = None


class ReactorTakenError(SockdError):
    """A protocol did with the reactor what is sockd's alone to do."""


_stop: Callable[[], None] | None = None
# What the reactor's class itself had in place of a refusal; None: it inherits it.
_had: dict[str, object] = {}


def keep(reactor: TwistedReactor) -> None:
    """From now on nobody else may replace, run or stop this one."""
    global _kept, _stop
    if reactor is not _kept:
        release()
        _kept, _stop = reactor, reactor.stop
    main.installReactor = _refuse_another
    for what in ("run", "stop", "crash"):
        _forbid(what)


def release() -> None:
    """Leave the reactor to others again: for a process that goes on without sockd."""
    global _kept, _stop  # noqa: PLW0603
    for what in tuple(_had):
        _allow(what)
    main.installReactor = _install
    _kept = _stop = None


def stopping(reactor: TwistedReactor) -> Callable[[], None]:
    """What stops this reactor: for sockd alone, if it is kept."""
    return _stop if reactor is _kept and _stop is not None else reactor.stop


def hand_over() -> None:
    """twistd may run it now, once."""
    if _kept is not None:
        _allow("run")
        _kept.callWhenRunning(_runs)


def _runs() -> None:
    if _kept is not None:
        _forbid("run")


def _forbid(what: str) -> None:
    # Of its class, which has no other instance: an object with more than 30 attributes of its own, or whose
    # `vars` was asked for, has slower calls in Python 3.11, by 3 % of an echo.
    if what not in _had:
        kind = type(_kept)
        _had[what] = vars(kind).get(what)
        setattr(kind, what, _refusal(what))


def _allow(what: str) -> None:
    if what not in _had:
        return
    had = _had.pop(what)
    if had is None:
        delattr(type(_kept), what)
    else:
        setattr(type(_kept), what, had)


def check() -> None:
    """ReactorTakenError where another has taken its place by now, which it loses again."""
    there = sys.modules.get(MODULE)
    if _kept is not None and there is not _kept:
        _restore()
        raise ReactorTakenError(_replaced(there))


def _restore() -> None:
    sys.modules[MODULE] = _kept
    vars(twisted.internet)["reactor"] = _kept


def _refuse_another(reactor: object = None) -> None:
    """In place of Twisted's `installReactor`."""
    _restore()
    raise ReactorTakenError(_replaced(reactor))


def _replaced(other: object) -> str:
    return (
        f"it installs a reactor of its own, {type(other).__name__}; there can only be one, which is sockd's,"
        f" {type(_kept).__name__}"
    )


def _refusal(what: str) -> Callable[..., NoReturn]:
    def refuse(*_arguments: object, **_named: object) -> NoReturn:
        raise ReactorTakenError(
            f"it calls reactor.{what}(), which is sockd's alone: a protocol that can't go on calls host.fail"
        )

    return refuse
