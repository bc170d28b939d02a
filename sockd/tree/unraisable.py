"""Logs what third parties' code raises where nobody can catch it, as in a `__del__`, at a bounded rate."""

import sys
from collections import Counter
from collections.abc import Callable, Sequence

from twisted.logger import Logger

from sockd.base.metrics import summary
from sockd.base.reactor import Reactor
from sockd.base.units import Rate
from sockd.limits.suppression import LogLimiter
from sockd.tree.supervisor import describe

_LOGGED = Rate(1, 1.0)


class Unraisable:
    """Takes the place of Python's own hook, which prints a traceback for each on standard error."""

    def __init__(
        self, reactor: Reactor, log: Logger, origin: Callable[[BaseException], Sequence[str]] = lambda _: ()
    ) -> None:
        self._reactor = reactor
        self._log = log
        self._origin = origin  # the endpoints that an exception may come from
        self._limiter = LogLimiter(reactor, _LOGGED, self._sum_up)

    def install(self) -> None:
        """From now on all of this process is logged."""
        sys.unraisablehook = self.note

    def note(self, unraisable: "sys.UnraisableHookArgs") -> None:
        """Called in any thread, at any moment."""
        error = unraisable.exc_value or unraisable.exc_type()
        # Names only: to keep the object would bring it back to life.
        origin = tuple(self._origin(error))
        self._reactor.callFromThread(self._report, _name(unraisable.object), describe(error), origin)

    def _report(self, where: str, why: str, origin: Sequence[str]) -> None:
        if self._limiter.allows(where):
            known = {"endpoint": origin[0]} if len(origin) == 1 else {}
            self._log.error(
                ("{origin}: " if origin else "") + "{where} raised where nobody can catch it: {why}",
                origin=" or ".join(origin), where=where, why=why, event="protocol failed", **known,
            )  # fmt: skip

    def _sum_up(self, suppressed: Counter[str]) -> None:
        self._log.error(
            "within a second also raised: {summary}", summary=summary(suppressed), event="protocol failed"
        )


def _name(of: object) -> str:
    try:
        return str(getattr(of, "__qualname__", None) or type(of).__qualname__)
    except BaseException:  # noqa: BLE001
        return "something"
