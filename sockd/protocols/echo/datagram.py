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
        send = self.transport.send
        for data, peer in batch:
            refused = self._refusal(peer)
            if refused is None:
                send(self._prefix + data if self._prefix else data, peer)
            else:
                self.transport.counters.refused[refused] += 1
