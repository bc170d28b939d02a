"""Log lines that peers can cause come at a bounded rate; the rest is counted and summed up in one line."""

from collections import Counter
from collections.abc import Callable, Mapping

from sockd.base.reactor import Clock, Timer
from sockd.base.units import Rate
from sockd.limits.rates import Bucket

SUMMARY_DELAY = 1.0  # seconds from the first suppressed line to the summary


class LogLimiter:
    """Says which lines to log; `summarise` gets how many of which kind were suppressed in a second.

    Without `summarise` the lines in excess are dropped: for what counters tell as well.
    """

    def __init__(
        self, clock: Clock, rate: Rate, summarise: Callable[[Counter[str]], None] | None = None
    ) -> None:
        self._clock = clock
        self._bucket = Bucket(rate, clock.seconds())
        self._summarise = summarise
        self._suppressed: Counter[str] = Counter()
        self._timer: Timer | None = None

    def allows(self, kind: str) -> bool:
        """Whether this line is to be logged; if not, it is counted under `kind`."""
        if self._bucket.take(self._clock.seconds()):
            return True
        self.suppress(kind)
        return False

    def suppress(self, kind: str) -> None:
        """Count a line that is not logged."""
        if self._summarise is not None:
            self._suppressed[kind] += 1
            if self._timer is None:
                self._timer = self._clock.callLater(SUMMARY_DELAY, self._sum_up)

    def close(self) -> None:
        """Sum up now what waits to be summed up."""
        if self._timer is not None:
            self._timer.cancel()
            self._sum_up()

    def _sum_up(self) -> None:
        self._timer = None
        suppressed, self._suppressed = self._suppressed, Counter()
        if self._summarise is not None:
            self._summarise(suppressed)

    def freeze(self) -> dict[str, int]:
        """What waits to be summed up, for `thaw` in another program."""
        return dict(self._suppressed)

    def thaw(self, state: Mapping[str, int]) -> None:
        """Sum up, soon, what another program had suppressed; TypeError where this is no such state."""
        for kind, count in state.items():
            self.suppress(kind)
            self._suppressed[kind] += int(count) - 1
