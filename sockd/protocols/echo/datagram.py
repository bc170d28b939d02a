"""echo on datagrams: one back for one, to who may be answered."""

from collections.abc import Callable, Sequence

from sockd.peers import Peer
from sockd.protocols.contract import DatagramProtocol


class EchoDatagrams(DatagramProtocol):
    """`refusal(peer)` gives the reason not to answer a peer, or None."""

    def __init__(self, prefix: bytes, refusal: Callable[[Peer], str | None]) -> None:
        self._prefix = prefix
        self._refusal = refusal

    def datagrams(self, batch: Sequence[tuple[bytes, Peer]]) -> None:
        reasons: dict[int, str | None] = {}  # by peer: most that come together are a few peers' many
        for _, peer in batch:
            if id(peer) not in reasons:
                reasons[id(peer)] = self._refusal(peer)
        if any(reasons.values()):
            each = [reasons[id(peer)] for _, peer in batch]
            self.transport.counters.refused.update(filter(None, each))
            batch = [answered for answered, reason in zip(batch, each, strict=True) if reason is None]
        if self._prefix:
            batch = [(self._prefix + data, peer) for data, peer in batch]
        self.transport.send_many(batch)
