"""line-log's connections on fake transports, and a sink that keeps what it is given."""

from typing import Any

from twisted.internet.testing import StringTransport

from sockd.base.peers import Peer
from sockd.base.reactor import later_by
from sockd.protocols.line_log.records import records_for
from sockd.protocols.line_log.service import Backlog
from sockd.protocols.line_log.stream import LineLogConnection, LineLogFactory
from tests.protocols.reactors import ClockReactor


class Turns(ClockReactor):
    """A reactor's clock: a call without delay is made in the next turn."""

    def callLater(self, delay: float, callable: Any, *args: object, **kw: object) -> Any:  # noqa: A002
        return super().callLater(max(delay, 0.001), callable, *args, **kw)

    def turn(self) -> None:
        self.advance(0.001)


class MemorySink:
    """Keeps the records, and who is attached."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.sources: list[Any] = []
        self.given: list[Any] = []
        self.clock = Turns()
        self.backlog = Backlog(later_by(self.clock))
        self.full = False

    def write(self, records: bytes, source: Any = None) -> None:
        self.records.append(records)
        self.given.append(source)

    def attach(self, source: Any) -> None:
        self.sources.append(source)
        if self.full:
            source.pauseProducing()

    def detach(self, source: Any) -> None:
        self.sources.remove(source)

    def fill(self, but: Any = None) -> None:
        self.full = True
        for source in (self.backlog, *self.sources):
            if source is not but:
                source.pauseProducing()

    def empty(self) -> None:
        self.full = False
        for source in (self.backlog, *self.sources):
            source.resumeProducing()

    @property
    def text(self) -> str:
        return b"".join(self.records).decode()

    def turns(self) -> int:
        """Let the backlog work; how many of the reactor's turns that took."""
        count = 0
        while self.backlog:
            self.clock.turn()
            count += 1
        return count


class Transport(StringTransport):
    """A connection's."""

    def __init__(self) -> None:
        super().__init__()
        self.peer = Peer.unix(0, 7)
        self.identity = ""
        self.paused = False

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False


def is_paused(protocol: LineLogConnection) -> bool:
    """Whether the connection is not read from."""
    assert isinstance(protocol.transport, Transport)
    return protocol.transport.paused


def build(sink: Any, max_line: int, form: str) -> LineLogConnection:
    factory = LineLogFactory(sink, sink.backlog, records_for(form, "applog"), max_line, lambda: 0)
    return factory.buildProtocol(None)


def connect(sink: Any, max_line: int = 64, form: str = "text") -> LineLogConnection:
    protocol = build(sink, max_line, form)
    protocol.makeConnection(Transport())
    return protocol


def thawed(old: LineLogConnection, sink: Any, max_line: int = 64, form: str = "text") -> LineLogConnection:
    """The same connection in a new program."""
    new = build(sink, max_line, form)
    new.transport = old.transport
    new.connected = 1
    new.thaw(old.freeze())
    return new
