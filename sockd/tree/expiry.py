"""Tells the log of certificates that expire soon, or have expired, while the daemon goes on showing them."""

import time
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from sockd.plan.plan import Plan, TlsPlan

# Seconds between two looks at the certificates, and so until an end is told, at most.
EVERY = 3600.0
# Seconds after which the same is told again. The days that are left are part of the words.
AGAIN = 86_400.0


class Expiry:
    """`wall()` is the wall clock, by which certificates go; the looks go by the reactor's."""

    def __init__(self, reactor: Any, log: Logger, wall: Callable[[], float] = time.time) -> None:
        self._reactor = reactor
        self._log = log
        self._wall = wall
        self._guarded: tuple[TlsPlan, ...] = ()
        self._told: dict[str, float] = {}
        self._timer: Any = None

    def follow(self, plan: Plan) -> None:
        """Look after this plan's certificates from now on; of today its own warnings tell."""
        self._guarded = tuple(endpoint.tls for endpoint in plan.endpoints if endpoint.tls is not None)
        self._told = dict.fromkeys(self._found(), self._reactor.seconds())
        if self._guarded and self._timer is None:
            self._timer = self._reactor.callLater(EVERY, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = self._reactor.callLater(EVERY, self._look) if self._guarded else None
        now = self._reactor.seconds()
        found = self._found()
        told = {text: at for text, at in self._told.items() if text in found and now - at < AGAIN}
        for text, only_warning in found.items():
            if text not in told:
                tell = self._log.warn if only_warning else self._log.error
                tell("certificate: {finding}", finding=text, event="certificate")
        self._told = dict.fromkeys(found, now) | told

    def _found(self) -> dict[str, bool]:
        """What there is to say, and whether it is only a warning; several endpoints may have the same."""
        if not self._guarded:
            return {}
        from sockd.plan.certificates import grown_old  # noqa: PLC0415 - it takes its time, and only TLS needs it

        now = self._wall()
        return {found.text: found.warning for guarded in self._guarded for found in grown_old(guarded, now)}
