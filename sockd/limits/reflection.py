"""Whose datagrams may be answered, so that forged ones make us neither a reflector nor one end of a loop."""

from collections.abc import Collection, Container, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from sockd.base.peers import Peer

# Services answer from ports below this one, clients don't ask from there (CVE-2024-2169, RFC 862 loops).
_FIRST_CLIENT_PORT = 1024
# Addresses that stand for a whole network: what asks them, or claims to come from them, is not answered.
NETWORKS = (*(f"{first}." for first in range(224, 240)), "255.255.255.255", "ff")
_UNSPECIFIED = ("0.0.0.0", "::")
# Hosts whose verdict is kept; forgotten all at once, as each is found again in microseconds.
_HOSTS = 1024


def no_client(peer: Peer, ours: Container[int]) -> str | None:
    """The counter's name of the reason why this UDP source can't be somebody who asks, or None.

    `ours` are the UDP ports that the daemon itself listens on.
    """
    return _no_port(peer, ours) or _no_host(peer.host)


def _no_port(peer: Peer, ours: Container[int]) -> str | None:
    if peer.port < _FIRST_CLIENT_PORT:
        return "source port below 1024"
    return "source port of ours" if peer.port in ours else None


def _no_host(host: str) -> str | None:
    return "source is no host" if host in _UNSPECIFIED or host.startswith(NETWORKS) else None


class Reflection:
    """The rules, for an endpoint that answers `networks` and a daemon with these UDP ports of its own."""

    def __init__(self, networks: Sequence[IPv4Network | IPv6Network], ours: Collection[int]) -> None:
        self._networks = networks
        self._ours = ours
        self._verdicts: dict[str, str | None] = {}

    def refusal(self, peer: Peer) -> str | None:
        """The counter's name of the reason not to answer this peer, or None; local ones are vouched for."""
        return None if peer.local else _no_port(peer, self._ours) or self._of_host(peer.host)

    def refuses(self, batch: Sequence[tuple[object, Peer]]) -> bool:
        """Whether any of those that came together at a socket is refused: they are of few hosts and ports."""
        first = batch[0][1]
        if len(batch) == 1 or first.local:
            return self.refusal(first) is not None
        ports = {peer.port for _, peer in batch}
        return (
            min(ports) < _FIRST_CLIENT_PORT
            or not ports.isdisjoint(self._ours)
            or any(map(self._of_host, {peer.host for _, peer in batch}))
        )

    def _of_host(self, host: str) -> str | None:
        if host not in self._verdicts:
            if len(self._verdicts) >= _HOSTS:
                self._verdicts.clear()
            self._verdicts[host] = _no_host(host) or self._of_network(host)
        return self._verdicts[host]

    def _of_network(self, host: str) -> str | None:
        address = ip_address(host)
        return None if any(address in network for network in self._networks) else "source network"
