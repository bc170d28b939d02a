"""What the log says of refused peers and datagrams, and of dropped bytes: how many, and why, once a minute.

A refusal is counted where it happens (`streams` for peers that `admission` refuses, `entry` for those whose
header or handshake fails, `transports.datagrams.port` for datagrams), in the counters of the listener. It has
no line of its own in the log, as it would be the peer that decides how many lines there are.
"""

from collections import Counter

from twisted.logger import Logger

from sockd.base.metrics import Counters, lost_bytes, summary

# Seconds between two lines of an endpoint.
REFUSALS_INTERVAL = 60.0


class Refusals:
    """Logs what one endpoint and its listeners have refused, and dropped, since the last time."""

    def __init__(self, endpoint: str, log: Logger) -> None:
        self._endpoint = endpoint
        self._log = log
        self._kept: Counter[str] = Counter()  # of listeners that are gone
        self._logged: Counter[str] = Counter()
        self._kept_dropped: Counter[str] = Counter()
        self._logged_dropped: Counter[str] = Counter()

    def keep(self, counters: Counters) -> None:
        """A listener goes; what it has refused is still to be logged."""
        self._kept += counters.refused
        self._kept_dropped += counters.dropped

    def log(self, *all_counters: Counters) -> None:
        """A line for each of the two, if there is anything new."""
        total, dropped = Counter(self._kept), Counter(self._kept_dropped)
        for counters in all_counters:
            total += counters.refused
            dropped += counters.dropped
        self._log_dropped(dropped)
        new = total - self._logged
        if new:
            self._logged = total
            self._log.info(
                "{endpoint}: refused: {summary}",
                endpoint=self._endpoint,
                summary=summary(new),
                refused=dict(new.most_common()),
                event="refused",
            )

    def _log_dropped(self, total: Counter[str]) -> None:
        new = total - self._logged_dropped
        if new:
            self._logged_dropped = total
            self._log.info(
                "{endpoint}: dropped of connections that ended: {summary}",
                endpoint=self._endpoint,
                summary=lost_bytes(new),
                dropped=dict(new.most_common()),
                event="dropped",
            )
