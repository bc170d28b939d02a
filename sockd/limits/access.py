"""The rules for which peers may use an endpoint: by network, by user, by group."""

import socket
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Generic, Protocol, TypeVar

from sockd.base.peers import Peer

REFUSED = "access"  # the name under which a refusal is counted

Network = IPv4Network | IPv6Network
Value = TypeVar("Value")

_MAPPED = IPv6Network("::ffff:0:0/96")


class Networks(Generic[Value]):
    """A table of values for networks; for a host the value of the smallest network that holds it counts.

    Of several values for one network the last counts. An IPv4-mapped network is that of its IPv4 addresses.

    There is one hash table for each size of network that occurs, so that a look-up takes as many steps as
    there are sizes, however many networks there are.
    """

    def __init__(self, values: Iterable[tuple[Network, Value]]) -> None:
        tables: dict[int, dict[int, dict[int, Value]]] = {4: {}, 6: {}}
        for written, value in values:
            network = _unmapped(written)
            rest = network.max_prefixlen - network.prefixlen
            tables[network.version].setdefault(rest, {})[int(network.network_address) >> rest] = value
        # The number of host bits, fewest first, and the networks of that size.
        self._ipv4 = sorted(tables[4].items(), key=_size)
        self._ipv6 = sorted(tables[6].items(), key=_size)

    def best(self, host: str) -> Value | None:
        """The value for a host, an IP literal as a Peer has it; None where no network holds it."""
        tables = self._ipv6 if ":" in host else self._ipv4
        if tables:
            number = int.from_bytes(packed(host), "big")
            for rest, table in tables:
                value = table.get(number >> rest)
                if value is not None:
                    return value
        return None


def packed(host: str) -> bytes:
    """The 4 or 16 bytes of an IP literal; a scope (`%eth0`) says how to reach it, and is left out."""
    if ":" in host:
        return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return socket.inet_pton(socket.AF_INET, host)


def _size(table: tuple[int, object]) -> int:
    return table[0]


def _unmapped(network: Network) -> Network:
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return ip_network((int(network.network_address) & 0xFFFF_FFFF, network.prefixlen - 96))
    return network


class Rules(Protocol):
    """The section `access` of the file, as the plan has it: users and groups are numbers."""

    @property
    def allow(self) -> tuple[Network, ...]: ...
    @property
    def deny(self) -> tuple[Network, ...]: ...
    @property
    def users(self) -> AbstractSet[int]: ...
    @property
    def groups(self) -> AbstractSet[int]: ...


class Access:
    """The rules, prepared for a look-up for each peer.

    For a peer with an address the smallest network that holds it decides, and `deny` where both name that
    network. If none holds it, the peer may unless `allow` names any network. For a peer on a Unix socket the
    users and groups decide; if there are none, every peer may.
    """

    def __init__(self, rules: Rules) -> None:
        allowed = [(network, True) for network in rules.allow]
        denied = [(network, False) for network in rules.deny]
        self._networks = Networks(allowed + denied)
        self._others = not allowed
        self._users = rules.users
        self._groups = rules.groups
        self._rules = rules

    def refusal(self, peer: Peer, groups: AbstractSet[int] | None = None) -> str | None:
        """The name under which a refusal is counted, or None; `groups` are the gids of a local peer."""
        allowed = self._local(peer.uid, groups or frozenset()) if peer.local else self._remote(peer.host)
        return None if allowed else REFUSED

    def why(self, peer: Peer) -> str:
        """The rule by which a peer is refused, in the file's words."""
        if peer.local:
            keys = " nor ".join(key for key in ("users", "groups") if getattr(self, f"_{key}"))
            return f"neither access.{keys} names it" if " " in keys else f"access.{keys} doesn't name it"
        if self._networks.best(peer.host) is None:
            return "access.allow doesn't name it"
        address = ip_address(peer.host.partition("%")[0])
        denied = [network for network in map(_unmapped, self._rules.deny) if address in network]
        return f"access.deny names {max(denied, key=lambda network: network.prefixlen)}"

    def _remote(self, host: str) -> bool:
        best = self._networks.best(host)
        return self._others if best is None else best

    def _local(self, uid: int | None, groups: AbstractSet[int]) -> bool:
        if not self._users and not self._groups:
            return True
        return uid in self._users or not self._groups.isdisjoint(groups)
