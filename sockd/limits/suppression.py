"""A bounded rate for log lines that peers can cause; the lines in excess become one that sums them up."""

from collections import Counter
from collections.abc import Callable, Mapping

from sockd.base.reactor import Clock, Timer
from sockd.base.units import Rate
from sockd.limits.rates import Bucket


class LogLimiter:
    """Decides which lines are logged; `summarise` is called with how many of each kind were suppressed.

    That is the rate's time after the first of them, so that the summaries are as rare as the rate means its
    lines to be. Without `summarise` the lines in excess are dropped, which is for lines whose number is
    counted elsewhere.
    """

    def __init__(
        self, clock: Clock, rate: Rate, summarise: Callable[[Counter[str]], None] | None = None
    ) -> None:
        self._clock = clock
        self._bucket = Bucket(rate, clock.seconds())
        self._delay = rate.per
        self._summarise = summarise
        self._suppressed: Counter[str] = Counter()
        self._timer: Timer | None = None

    def allows(self, kind: str) -> bool:
        """Whether to log this line; if not, it is counted under `kind`."""
        if self._bucket.take(self._clock.seconds()):
            return True
        self.suppress(kind)
        return False

    def suppress(self, kind: str) -> None:
        """Count a line that is not logged."""
        if self._summarise is not None:
            self._suppressed[kind] += 1
            if self._timer is None:
                self._timer = self._clock.callLater(self._delay, self._sum_up)

    def close(self) -> None:
        """Sum up now what was suppressed and not summed up yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._sum_up()

    def _sum_up(self) -> None:
        self._timer = None
        suppressed, self._suppressed = self._suppressed, Counter()
        if self._summarise is not None:
            self._summarise(suppressed)

    def freeze(self) -> dict[str, int]:
        """What was suppressed and not summed up yet, for `thaw` in another program."""
        return dict(self._suppressed)

    def thaw(self, state: Mapping[str, int]) -> None:
        """Count what another program had suppressed, and sum it up soon; TypeError on another state."""
        for kind, count in state.items():
            self.suppress(kind)
            self._suppressed[kind] += int(count) - 1
