"""What the log says of refusals: how many of each reason, now and then, never a line for each."""

from collections import Counter

from twisted.logger import Logger

from sockd.metrics import Counters, summary

# Seconds between two such lines of an endpoint.
EVERY = 60.0


class Refusals:
    """Tells what was refused since it told last, by one endpoint and its listeners."""

    def __init__(self, endpoint: str, log: Logger) -> None:
        self._endpoint = endpoint
        self._log = log
        self._kept: Counter[str] = Counter()
        self._told: Counter[str] = Counter()

    def keep(self, counters: Counters) -> None:
        """A listener goes; what it refused is still to be told."""
        self._kept += counters.refused

    def tell(self, *all_counters: Counters) -> None:
        """One line, if there is anything new."""
        total = Counter(self._kept)
        for counters in all_counters:
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
