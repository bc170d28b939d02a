"""What the log says of an endpoint's connections: how they ended, and what its protocol raised.

A connection is logged once, at its end, with all that is known of it then. Peers decide how often that is,
so above a rate the ends are summarised by reason, once a second. Peers that were refused: `refusals`.

The endpoint's `log.connections` says which connections are logged at all. Of a share, such as one in a
hundred, the others are counted, and summed up once a minute. An end at which sockd or a protocol failed the
peer is logged whatever the file says.
"""

from collections import Counter

from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from sockd.base.metrics import End, summary
from sockd.base.reactor import Clock
from sockd.base.units import Rate, counted
from sockd.limits.suppression import LogLimiter
from sockd.transports.connection import Connection
from sockd.tree.supervisor import describe

ENDINGS_LOGGED = Rate(20, 1.0)  # lines about one connection each
EXCEPTIONS_LOGGED = Rate(1, 1.0)  # lines about a protocol that raised
# Ends of connections that never reached the protocol, or whose peer broke the rules on the way.
REFUSED = frozenset({End.BARRED, End.TLS, End.HANDSHAKE, End.FIRST_BYTE, End.REFUSED})
# Ends at which something may be lost that the peer relied upon.
FAILURES = frozenset({End.FAILED, End.CUT, End.SLOW, End.STALLED})


class Endings:
    """Logs the ends of one endpoint's connections, and its protocol's exceptions, at a bounded rate."""

    def __init__(self, endpoint: str, clock: Clock, log: Logger) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._log = log
        self._endings = LogLimiter(clock, ENDINGS_LOGGED, self._summarise)
        self._exceptions = LogLimiter(clock, EXCEPTIONS_LOGGED)
        self.share: int | None = 1  # as `config.model.EndpointLog` has it
        self._ended = 0  # of those that are logged in shares
        self._unlogged: Counter[str] = Counter()

    def _has_line(self, end: End) -> bool:
        """Whether a connection that ended so is logged, where not all are."""
        share = self.share
        if end in FAILURES:
            return True
        if end in REFUSED:
            return share is not None
        if not share:
            return False
        self._ended += 1
        if self._ended % share == 1:
            return True
        self._unlogged[end] += 1
        return False

    def log_unlogged(self) -> None:
        """Log how many connections had no line of their own because only a share of them has, if any."""
        unlogged, self._unlogged = self._unlogged, Counter()
        if unlogged:
            self._log.info(
                "{endpoint}: not logged, as one in {share} is: {summary}",
                endpoint=self._endpoint,
                share=self.share,
                summary=summary(unlogged),
                ends=dict(unlogged),
                event="connections not logged",
            )

    def log(self, connection: Connection, end: End) -> None:
        """A connection has ended."""
        if (self.share != 1 and not self._has_line(end)) or not self._endings.allows(end):
            return
        known = {"name": connection.name, "identity": connection.identity, "why": connection.why}
        more: dict[str, str | int] = {name: text for name, text in known.items() if text}
        names = ", ".join(f"{{{each}}}" for each in ("name", "identity") if each in more)
        who = f"{{peer}} ({names})" if names else "{peer}"
        how = "{end} ({why})" if connection.why else "{end}"
        lost = f", {counted(connection.dropped, 'byte')} dropped" if connection.dropped else ""
        if connection.dropped:
            more["dropped"] = connection.dropped
        self._log.info(
            f"{{endpoint}}: {who} on {{listener}}: {how} after {{seconds:.3f}}s, {{bytes_in}} in,"
            f" {{bytes_out}} out{lost}",
            endpoint=self._endpoint,
            listener=connection.listener.name,
            peer=connection.peer.text,
            end=end.value,
            seconds=self._clock.seconds() - connection.opened,
            bytes_in=connection.received,
            bytes_out=connection.sent,
            event="connection ended",
            **more,
        )

    def protocol_failed(self, where: str) -> None:
        """The protocol raised; called while the exception is being handled."""
        what = f"exception in {where}"
        if not self._exceptions.allows(what):
            self._endings.suppress(what)
            return
        failure = Failure()
        assert failure.value is not None  # noqa: S101
        self._log.failure(
            "{endpoint}: the protocol raised in {where}: {why}",
            failure,
            endpoint=self._endpoint,
            where=where,
            why=describe(failure.value),
            level=LogLevel.error,
            event="protocol failed",
        )

    def _summarise(self, suppressed: Counter[str]) -> None:
        self._log.info(
            "{endpoint}: within a second also: {summary}",
            endpoint=self._endpoint,
            summary=summary(suppressed),
            ends=dict(suppressed),
            event="connections ended",
        )

    def close(self) -> None:
        """Log the summary that waits, if one does."""
        self._endings.close()
        self.log_unlogged()
