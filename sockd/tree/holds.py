"""Logs which endpoint held the reactor for long, and remembers the longest time."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from threading import Thread
from types import FrameType
from typing import TYPE_CHECKING

from twisted.logger import Logger

from sockd.base.metrics import summary
from sockd.base.reactor import Reactor
from sockd.base.units import Rate
from sockd.limits.suppression import LogLimiter
from sockd.plan.plan import Plan
from sockd.tree.blame import Culprit, culprit
from sockd.tree.endpoint import Endpoint
from sockd.tree.owners import packages_of

if TYPE_CHECKING:
    from sockd.process.watch import Hold, Watch

_HOLDS_LOGGED = Rate(10, 60.0)  # lines; what comes more often is summed up once a minute


@dataclass(frozen=True)
class Longest:
    """The longest time that an event held the reactor; `at` is in the reactor's seconds."""

    seconds: float
    endpoint: str
    call: str
    at: float


class Holds:
    """Watches the reactor while there are endpoints whose protocol isn't sockd's own.

    Those of sockd work in slices, so that they need no watching.
    """

    def __init__(
        self,
        reactor: Reactor,
        log: Logger,
        endpoints: Callable[[], Iterable[Endpoint]],
        thread: Callable[..., Thread] = Thread,
    ) -> None:
        self.longest: Longest | None = None
        self._reactor = reactor
        self._log = log
        self._endpoints = endpoints
        self._limiter = LogLimiter(reactor, _HOLDS_LOGGED, self._summarise)
        self._make_thread = thread
        self._watch: Watch | None = None  # while nothing was to be watched yet

    def follow(self, plan: Plan) -> None:
        """Watch, or not, as the endpoints of this plan demand; called in the reactor's thread."""
        if any(packages_of(endpoint) for endpoint in plan.endpoints):
            if self._watch is None:
                # A daemon with nothing but sockd's own protocols does without this module.
                from sockd.process.watch import Watch  # noqa: PLC0415

                self._watch = Watch(self._blame, self._report, self._make_thread)
            self._watch.start()
        elif self._watch is not None:
            self._watch.stop()

    def stop(self) -> None:
        """Watch no more."""
        if self._watch is not None:
            self._watch.stop()
        self._limiter.close()

    # -- in the watch's thread

    def _blame(self, frames: Sequence[FrameType]) -> object:
        return culprit(frames, self._endpoints())

    def _report(self, hold: "Hold") -> None:
        if hold.lasts:
            self._log_lasting(hold)  # the reactor's thread has no time
        else:
            self._reactor.callFromThread(self._held, hold)

    def _log_lasting(self, hold: "Hold") -> None:
        found = _found(hold)
        what = "{endpoint}: has held the loop" if found.endpoint else "the loop has stood still"
        self._log.error(
            f"{what} for {{seconds:.0f}}s, in {{call}}, and still does: no endpoint is served",
            **_fields(found), seconds=round(hold.seconds, 3), event="held",
        )  # fmt: skip

    # -- in the reactor's

    def _held(self, hold: "Hold") -> None:
        found = _found(hold)
        if self.longest is None or hold.seconds > self.longest.seconds:
            self.longest = Longest(hold.seconds, found.endpoint, found.call, self._reactor.seconds())
        if self._limiter.allows(found.endpoint or "the loop"):
            what = "{endpoint}: held the loop" if found.endpoint else "the loop stood still"
            self._log.warn(
                f"{what} for {{seconds:.2f}}s, in {{call}}: all endpoints waited",
                **_fields(found), seconds=round(hold.seconds, 3), event="held",
            )  # fmt: skip

    def _summarise(self, suppressed: Counter[str]) -> None:
        self._log.warn(
            "the loop was held within a minute also by: {summary}",
            summary=summary(suppressed), holds=dict(suppressed), event="held",
        )  # fmt: skip


def _found(hold: "Hold") -> Culprit:
    if isinstance(hold.culprit, Culprit):
        return hold.culprit
    return Culprit("", str(hold.culprit or "a call that let nobody look (one in C)"))


def _fields(found: Culprit) -> dict[str, str]:
    return {"call": found.call} | ({"endpoint": found.endpoint} if found.endpoint else {})
