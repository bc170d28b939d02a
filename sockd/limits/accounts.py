"""What each source has had of an endpoint, in bounded memory: connections, bytes, datagrams, refusals.

A table of all sources would grow with an attacker's addresses. This one keeps the sources that matter, by
the algorithm of Misra and Gries ("Finding repeated elements", 1982) with its decrements in batches. An
account has a weight in each of three rankings: by connections, by bytes, by refusals. Once there are more
than MOST_ACCOUNTS of them, the weights of each ranking are lowered by the KEPT-th largest, and accounts
without weight in any ranking are forgotten. At most three times KEPT are left.

So a source with more than one part in KEPT of an endpoint's connections, bytes or refusals is always there,
and no flood of others drives it out; a table that evicts the least active, or the oldest, has no such
bound. As long as there are few sources nothing is forgotten, and every number is exact. Afterwards the
numbers of a source are what was counted since it came into the table, and so at least.

A source without an account costs two microseconds, its share of the batches included.
"""

from collections.abc import Iterator

from sockd.base.frozen import Frozen, State
from sockd.limits.sources import Source

KEPT = 128  # of each ranking
MOST_ACCOUNTS = 6 * KEPT  # about 0.5 MB of them; lowering the weights takes half a millisecond
# Different reasons that are counted for one source; a peer can cause a few dozen by breaking TLS's rules.
REASONS_KEPT = 16
OTHER_REASONS = "other"

Weights = tuple[int, int, int]  # in the rankings by connections, by bytes and by refusals


class Account:
    """What one source has had; the bytes are of payload, as connections and datagrams count them."""

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "connections",
        "datagrams",
        "last",
        "paid",
        "reasons",
        "refusals",
    )

    def __init__(self) -> None:
        self.connections = 0  # that have ended
        self.datagrams = 0  # received
        self.bytes_in = 0
        self.bytes_out = 0
        self.refusals = 0
        self.reasons: dict[str, int] = {}  # how often it was refused for each
        self.last = 0.0  # when it was counted last, in seconds of the reactor's clock
        self.paid: Weights = (0, 0, 0)  # what was taken off its weights

    def weights(self) -> Weights:
        """Its weight in each ranking: how often it came, its bytes, its refusals."""
        came, size, refusals = self.paid
        return (
            self.connections + self.datagrams - came,
            self.bytes_in + self.bytes_out - size,
            self.refusals - refusals,
        )

    def freeze(self) -> Frozen:
        """Its numbers, for the program that takes over in an upgrade."""
        return {
            "connections": self.connections,
            "datagrams": self.datagrams,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "reasons": dict(self.reasons),
            "last": self.last,
            "paid": list(self.paid),
        }

    @classmethod
    def thaw(cls, state: Frozen) -> "Account":
        """The account that was frozen to this; KeyError, TypeError or ValueError where it is none."""
        account = cls()
        account.connections, account.datagrams = int(state["connections"]), int(state["datagrams"])
        account.bytes_in, account.bytes_out = int(state["bytes_in"]), int(state["bytes_out"])
        account.reasons = {str(reason): int(count) for reason, count in state["reasons"].items()}
        account.refusals = sum(account.reasons.values())
        account.last = float(state["last"])
        came, size, refusals = map(int, state["paid"])
        account.paid = came, size, refusals
        return account


class Accounts:
    """The accounts of one endpoint's sources, by source (`sources.source`)."""

    def __init__(self, most: int = MOST_ACCOUNTS) -> None:
        self._most = most
        self._kept = most // 6
        self._accounts: dict[Source, Account] = {}
        self.forgotten = 0  # accounts that had to go, so that numbers are no longer exact

    def __len__(self) -> int:
        return len(self._accounts)

    def items(self) -> Iterator[tuple[Source, Account]]:
        """Each source and its account."""
        return iter(self._accounts.items())

    def _open(self, source: Source) -> Account:
        """A new account, for a source that has none."""
        if len(self._accounts) >= self._most:
            self._make_room()
        account = self._accounts[source] = Account()
        return account

    def connection_ended(self, source: Source, bytes_in: int, bytes_out: int, now: float) -> None:
        """Count a connection, and its bytes."""
        account = self._accounts.get(source) or self._open(source)
        account.last = now
        account.connections += 1
        account.bytes_in += bytes_in
        account.bytes_out += bytes_out

    def received(self, source: Source, datagrams: int, size: int, now: float) -> None:
        """Count datagrams that came, `size` bytes all together."""
        account = self._accounts.get(source) or self._open(source)
        account.last = now
        account.datagrams += datagrams
        account.bytes_in += size

    def refused(self, source: Source, reason: str, count: int, now: float) -> None:
        """Count what was refused of it."""
        account = self._accounts.get(source) or self._open(source)
        account.last = now
        account.refusals += count
        reasons = account.reasons
        if reason not in reasons and len(reasons) >= REASONS_KEPT:
            reason = OTHER_REASONS
        reasons[reason] = reasons.get(reason, 0) + count

    def _make_room(self) -> None:
        weighed = [(source, account, account.weights()) for source, account in self._accounts.items()]
        # What each ranking's weights are lowered by; none goes below nothing.
        came, size, refusals = (
            sorted(weights, reverse=True)[self._kept]
            for weights in zip(*(weights for _, _, weights in weighed), strict=True)
        )
        kept = {}
        for source, account, (its_came, its_size, its_refusals) in weighed:
            if its_came > came or its_size > size or its_refusals > refusals:
                paid = account.paid
                account.paid = (
                    paid[0] + min(came, its_came),
                    paid[1] + min(size, its_size),
                    paid[2] + min(refusals, its_refusals),
                )
                kept[source] = account
        self.forgotten += len(self._accounts) - len(kept)
        self._accounts = kept

    def freeze(self) -> list[list[object]]:
        """All of them, for the program that takes over in an upgrade."""
        return [[source, account.freeze()] for source, account in self._accounts.items()]

    def thaw(self, state: State) -> None:
        """Go on with accounts that another program has frozen; KeyError and so on where there are none."""
        for source, account in state:
            self._accounts[source] = Account.thaw(account)
