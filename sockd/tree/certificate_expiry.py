"""Logs certificates that expire soon, or have expired, while the daemon goes on showing them."""

import time
from collections.abc import Callable

from twisted.logger import Logger

from sockd.base.reactor import Clock, Timer
from sockd.plan.plan import Plan, TlsPlan

# Seconds between two looks at the certificates, and so until an expiry is logged, at most.
LOOK_INTERVAL = 3600.0
# Seconds after which the same words are logged again. The days that are left are among them.
REPEAT_INTERVAL = 86_400.0


class Expiry:
    """Looks at a plan's certificates each hour; `wall()` is the time of day, by which they expire."""

    def __init__(self, clock: Clock, log: Logger, wall: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._log = log
        self._wall = wall
        self._certificates: tuple[TlsPlan, ...] = ()
        self._logged: dict[str, float] = {}
        self._timer: Timer | None = None

    def follow(self, plan: Plan) -> None:
        """Look at this plan's certificates from now on; today's findings are among its own warnings."""
        self._certificates = tuple(endpoint.tls for endpoint in plan.endpoints if endpoint.tls is not None)
        self._logged = dict.fromkeys(self._found(), self._clock.seconds())
        if self._certificates and self._timer is None:
            self._timer = self._clock.callLater(LOOK_INTERVAL, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = self._clock.callLater(LOOK_INTERVAL, self._look) if self._certificates else None
        now = self._clock.seconds()
        found = self._found()
        logged = {
            text: at for text, at in self._logged.items() if text in found and now - at < REPEAT_INTERVAL
        }
        for text, only_warning in found.items():
            if text not in logged:
                log = self._log.warn if only_warning else self._log.error
                log("certificate: {finding}", finding=text, event="certificate")
        self._logged = dict.fromkeys(found, now) | logged

    def _found(self) -> dict[str, bool]:
        """What there is to log, and whether it is only a warning; endpoints may share a certificate."""
        if not self._certificates:
            return {}
        from sockd.plan.certificates import grown_old  # noqa: PLC0415 - it takes its time, and only TLS needs it

        now = self._wall()
        return {found.text: found.warning for tls in self._certificates for found in grown_old(tls, now)}
