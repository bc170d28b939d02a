"""The limits of one source: how many connections it may have, at which rate it may make them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Network

from sockd.base.peers import Peer
from sockd.base.units import Rate, counted
from sockd.base.users import user_name
from sockd.limits.access import Network, Networks, packed
from sockd.limits.rates import SOURCE_LIMIT, Buckets

Source = str | bytes | int | None  # hashable, and of types that may be handed over in an upgrade
# The limits' names, under which refusals are counted.
CONNECT_RATE = "connect_rate"
CONNECTIONS_PER_SOURCE = "connections_per_source"
_EXEMPT = ""  # the source of all exempt peers; no other has an empty text


def source(peer: Peer) -> Source:
    """What a peer is counted under: its IPv4 address, the /64 of its IPv6 one, or its uid on a Unix socket.

    A /64 is what one customer has in IPv6, and any host in it can take any address of it.
    """
    if ":" in peer.host:
        return packed(peer.host)[:8]
    return peer.host or peer.uid


def neighbours(one: Source) -> Source:
    """The network whose sources may all have one owner: an IPv4 address's /24, an IPv6 one's /48."""
    if isinstance(one, str):
        return one.rpartition(".")[0]
    return one[:6] if isinstance(one, bytes) else one


def source_text(one: Source) -> str:
    """A source as people write it: `192.0.2.7`, `2001:db8:0:1::/64`, `uid=1000 (ann)`."""
    if isinstance(one, bytes):
        return str(IPv6Network((one + bytes(8), 64)))
    if isinstance(one, str):
        return one
    if one is None:
        return "unknown"
    name = user_name(one)
    return f"uid={one} ({name})" if name else f"uid={one}"


class Sources:
    """Counts the connections of each source and its attempts, but none from `exempt` networks.

    Memory is bounded: a number for each source that has a connection, of which there are few enough, and a
    bucket for each that tried lately, of which there are at most `limit` (see `Buckets`).
    """

    def __init__(
        self,
        connections_per_source: int | None,
        connect_rate: Rate | None,
        exempt: Iterable[Network] = (),
        limit: int = SOURCE_LIMIT,
    ) -> None:
        self._most_connections = connections_per_source
        self._most_often = connect_rate
        self._rate = Buckets(connect_rate, limit, neighbours) if connect_rate else None
        exempt = tuple(exempt)
        self._exempt = Networks((network, True) for network in exempt) if exempt else None
        self._connections: dict[Source, int] = {}

    @property
    def connections(self) -> int:
        """Connections that are counted, those of all sources together."""
        return sum(self._connections.values())

    def __len__(self) -> int:
        return len(self._connections) + (len(self._rate) if self._rate else 0)

    def take(self, peer: Peer, now: float) -> str | None:
        """Count an attempt; the name of the limit that refuses it, or None, and then its connection counts.

        `now` is in seconds of a clock that never goes back. What `connections_per_source` refuses counts as
        an attempt all the same.
        """
        if self._free(peer):
            return None
        one = source(peer)
        if self._rate is not None and not self._rate.take(one, now):
            return CONNECT_RATE
        if self._most_connections is not None:
            count = self._connections.get(one, 0)
            if count >= self._most_connections:
                return CONNECTIONS_PER_SOURCE
            self._connections[one] = count + 1
        return None

    def why(self, limit: str, peer: Peer) -> str:
        """What a source has, or did, beyond this limit, in words."""
        one = source_text(source(peer))
        if limit == CONNECTIONS_PER_SOURCE:
            return f"{one} has {counted(self._most_connections or 0, 'connection')}"
        return f"more than {self._most_often} from {one}"

    def take_many(self, peers: Sequence[Peer], now: float) -> Sequence[bool]:
        """For each of these attempts, all made now, whether the rate allows it. For datagrams."""
        if self._rate is None:
            return [True] * len(peers)
        # Datagrams that come together are mostly from one host, or from few peers.
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

    def add(self, peer: Peer) -> None:
        """Count a connection that exists already, even one too many: the limits or the program are new."""
        if self._most_connections is not None and not self._free(peer):
            one = source(peer)
            self._connections[one] = self._connections.get(one, 0) + 1

    def release(self, peer: Peer) -> None:
        """Stop counting a connection, which has ended."""
        if self._most_connections is not None and not self._free(peer):
            one = source(peer)
            left = self._connections[one] - 1
            if left:
                self._connections[one] = left
            else:
                del self._connections[one]

    def forget(self, now: float) -> None:
        """Forget the sources whose buckets are full again; `take` does so too, but only while peers come."""
        if self._rate is not None:
            self._rate.forget(now)

    def _free(self, peer: Peer) -> bool:
        return self._exempt is not None and not peer.local and self._exempt.best(peer.host) is not None
