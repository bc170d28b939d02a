"""echo on datagrams: one back for one, to who may be answered."""

from collections.abc import Sequence

from sockd.limits.reflection import Reflection
from sockd.peers import Peer
from sockd.protocols.contract import DatagramProtocol


class EchoDatagrams(DatagramProtocol):
    """`reflection` says who is not answered."""

    def __init__(self, prefix: bytes, reflection: Reflection) -> None:
        self._prefix = prefix
        self._reflection = reflection

    def datagrams(self, batch: Sequence[tuple[bytes, Peer]]) -> None:
        if self._reflection.refuses(batch):
            reasons = [self._reflection.refusal(peer) for _, peer in batch]
            self.transport.counters.refused.update(filter(None, reasons))
            batch = [answered for answered, reason in zip(batch, reasons, strict=True) if reason is None]
        if self._prefix:
            batch = [(self._prefix + data, peer) for data, peer in batch]
        self.transport.send_many(batch)
