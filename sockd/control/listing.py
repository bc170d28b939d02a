"""The connections of some endpoints, and members that come by datagrams, in the order of their numbers."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from heapq import merge
from itertools import islice
from operator import attrgetter, itemgetter

from sockd.base.waiting import turn
from sockd.control.language import Json
from sockd.control.status import Moments, connection_value, member_value
from sockd.transports.connection import Connection
from sockd.tree.endpoint import Endpoint

Numbered = Iterator[tuple[int, Callable[[], Json]]]  # a number, and what makes the value

# Members that are looked at in one turn of the reactor: 0.3 ms.
_PIECE = 64

_number = attrgetter("number")


class Listing:
    """Iterates once over those there are now, beyond the number `after`, but at most `most` of them.

    `members` are what `members_of` found for each of the endpoints.
    The values are made while it is iterated, which may take many turns of the reactor; what has ended by then
    is left out. `more` says at the end whether there were more than `most`.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        members: Sequence[Numbered],
        after: int,
        most: int,
        moments: Moments,
    ) -> None:
        self.more = False
        self._after = after
        self._most = most
        self._moments = moments
        # Only copied, which takes 3 µs for a thousand of them; `_streams` looks at them.
        self._connections = [(endpoint, tuple(endpoint.connections)) for endpoint in endpoints]
        self._members = members

    def __iter__(self) -> Iterator[Json]:
        parts = [self._streams(*each) for each in self._connections]
        parts += self._members
        left = self._most
        for _, value in merge(*parts, key=itemgetter(0)):
            if not left:
                self.more = True
                return
            left -= 1
            yield value()

    def _streams(self, endpoint: Endpoint, connections: Sequence[Connection]) -> Numbered:
        if not endpoint.connections.in_order:
            connections = sorted(connections, key=_number)
        for connection in connections[bisect_right(connections, self._after, key=_number) :]:
            if connection.fileno() >= 0:
                yield connection.number, partial(connection_value, endpoint, connection, self._moments)


async def members_of(endpoint: Endpoint, after: int, moments: Moments) -> Numbered:
    """Its members beyond the number `after`, found in many turns of the reactor, in order."""
    found = []
    members = endpoint.members()
    while piece := tuple(islice(members, _PIECE)):
        for number, listener, member in piece:
            if number > after:
                found.append((number, partial(member_value, endpoint, number, listener, member, moments)))
        await turn(endpoint.connections.later)
    found.sort(key=itemgetter(0))
    return iter(found)
