"""Who sent a datagram: the Peers that were made of what the kernel told, found again in bounded memory."""

import socket
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from sockd.base.peers import Ancillary, Peer, unmapped
from sockd.limits.access import Access
from sockd.limits.reflection import GROUP_PREFIXES
from sockd.transports.sockets.inet import IP_PKTINFO
from sockd.transports.sockets.unix import sent_credentials

# Senders whose Peer is kept to be found again; forgotten all at once, as they are made in microseconds.
PEERS = 1024


class Senders:
    """Those of one socket; `told(key)` says a sender's address and ancillary data."""

    def __init__(self, told: Callable[[Any], tuple[Any, Ancillary]], *, local: bool) -> None:
        self._told = told
        self._local = local
        self._peers: dict[Hashable, Peer] = {}
        self._access: Access | None = None
        self._barred: dict[Any, str | None] = {}  # what access says, as far as it was asked

    def __len__(self) -> int:
        return len(self._peers)

    def of(self, keys: Sequence[Hashable]) -> list[Peer]:
        """Those who sent datagrams that came with these keys."""
        try:
            return list(map(self._peers.__getitem__, keys))
        except KeyError:
            return list(map(self.one, keys))

    def one(self, key: Hashable) -> Peer:
        """Who sent the datagram that came with this key."""
        return self._peers.get(key) or self._meet(key)

    def _meet(self, key: Hashable) -> Peer:
        if len(self._peers) >= PEERS:
            self._peers.clear()
        peer = self._peers[key] = peer_of(*self._told(key), local=self._local)
        return peer

    def admit(self, access: Access | None) -> None:
        """From now on these rules hold; None allows everybody."""
        self._access = access
        self._barred.clear()

    def refusal(self, peer: Peer) -> str | None:
        """The counter's name of the reason why this one may not, or None."""
        if self._access is None:
            return None
        key = (peer, peer.gid)
        if key not in self._barred:
            if len(self._barred) >= PEERS:
                self._barred.clear()
            groups = frozenset() if peer.gid is None else frozenset({peer.gid})
            self._barred[key] = self._access.refusal(peer, groups)
        return self._barred[key]

    def refusals(self, peers: Sequence[Peer]) -> list[str | None]:
        """The same for each of them, who are most often few and the same."""
        reasons = {number: self.refusal(peer) for number, peer in {id(peer): peer for peer in peers}.items()}
        return list(map(reasons.__getitem__, map(id, peers)))


def peer_of(sockaddr: Any, ancillary: Ancillary, *, local: bool) -> Peer:
    """The Peer of what `recvmsg` told: a `local` one is at a Unix socket."""
    for level, kind, told in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            uid, pid, gid = sent_credentials(told)
            return Peer.unix(uid, pid, sockaddr, gid)
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            asked = unmapped(socket.inet_ntop(socket.AF_INET6, told[:16]))
            # The interface matters for link-local addresses alone (RFC 3542, 6.2); else routing decides.
            interface = told[16:20] if asked.startswith("fe80:") else bytes(4)
            return _reachable(sockaddr, asked, ((level, kind, told[:16] + interface),))
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            # struct in_pktinfo: interface, the local address to reply from, the address that was asked
            asked = socket.inet_ntoa(told[8:12])
            if told[4:8] != told[8:12]:
                asked = "255.255.255.255"
            return _reachable(sockaddr, asked, ((level, kind, bytes(4) + told[4:8] + bytes(4)),))
    return Peer.unix(None, None, sockaddr) if local else Peer.inet(sockaddr)


def _reachable(sockaddr: Any, asked: str, control: Ancillary) -> Peer:
    """A peer that asked a wildcard socket; one that asked a whole network gets no answer: it amplifies."""
    peer = Peer.inet(sockaddr, control)
    if asked.startswith(GROUP_PREFIXES):
        return Peer(None, host=peer.host, port=peer.port)
    return peer
