"""The senders of datagrams: a Peer for each, made of what the kernel says of it, and found again."""

import errno
import socket
from collections.abc import Callable, Iterator, Sequence

from sockd.base.peers import Ancillary, Peer, Sockaddr, unmapped
from sockd.limits.access import Access
from sockd.limits.reflection import GROUP_PREFIXES
from sockd.transports.datagrams.receive import Key
from sockd.transports.sockets.inet import IP_PKTINFO
from sockd.transports.sockets.unix import sent_credentials

# Senders whose Peer is kept to be found again. All are forgotten together: one is made in microseconds.
PEERS_KEPT = 1024
# Of those that were forgotten, so many are entered into the accounts for each one that is met.
_ENTERED_AT_ONCE = 2
_ENTERED_IN_A_PIECE = 128  # 0.2 ms
_DISCARD = 9  # a port to which nothing is sent


class Senders:
    """The senders to one socket; `origin(key)` is a sender's address and ancillary data.

    `enter(peer)` is called for a sender that has sent something since, and resets what its Peer counts; the
    socket is bound to `address`.
    """

    def __init__(
        self,
        origin: Callable[[Key], tuple[Sockaddr, Ancillary]],
        enter: Callable[[Peer], None],
        address: Sockaddr,
        *,
        local: bool,
    ) -> None:
        self._origin = origin
        self._enter = enter
        self._local = local
        self._broadcasts = Broadcasts()
        self._all_broadcast = not local and self._broadcasts.has(unmapped(address[0]))
        self._leaving: list[Peer] = []
        self._peers: dict[Key, Peer] = {}
        self._access: Access | None = None
        self._barred: dict[tuple[Peer, int | None], str | None] = {}  # what access says, as far as asked

    def __len__(self) -> int:
        return len(self._peers)

    @property
    def verdicts_kept(self) -> int:
        """For how many senders it is remembered what access says; PEERS_KEPT at most."""
        return len(self._barred)

    def of(self, keys: Sequence[Key]) -> list[Peer]:
        """The senders of datagrams that came with these keys."""
        try:
            return list(map(self._peers.__getitem__, keys))
        except KeyError:
            return list(map(self.one, keys))

    def receive(self, datagrams: Sequence[bytes], keys: Sequence[Key], peers: list[Peer]) -> int:
        """Add the senders of these datagrams to `peers`, and count what they sent; its bytes."""
        if not keys:
            return 0
        met = self.of(keys)
        sizes = list(map(len, datagrams))
        size = sum(sizes)
        if keys.count(keys[0]) == len(keys):
            met[0].datagrams += len(keys)
            met[0].size += size
        else:
            for peer, length in zip(met, sizes, strict=True):
                peer.datagrams += 1
                peer.size += length
        peers += met
        return size

    def one(self, key: Key) -> Peer:
        """The sender of a datagram that came with this key."""
        return self._peers.get(key) or self._meet(key)

    def _meet(self, key: Key) -> Peer:
        if len(self._peers) >= PEERS_KEPT:
            self._leaving += self._peers.values()
            self._peers.clear()
        for _ in range(min(_ENTERED_AT_ONCE, len(self._leaving))):
            self._enter_one(self._leaving.pop())
        sockaddr, ancillary = self._origin(key)
        peer = peer_of(sockaddr, ancillary, local=self._local, broadcasts=self._broadcasts)
        if self._all_broadcast:
            peer = Peer(None, host=peer.host, port=peer.port)
        self._peers[key] = peer
        return peer

    def enter_all(self) -> Iterator[None]:
        """Enter all senders into the accounts; it may be interrupted wherever it yields."""
        everybody, self._leaving = [*self._leaving, *self._peers.values()], []
        for number, peer in enumerate(everybody, 1):
            self._enter_one(peer)
            if not number % _ENTERED_IN_A_PIECE:
                yield

    def _enter_one(self, peer: Peer) -> None:
        if peer.datagrams:
            self._enter(peer)

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

    def why(self, peer: Peer) -> str:
        """The rule by which this sender is refused."""
        return "" if self._access is None else self._access.why(peer)

    def refusals(self, peers: Sequence[Peer]) -> list[str | None]:
        """The same for each of them; most often they are few, and the same ones."""
        reasons = {number: self.refusal(peer) for number, peer in {id(peer): peer for peer in peers}.items()}
        return list(map(reasons.__getitem__, map(id, peers)))


class Broadcasts:
    """Which addresses stand for many hosts: what was sent to one of them must not be answered."""

    def __init__(self) -> None:
        self._known: dict[str, bool] = {}

    def has(self, host: str) -> bool:
        """Whether this is a multicast group, or the broadcast address of a network that we are in."""
        if host.startswith(GROUP_PREFIXES):
            return True
        if ":" in host:
            return False
        if host not in self._known:
            if len(self._known) >= PEERS_KEPT:
                self._known.clear()
            self._known[host] = is_broadcast(host)
        return self._known[host]


def is_broadcast(host: str) -> bool:
    """Ask the kernel, which knows the networks: it connects to a broadcast address only if told to.

    Nothing is sent. EACCES: "the user tried to connect to a broadcast address without having the socket
    broadcast flag enabled" (connect(2)).
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            return probe.connect_ex((host, _DISCARD)) == errno.EACCES
    except OSError:  # no descriptors left; then the kernel refuses what is sent from there
        return False


def peer_of(sockaddr: Sockaddr, ancillary: Ancillary, *, local: bool, broadcasts: Broadcasts) -> Peer:
    """The Peer that `recvmsg` had this from: a `local` one is at a Unix socket."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            uid, pid, gid = sent_credentials(data)
            return Peer.unix(uid, pid, sockaddr, gid)
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            asked = unmapped(socket.inet_ntop(socket.AF_INET6, data[:16]))
            # The interface matters for link-local addresses alone (RFC 3542, 6.2); else routing decides.
            interface = data[16:20] if asked.startswith("fe80:") else bytes(4)
            control = ((level, kind, data[:16] + interface),)
            return _reachable(sockaddr, control, many=broadcasts.has(asked))
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            # struct in_pktinfo: interface, the local address to reply from, the address that was asked
            asked = socket.inet_ntoa(data[8:12])
            many = data[4:8] != data[8:12] or asked.startswith(GROUP_PREFIXES)
            return _reachable(sockaddr, ((level, kind, bytes(4) + data[4:8] + bytes(4)),), many=many)
    return Peer.unix(None, None, sockaddr) if local else Peer.inet(sockaddr)


def _reachable(sockaddr: Sockaddr, control: Ancillary, *, many: bool) -> Peer:
    """A peer that sent to a wildcard socket. A datagram to `many` hosts gets no answer: it amplifies."""
    peer = Peer.inet(sockaddr, control)
    return Peer(None, host=peer.host, port=peer.port) if many else peer
