"""echo on connections. Memory and half-close are the transport's: it stops reading from who doesn't read."""

from collections.abc import Sequence
from typing import Any

from twisted.internet.protocol import Factory, Protocol

from sockd.base.peers import Peer
from sockd.limits.reflection import Reflection
from sockd.protocols.contract import DatagramProtocol, State

# With a prefix a read of nothing but newlines becomes an answer of so many bytes at most: 1 ms, and no more
# is owed to who doesn't read.
ANSWER = 512 * 1024


class Echo(Protocol):
    """The same bytes back; with a prefix, that before each line, whatever its length."""

    transport: Any

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self._at_start = True

    def connectionMade(self) -> None:  # noqa: N802
        # Nothing is to be done between the two, unless somebody has put something there.
        if not self._prefix and getattr(self.dataReceived, "__func__", None) is Echo.dataReceived:
            self.dataReceived = self.transport.write  # type: ignore[method-assign]
        elif self._prefix:
            self.transport.limit_read(max(1024, ANSWER // (1 + len(self._prefix))))

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
        # The file may have another prefix by now: a connection keeps the one it began with.
        self._prefix = bytes(state["prefix"])
        self._at_start = bool(state["at_start"])
        self.connectionMade()


class EchoFactory(Factory):
    """Makes an Echo for each connection."""

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix

    def buildProtocol(self, addr: Any) -> Protocol:  # noqa: N802, ARG002
        return Echo(self._prefix)


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
