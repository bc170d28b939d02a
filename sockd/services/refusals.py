"""What the log says of refusals: how many of each reason, now and then, never a line for each."""

from collections import Counter
from collections.abc import Iterable

from twisted.logger import Logger

from sockd.metrics import Counters, summary

# Seconds between two such lines of an endpoint.
EVERY = 60.0


class Refusals:
    """Tells what was refused since it told last. `counters` are those of one endpoint and its listeners."""

    def __init__(self, endpoint: str, counters: Iterable[Counters], log: Logger) -> None:
        self._endpoint = endpoint
        self._counters = tuple(counters)
        self._log = log
        self._told: Counter[str] = Counter()

    def tell(self) -> None:
        """One line, if there is anything new."""
        total: Counter[str] = Counter()
        for counters in self._counters:
            total += counters.refused
        new = total - self._told
        if new:
            self._told = total
            self._log.info(
                "{endpoint}: refused: {summary}",
                endpoint=self._endpoint,
                summary=summary(new),
                refused=dict(new.most_common()),
                event="refused",
            )
