"""The senders of datagrams: a Peer for each, made of what the kernel says of it, and found again."""

import socket
from collections.abc import Callable, Sequence
from typing import Any

from sockd.base.peers import Ancillary, Peer, Sockaddr, unmapped
from sockd.limits.access import Access
from sockd.limits.reflection import GROUP_PREFIXES
from sockd.transports.sockets.inet import IP_PKTINFO
from sockd.transports.sockets.unix import sent_credentials

# What tells senders apart, as the receiver makes it (`receive.Receiver`).
Key = Any
# Senders whose Peer is kept to be found again. All are forgotten together: one is made in microseconds.
PEERS_KEPT = 1024


class Senders:
    """The senders to one socket; `origin(key)` is a sender's address and ancillary data."""

    def __init__(self, origin: Callable[[Key], tuple[Sockaddr, Ancillary]], *, local: bool) -> None:
        self._origin = origin
        self._local = local
        self._peers: dict[Key, Peer] = {}
        self._access: Access | None = None
        self._barred: dict[tuple[Peer, int | None], str | None] = {}  # what access says, as far as asked

    def __len__(self) -> int:
        return len(self._peers)

    def of(self, keys: Sequence[Key]) -> list[Peer]:
        """The senders of datagrams that came with these keys."""
        try:
            return list(map(self._peers.__getitem__, keys))
        except KeyError:
            return list(map(self.one, keys))

    def one(self, key: Key) -> Peer:
        """The sender of a datagram that came with this key."""
        return self._peers.get(key) or self._meet(key)

    def _meet(self, key: Key) -> Peer:
        if len(self._peers) >= PEERS_KEPT:
            self._peers.clear()
        peer = self._peers[key] = peer_of(*self._origin(key), local=self._local)
        return peer

    def admit(self, access: Access | None) -> None:
        """Apply these rules from now on; None allows every sender."""
        self._access = access
        self._barred.clear()

    def refusal(self, peer: Peer) -> str | None:
        """The counter's name of the reason why this sender is refused, or None."""
        if self._access is None:
            return None
        key = (peer, peer.gid)
        if key not in self._barred:
            if len(self._barred) >= PEERS_KEPT:
                self._barred.clear()
            groups = frozenset() if peer.gid is None else frozenset({peer.gid})
            self._barred[key] = self._access.refusal(peer, groups)
        return self._barred[key]

    def refusals(self, peers: Sequence[Peer]) -> list[str | None]:
        """The same for each of them; most often they are few, and the same ones."""
        reasons = {number: self.refusal(peer) for number, peer in {id(peer): peer for peer in peers}.items()}
        return list(map(reasons.__getitem__, map(id, peers)))


def peer_of(sockaddr: Sockaddr, ancillary: Ancillary, *, local: bool) -> Peer:
    """The Peer that `recvmsg` had this from: a `local` one is at a Unix socket."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            uid, pid, gid = sent_credentials(data)
            return Peer.unix(uid, pid, sockaddr, gid)
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            asked = unmapped(socket.inet_ntop(socket.AF_INET6, data[:16]))
            # The interface matters for link-local addresses alone (RFC 3542, 6.2); else routing decides.
            interface = data[16:20] if asked.startswith("fe80:") else bytes(4)
            return _reachable(sockaddr, asked, ((level, kind, data[:16] + interface),))
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            # struct in_pktinfo: interface, the local address to reply from, the address that was asked
            asked = socket.inet_ntoa(data[8:12])
            if data[4:8] != data[8:12]:
                asked = "255.255.255.255"
            return _reachable(sockaddr, asked, ((level, kind, bytes(4) + data[4:8] + bytes(4)),))
    return Peer.unix(None, None, sockaddr) if local else Peer.inet(sockaddr)


def _reachable(sockaddr: Sockaddr, asked: str, control: Ancillary) -> Peer:
    """A peer that sent to a wildcard socket. A datagram to a whole network gets no answer: it amplifies."""
    peer = Peer.inet(sockaddr, control)
    if asked.startswith(GROUP_PREFIXES):
        return Peer(None, host=peer.host, port=peer.port)
    return peer
