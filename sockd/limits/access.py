"""Who may use an endpoint: networks, the best match winning; users and groups on Unix sockets."""

import socket
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Generic, Protocol, TypeVar

from sockd.base.peers import Peer

Network = IPv4Network | IPv6Network
Value = TypeVar("Value")

_MAPPED = IPv6Network("::ffff:0:0/96")


class Networks(Generic[Value]):
    """What holds for a network holds for the hosts in it, unless something holds for a smaller one.

    Of several values for one network the last counts. IPv4-mapped networks are those of the IPv4 addresses.
    """

    def __init__(self, values: Iterable[tuple[Network, Value]]) -> None:
        tables: dict[int, dict[int, dict[int, Value]]] = {4: {}, 6: {}}
        for written, value in values:
            network = _unmapped(written)
            rest = network.max_prefixlen - network.prefixlen
            tables[network.version].setdefault(rest, {})[int(network.network_address) >> rest] = value
        # The bits that a network leaves open, fewest first, and the networks of that size.
        self._ipv4 = sorted(tables[4].items(), key=_size)
        self._ipv6 = sorted(tables[6].items(), key=_size)

    def best(self, host: str) -> Value | None:
        """What holds for this host, an IP literal as a Peer has it; None where nothing was said."""
        tables = self._ipv6 if ":" in host else self._ipv4
        if tables:
            number = int.from_bytes(packed(host), "big")
            for rest, table in tables:
                value = table.get(number >> rest)
                if value is not None:
                    return value
        return None


def packed(host: str) -> bytes:
    """The 4 or 16 bytes of an IP literal; a scope (`%eth0`) is of the way to it, not of the address."""
    if ":" in host:
        return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return socket.inet_pton(socket.AF_INET, host)


def _size(table: tuple[int, object]) -> int:
    return table[0]


def _unmapped(network: Network) -> Network:
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return ip_network((int(network.network_address) & 0xFFFF_FFFF, network.prefixlen - 96))
    return network


REFUSED = "access"  # the counter's name


class Rules(Protocol):
    """As the plan has them."""

    @property
    def allow(self) -> tuple[Network, ...]: ...
    @property
    def deny(self) -> tuple[Network, ...]: ...
    @property
    def users(self) -> AbstractSet[int]: ...
    @property
    def groups(self) -> AbstractSet[int]: ...


class Access:
    """The rules, ready to be asked for each peer.

    Peers with an address: the smallest network that holds it decides, `deny` where both name it; all others
    may where nothing is allowed expressly, and may not where something is. Peers on Unix sockets: networks
    don't concern them; all may where neither users nor groups are named.
    """

    def __init__(self, rules: Rules) -> None:
        allowed = [(network, True) for network in rules.allow]
        denied = [(network, False) for network in rules.deny]
        self._networks = Networks(allowed + denied)
        self._others = not allowed
        self._users = rules.users
        self._groups = rules.groups

    def refusal(self, peer: Peer, groups: AbstractSet[int] | None = None) -> str | None:
        """The counter's name of the reason, or None; `groups` are the gids that a local peer has."""
        allowed = self._local(peer.uid, groups or frozenset()) if peer.local else self._remote(peer.host)
        return None if allowed else REFUSED

    def _remote(self, host: str) -> bool:
        best = self._networks.best(host)
        return self._others if best is None else best

    def _local(self, uid: int | None, groups: AbstractSet[int]) -> bool:
        if not self._users and not self._groups:
            return True
        return uid in self._users or not self._groups.isdisjoint(groups)
