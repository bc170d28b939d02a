"""What a listener counts of a datagram port, for ports without one."""

from collections import Counter
from collections.abc import Callable, Sequence

from sockd.base.metrics import Counters
from sockd.base.peers import Peer


class Book:
    """The counters; `whys` are the reasons in words, each with its peer, and `sent` what peers have sent."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.whys: list[tuple[str, str]] = []
        self.sent: Counter[str] = Counter()  # bytes, by the peers' texts

    def refuse(self, reason: str, peers: Sequence[Peer], why: str | Callable[[], str]) -> None:
        self.counters.refused[reason] += len(peers)
        text = why if isinstance(why, str) else why()
        self.whys += [(peer.text, text) for peer in peers]

    def enter(self, peer: Peer) -> None:
        self.sent[peer.text] += peer.size
        peer.datagrams = peer.size = 0
