"""The answer to `sources`: the sources that come most to an endpoint, or are refused most.

It adds up the accounts (`limits.accounts`), which have what has ended and what was refused, and the
connections that are open. There may be tens of thousands of those, so the work is done in pieces.
"""

from collections.abc import Callable, Mapping, Sequence
from heapq import nlargest
from itertools import islice

from sockd.base.waiting import turn
from sockd.control.language import Json
from sockd.control.status import Moments
from sockd.limits.accounts import Account
from sockd.limits.sources import Source, source, source_text
from sockd.transports.connection import Connection
from sockd.tree.endpoint import Endpoint

# Connections, or sources, that are looked at in one turn of the reactor: 0.2 ms.
PIECE = 256


class Seen:
    """What a source has had of an endpoint, what is open included."""

    __slots__ = ("bytes_in", "bytes_out", "connections", "datagrams", "last", "open", "reasons", "refusals")

    def __init__(self) -> None:
        self.connections = self.open = self.datagrams = self.bytes_in = self.bytes_out = self.refusals = 0
        self.reasons: Mapping[str, int] = {}
        self.last = 0.0

    def add(self, connection: Connection, now: float) -> None:
        """Add a connection that is open."""
        self.connections += 1
        self.open += 1
        self.bytes_in += connection.received
        self.bytes_out += connection.sent
        self.last = now


# How a source is ranked, by what `--by` says.
RANKINGS: Mapping[str, Callable[[Seen], int]] = {
    "connections": lambda seen: seen.connections + seen.datagrams,
    "bytes": lambda seen: seen.bytes_in + seen.bytes_out,
    "refusals": lambda seen: seen.refusals,
}

Row = tuple[int, Endpoint, Source, Seen]


async def sources(endpoints: Sequence[Endpoint], by: str, most: int, moments: Moments) -> dict[str, Json]:
    """At most `most` sources of all these endpoints together, in the ranking `by`."""
    top: list[Row] = []
    known = forgotten = 0
    for endpoint in endpoints:
        for listener in endpoint.datagram_listeners:
            for _ in listener.enter_senders():
                await turn(endpoint.connections.later)
        found = await _found(endpoint)
        known += len(found)
        forgotten += endpoint.connections.refusals.accounts.forgotten
        rows = ((RANKINGS[by](seen), endpoint, one, seen) for one, seen in found.items())
        while piece := tuple(islice(rows, PIECE)):
            top = nlargest(most, (*top, *(row for row in piece if row[0])), key=lambda row: row[0])
            await turn(endpoint.connections.later)
    return {
        "by": by,
        "sources": [_value(endpoint, one, seen, moments) for _, endpoint, one, seen in top],
        "known": known,
        "forgotten": forgotten,
    }


async def _found(endpoint: Endpoint) -> dict[Source, Seen]:
    # All are taken in one turn, so that a connection that ends while they are added up is not counted twice.
    connections = tuple(endpoint.connections)
    now = endpoint.around.reactor.seconds()
    found = {one: _seen(account) for one, account in endpoint.connections.refusals.accounts.items()}
    for number, connection in enumerate(connections, 1):
        found.setdefault(source(connection.peer), Seen()).add(connection, now)
        if not number % PIECE:
            await turn(endpoint.connections.later)
    return found


def _seen(account: Account) -> Seen:
    seen = Seen()
    seen.connections, seen.datagrams = account.connections, account.datagrams
    seen.bytes_in, seen.bytes_out = account.bytes_in, account.bytes_out
    seen.refusals, seen.reasons, seen.last = account.refusals, dict(account.reasons), account.last
    return seen


def _value(endpoint: Endpoint, one: Source, seen: Seen, moments: Moments) -> dict[str, Json]:
    return {
        "endpoint": endpoint.name,
        "source": source_text(one),
        "connections": seen.connections,
        "open": seen.open,
        "datagrams": seen.datagrams,
        "bytes_in": seen.bytes_in,
        "bytes_out": seen.bytes_out,
        "refused": dict(seen.reasons),
        "last": moments.text(seen.last),
    }
