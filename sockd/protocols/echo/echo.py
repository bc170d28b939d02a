"""Returns what it receives: echo on connections and over datagrams.

Memory and half-closed connections are the transport's task: it stops reading from a peer that stops reading.
"""

from collections.abc import Sequence

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from sockd.base.frozen import State
from sockd.base.peers import Peer
from sockd.limits.reflection import Reflection
from sockd.protocols.contract import DatagramProtocol
from sockd.protocols.stream import StreamProtocol

# Bytes of the longest answer to one read. With a prefix a read of nothing but newlines grows by the length of
# the prefix for each of them: up to this size it takes 1 ms, and no more waits for a peer that stops reading.
LONGEST_ANSWER = 512 * 1024
SMALLEST_READ = 1024  # bytes


class Echo(StreamProtocol):
    """The same bytes back; with a prefix, the prefix before each line, whatever its length."""

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self._at_start = True  # of a line

    def connectionMade(self) -> None:  # noqa: N802
        # Without a prefix what is read goes to `write` directly, unless somebody replaced our dataReceived.
        if not self._prefix and getattr(self.dataReceived, "__func__", None) is Echo.dataReceived:
            self.dataReceived = self.transport.write  # type: ignore[method-assign]
        elif self._prefix:
            self.transport.limit_read(max(SMALLEST_READ, LONGEST_ANSWER // (1 + len(self._prefix))))

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        if not self._prefix:
            self.transport.write(data)
            return
        first = self._prefix if self._at_start else b""
        self._at_start = data.endswith(b"\n")
        # The newline at the end gets its prefix when something follows it.
        lines = data[:-1].replace(b"\n", b"\n" + self._prefix)
        self.transport.write(first + lines + data[-1:])

    def freeze(self) -> State:
        return {"prefix": self._prefix, "at_start": self._at_start}

    def thaw(self, state: State) -> None:
        # The file may have another prefix by now; a connection keeps the one that it began with.
        self._prefix = bytes(state["prefix"])
        self._at_start = bool(state["at_start"])
        self.connectionMade()


class EchoFactory(Factory):
    """Makes an Echo for each connection."""

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix

    def buildProtocol(self, addr: IAddress | None) -> Echo:  # noqa: N802, ARG002
        return Echo(self._prefix)


class EchoDatagrams(DatagramProtocol):
    """The same datagrams back, except to peers that `reflection` refuses.

    The prefix stands before each that goes to a Unix socket. Over UDP it would make answers longer than what
    was asked, and the source of that may be forged.
    """

    def __init__(self, prefix: bytes, reflection: Reflection) -> None:
        self._prefix = prefix
        self._reflection = reflection

    def datagrams(self, batch: Sequence[tuple[bytes, Peer]]) -> None:
        if self._reflection.refuses(batch):
            reasons = [self._reflection.refusal(peer) for _, peer in batch]
            for reason in set(filter(None, reasons)):
                self.transport.refuse(
                    reason, [peer for (_, peer), its in zip(batch, reasons, strict=True) if its == reason]
                )
            batch = [answered for answered, reason in zip(batch, reasons, strict=True) if reason is None]
        if self._prefix:
            batch = [(self._prefix + data if peer.local else data, peer) for data, peer in batch]
        self.transport.send_many(batch)
