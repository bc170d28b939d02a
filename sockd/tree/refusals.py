"""Accounts of refused peers: each has a line in the log, at a bounded rate, and its source has an account.

A refusal is counted where it happens, in the counters of the listener: `streams` for peers that `admission`
refuses, `entry` for those whose header or handshake fails, `transports.datagrams.port` for datagrams. Then
it is noted here, with the peer and the reason as it was found. It is the peers that decide how often that
is. So a source has a few lines for each reason, all sources together have a bounded number of lines a
second, and the reason is put into words only for a line that is logged. Once a minute a line sums up all
that was refused.

A connection that is refused after it was built is noted here too; its line is the one about its end
(`reporting`).
"""

from collections import Counter
from collections.abc import Callable

from twisted.logger import Logger

from sockd.base.frozen import Frozen
from sockd.base.metrics import Counters, lost_bytes, summary
from sockd.base.peers import Peer
from sockd.base.reactor import Clock
from sockd.base.units import Rate
from sockd.base.users import user_name
from sockd.limits.accounts import Accounts
from sockd.limits.rates import Bucket, Buckets
from sockd.limits.sources import Source, source

# Seconds between two lines that sum up what an endpoint has refused.
REFUSALS_INTERVAL = 60.0
# Lines about one refused peer each: of an endpoint, and of one source for one reason.
REFUSALS_LOGGED = Rate(20, 1.0)
REFUSALS_LOGGED_PER_SOURCE = Rate(10, 60.0)
# Sources that have lines of their own; others share (`limits.rates.Buckets`).
_SOURCES_LOGGED = 1024

Why = str | Callable[[], str]


class Refusals:
    """Logs what one endpoint and its listeners refuse, and keeps its sources' accounts."""

    def __init__(self, endpoint: str, clock: Clock, log: Logger) -> None:
        self.accounts = Accounts()
        self.lines = True  # whether peers have lines of their own
        self._endpoint = endpoint
        self._clock = clock
        self._log = log
        self._kept: Counter[str] = Counter()  # of listeners that are gone
        self._logged: Counter[str] = Counter()
        self._kept_dropped: Counter[str] = Counter()
        self._logged_dropped: Counter[str] = Counter()
        self._suppressed = 0  # since the last sum
        self._all = Bucket(REFUSALS_LOGGED, clock.seconds())
        self._each: Buckets[tuple[Source, str]] = Buckets(REFUSALS_LOGGED_PER_SOURCE, _SOURCES_LOGGED)

    def note(self, where: str, reason: str, peer: Peer, why: Why = "", count: int = 1) -> None:
        """A peer was refused at this listener, `count` times, for a reason by the counter's name.

        `why` is the reason as it was found, in words that the peer hasn't chosen, or makes them.
        """
        now = self._clock.seconds()
        one = source(peer)
        self.accounts.refused(one, reason, count, now)
        if not self.lines:
            return
        if not (self._each.take((one, reason), now) and self._all.take(now)):
            self._suppressed += count
            return
        found = why if isinstance(why, str) else why()
        user = "" if peer.uid is None else user_name(peer.uid)
        more = {name: text for name, text in (("user", user), ("why", found)) if text}
        self._log.info(
            "{endpoint}: {peer}"
            + (" ({user})" if user else "")
            + " on {listener}: refused: "
            + ("{count} x " if count > 1 else "")
            + "{reason}"
            + (" ({why})" if found else ""),
            endpoint=self._endpoint,
            peer=peer.text,
            listener=where,
            count=count,
            reason=reason,
            event="peer refused",
            **more,
        )

    def note_connection(self, peer: Peer, reason: str) -> None:
        """A connection was refused, whose end is logged."""
        self.accounts.refused(source(peer), reason, 1, self._clock.seconds())

    # -- the sum

    def keep(self, counters: Counters) -> None:
        """A listener goes; what it has refused is still to be logged."""
        self._kept += counters.refused
        self._kept_dropped += counters.dropped

    def freeze(self) -> Frozen:
        """The accounts, and what has been logged, for the program that takes over in an upgrade."""
        return {
            "accounts": self.accounts.freeze(),
            "kept": dict(self._kept),
            "logged": dict(self._logged),
            "suppressed": self._suppressed,
        }

    def thaw(self, state: Frozen) -> None:
        """Go on where another program stopped."""
        self.accounts.thaw(state.get("accounts", ()))
        self._kept.update(state.get("kept", {}))
        self._logged.update(state.get("logged", {}))
        self._suppressed += state.get("suppressed", 0)

    def log(self, *all_counters: Counters) -> None:
        """A line for each of the two, if there is anything new."""
        total, dropped = Counter(self._kept), Counter(self._kept_dropped)
        for counters in all_counters:
            total += counters.refused
            dropped += counters.dropped
        self._log_dropped(dropped)
        new = total - self._logged
        suppressed, self._suppressed = self._suppressed, 0
        self._each.forget(self._clock.seconds())
        if new:
            self._logged = total
            self._log.info(
                "{endpoint}: refused: {summary}"
                + ("; {suppressed} of them without a line of their own" if suppressed else ""),
                endpoint=self._endpoint,
                summary=summary(new),
                refused=dict(new.most_common()),
                suppressed=suppressed,
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
