"""Finds the endpoint that a line of the log comes from where the line doesn't say so, as a hosted protocol's.

# Theory of operation

Twisted's reactors call everything within a log context, which says whose the call is. Here that is found out
when something is logged, so that an event in which nothing is logged pays nothing. What is looked at, in this
order, until one endpoint is found:

1. the object that logs: `host.log` is the endpoint's, and a `Logger` of a class knows the instance;
2. the calls that lead to the line, the innermost first (`owners`): a connection's event, a call of a timer's;
3. where an exception is logged, the calls that led to that one. Its traceback still has their frames, also
   when a Deferred is collected that nobody has asked for its failure;
4. the package of the functions among them, which several endpoints may share: then all of these are named.

A Deferred that is thrown away logs its failure as it dies. If a garbage collection is under way, whoever
happens to run then has nothing to do with it, and 2 ends there.
"""

import gc
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

from twisted.python.failure import Failure

from sockd.tree.endpoint import Endpoint
from sockd.tree.owners import OURS, Owners, callers, package_of

# What finds out, and so has no part in what is logged: frames of the log's own code.
_LOGGING = ("twisted.logger", "twisted.python.")


class Origin:
    """Names the endpoints that an event of the log may come from: one, where that can be known."""

    def __init__(self, endpoints: Callable[[], Iterable[Endpoint]]) -> None:
        self._endpoints = endpoints
        self._collecting = False

    def start(self) -> None:
        """From now on it knows whether a garbage collection is under way."""
        if self._collects not in gc.callbacks:
            gc.callbacks.append(self._collects)

    def stop(self) -> None:
        """Nothing more is logged."""
        with suppress(ValueError):
            gc.callbacks.remove(self._collects)

    def _collects(self, phase: str, _: object) -> None:
        self._collecting = phase == "start"

    # Any: the code that logs chooses the values.
    def of_event(self, event: Mapping[str, Any]) -> Sequence[str]:
        """The endpoints of an event that is being logged, in whichever thread; none where nothing tells."""
        try:
            owners = Owners(self._endpoints())
            found = owners.of_hosted(event.get("log_source"))
            if found:
                return (found,)
            stack, failure = self._stack()
            failure = event.get("log_failure") or failure
            traceback = failure.getTracebackObject() if isinstance(failure, Failure) else None
            return _found(owners, stack, _raised(traceback))
        except Exception:  # noqa: BLE001 - the tree may change while another thread looks at it
            return ()

    def of_exception(self, error: BaseException) -> Sequence[str]:
        """The endpoints of an exception that nobody has caught."""
        try:
            return _found(Owners(self._endpoints()), (), _raised(error.__traceback__))
        except Exception:  # noqa: BLE001
            return ()

    # Any: a Failure, or what else a Deferred has kept.
    def _stack(self) -> tuple[list[FrameType], Any]:
        """The calls that lead to the line, innermost first, and the failure of a Deferred that is dying."""
        found: list[FrameType] = []
        failure = None
        for frame in callers(sys._getframe(1)):  # noqa: SLF001 - Python's documented way to ask
            if frame.f_code.co_name == "__del__":
                failure = failure or getattr(frame.f_locals.get("self"), "failResult", None)
                if self._collecting:
                    break
            if not _logs(frame):
                found.append(frame)
        return found, failure


def _logs(frame: FrameType) -> bool:
    module = str(frame.f_globals.get("__name__", ""))
    return module.startswith(_LOGGING) or module in (f"{OURS}.log", __name__)


def _found(owners: Owners, stack: Sequence[FrameType], raised: Sequence[FrameType]) -> Sequence[str]:
    # An exception says more exactly whose it is than what it is logged in.
    found = owners.of_frames(raised) or owners.of_frames(stack)
    return (found,) if found else owners.by_module(_hosted(raised)) or owners.by_module(_hosted(stack))


# Any: a failure that came from elsewhere has something else in place of a traceback.
def _raised(traceback: Any) -> list[FrameType]:
    """The calls that led to an exception, innermost first."""
    found: list[FrameType] = []
    while isinstance(traceback, TracebackType):
        found.insert(0, traceback.tb_frame)
        traceback = traceback.tb_next
    return [*found, *callers(found[-1].f_back)] if found else []


def _hosted(frames: Sequence[FrameType]) -> list[FrameType]:
    return [frame for frame in frames if package_of(frame) not in (OURS, "twisted")]
