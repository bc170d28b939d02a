"""Whose datagrams may be answered, so that forged ones make us neither a reflector nor one end of a loop."""

from collections.abc import Collection, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from sockd.peers import Peer

# Services answer from ports below this one, clients don't ask from there (CVE-2024-2169, RFC 862 loops).
_FIRST_CLIENT_PORT = 1024
# Hosts whose verdict is kept; forgotten all at once, as each is found again in microseconds.
_HOSTS = 1024


class Reflection:
    """The rules, for an endpoint that answers `networks` and a daemon with these UDP ports of its own."""

    def __init__(self, networks: Sequence[IPv4Network | IPv6Network], ports: Collection[int]) -> None:
        self._networks = networks
        self._ports = ports
        self._verdicts: dict[str, str | None] = {}

    def refusal(self, peer: Peer) -> str | None:
        """The counter's name of the reason not to answer this peer, or None; local ones are vouched for."""
        if peer.local:
            return None
        if peer.port < _FIRST_CLIENT_PORT:
            return "source port below 1024"
        if peer.port in self._ports:
            return "source port of ours"
        try:
            return self._verdicts[peer.host]
        except KeyError:
            if len(self._verdicts) >= _HOSTS:
                self._verdicts.clear()
            verdict = self._verdicts[peer.host] = self._of_host(peer.host)
            return verdict

    def _of_host(self, host: str) -> str | None:
        address = ip_address(host)
        if address.is_unspecified or address.is_multicast or host == "255.255.255.255":
            return "source is no host"
        if not any(address in network for network in self._networks):
            return "source network"
        return None
