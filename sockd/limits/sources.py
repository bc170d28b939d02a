"""How many connections one source may have, and how fast it may make them."""

from collections import Counter
from collections.abc import Iterable, Sequence

from sockd.base.peers import Peer
from sockd.base.units import Rate
from sockd.limits.access import Network, Networks, packed
from sockd.limits.rates import SOURCES, Buckets

Source = str | bytes | int | None
_EXEMPT = ""  # no source is that


def source(peer: Peer) -> Source:
    """What peers are counted by: the IPv4 address, the /64 of an IPv6 one, the uid on a Unix socket."""
    if ":" in peer.host:
        return packed(peer.host)[:8]
    return peer.host or peer.uid


def neighbours(one: Source) -> Source:
    """Whose sources may well all be one's: the /24 of an IPv4 address, the /48 of an IPv6 one."""
    if isinstance(one, str):
        return one.rpartition(".")[0]
    return one[:6] if isinstance(one, bytes) else one


class Sources:
    """Counts the connections of each source, and its attempts; those of `exempt` networks not at all.

    It holds what has a connection, and those whose last attempts are not forgotten yet (at most SOURCES).
    """

    def __init__(
        self,
        connections_per_source: int | None,
        connect_rate: Rate | None,
        exempt: Iterable[Network] = (),
        most: int = SOURCES,
    ) -> None:
        self._most_connections = connections_per_source
        self._rate = Buckets(connect_rate, most, neighbours) if connect_rate else None
        exempt = tuple(exempt)
        self._exempt = Networks((network, True) for network in exempt) if exempt else None
        self._connections: dict[Source, int] = {}

    def __len__(self) -> int:
        return len(self._connections) + (len(self._rate) if self._rate else 0)

    def take(self, peer: Peer, now: float) -> str | None:
        """Count an attempt and, unless the counter's name of a reason is returned, its connection.

        The time is in seconds of any monotonic origin. What `connections_per_source` refuses was an attempt.
        """
        if self._free(peer):
            return None
        one = source(peer)
        if self._rate is not None and not self._rate.take(one, now):
            return "connect_rate"
        if self._most_connections is not None:
            count = self._connections.get(one, 0)
            if count >= self._most_connections:
                return "connections_per_source"
            self._connections[one] = count + 1
        return None

    def take_many(self, peers: Sequence[Peer], now: float) -> Sequence[bool]:
        """Whether each of these attempts, all made now, keeps to the rate; connections are not counted."""
        if self._rate is None:
            return [True] * len(peers)
        # Those that come together are most often of one host, or a few peers'.
        hosts = [peer.host for peer in peers]
        if hosts and hosts[0] and hosts.count(hosts[0]) == len(hosts):
            taken = self._take_many(self._source(peers[0]), len(hosts), now)
            return [True] * taken + [False] * (len(hosts) - taken)
        each = list(map(id, peers))
        sources = {number: self._source(peer) for number, peer in dict(zip(each, peers, strict=True)).items()}
        wanted = list(map(sources.__getitem__, each))
        left = {one: self._take_many(one, count, now) for one, count in Counter(wanted).items()}
        granted = []
        for one in wanted:
            granted.append(left[one] > 0)
            left[one] -= 1
        return granted

    def _source(self, peer: Peer) -> Source:
        return _EXEMPT if self._free(peer) else source(peer)

    def _take_many(self, one: Source, count: int, now: float) -> int:
        return count if one is _EXEMPT or self._rate is None else self._rate.take_many(one, count, now)

    def keep(self, peer: Peer) -> None:
        """Count a connection that is there already, were it one too many: limits were new, or the program."""
        if self._most_connections is not None and not self._free(peer):
            one = source(peer)
            self._connections[one] = self._connections.get(one, 0) + 1

    def give_back(self, peer: Peer) -> None:
        """A connection that was counted has ended."""
        if self._most_connections is not None and not self._free(peer):
            one = source(peer)
            left = self._connections[one] - 1
            if left:
                self._connections[one] = left
            else:
                del self._connections[one]

    def forget(self, now: float) -> None:
        """Let go of what time has made good, while nobody comes."""
        if self._rate is not None:
            self._rate.forget(now)

    def _free(self, peer: Peer) -> bool:
        return self._exempt is not None and not peer.local and self._exempt.best(peer.host) is not None
