"""The rules for whose datagrams may be answered, so that forged ones can't misuse us.

The source of a datagram can be forged. A service that answers everybody is then a reflector, which sends its
answers to a victim, or one end of a loop: two services that answer each other go on for ever. So an endpoint
answers only networks that it was told to trust, never addresses that stand for many hosts, and never ports
from which services answer, its own included.
"""

from collections.abc import Collection, Container, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from sockd.base.peers import Peer

# Services answer from ports below this one, and clients don't ask from there (CVE-2024-2169: loops of
# services).
_FIRST_CLIENT_PORT = 1024
# How addresses of many hosts begin: IPv4 multicast (RFC 5771), broadcast, IPv6 multicast (RFC 4291). What
# comes from them, or was sent to them, is not answered.
GROUP_PREFIXES = (*(f"{first}." for first in range(224, 240)), "255.255.255.255", "ff")
_UNSPECIFIED = ("0.0.0.0", "::")
# Hosts whose verdict is remembered. Beyond that all are forgotten, as each is found again in microseconds.
VERDICT_LIMIT = 1024


def no_client(peer: Peer, ours: Container[int]) -> str | None:
    """Why this UDP source can't be a client, in the words that refusals are counted under, or None.

    `ours` are the UDP ports that the daemon itself listens on.
    """
    return _port_refusal(peer, ours) or _host_refusal(peer.host)


def _port_refusal(peer: Peer, ours: Container[int]) -> str | None:
    if peer.port < _FIRST_CLIENT_PORT:
        return "source port below 1024"
    return "source port of ours" if peer.port in ours else None


def _host_refusal(host: str) -> str | None:
    return "source is no host" if host in _UNSPECIFIED or host.startswith(GROUP_PREFIXES) else None


class Reflection:
    """The rules of an endpoint that answers `networks`; `ours` are the daemon's own UDP ports."""

    def __init__(self, networks: Sequence[IPv4Network | IPv6Network], ours: Collection[int]) -> None:
        self._networks = networks
        self._ours = ours
        self._verdicts: dict[str, str | None] = {}

    @property
    def hosts_kept(self) -> int:
        """For how many hosts the answer is remembered; VERDICT_LIMIT at most."""
        return len(self._verdicts)

    def refusal(self, peer: Peer) -> str | None:
        """Why not to answer this peer, in the words that refusals are counted under, or None.

        A peer on a Unix socket is always answered: the kernel vouches for it.
        """
        return None if peer.local else _port_refusal(peer, self._ours) or self._of_host(peer.host)

    def refuses(self, batch: Sequence[tuple[object, Peer]]) -> bool:
        """Whether any peer of a batch is refused; fast if none is, as a batch has few hosts and ports."""
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
            if len(self._verdicts) >= VERDICT_LIMIT:
                self._verdicts.clear()
            self._verdicts[host] = _host_refusal(host) or self._of_network(host)
        return self._verdicts[host]

    def _of_network(self, host: str) -> str | None:
        address = ip_address(host)
        return None if any(address in network for network in self._networks) else "source network"
