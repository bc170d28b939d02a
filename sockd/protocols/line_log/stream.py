"""line-log over streams: what each chunk completes goes to the sink as one piece."""

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from sockd.lines import LineSplitter, Part, Sort
from sockd.protocols.contract import State
from sockd.protocols.line_log.records import Mark, Records
from sockd.sinks.file import FileSink

_MARKS = {Sort.CUT: Mark.CUT, Sort.UNFINISHED: Mark.NO_NEWLINE}


class LineLog(Protocol):
    """One connection. It pauses while the sink is full; it never answers."""

    transport: Any

    def __init__(self, sink: FileSink, records: Records, max_line: int, now: Callable[[], int]) -> None:
        self._sink = sink
        self._records = records
        self._splitter = LineSplitter(max_line)
        self._now = now

    def connectionMade(self) -> None:  # noqa: N802
        self._peer: str = self.transport.peer.text
        self._sink.attach(self.transport)

    def freeze(self) -> State:
        """The line that is not finished. What was recorded is the sink's to keep."""
        return {"line": self._splitter.rest}

    def thaw(self, state: State) -> None:
        self.connectionMade()
        # Where the file allows only shorter lines by now, this gives records at once.
        self.dataReceived(state["line"])

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        records = self._records_of(self._splitter.feed(data))
        if records:
            self._sink.write(records, self.transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002, N802
        self._sink.detach(self.transport)
        records = self._records_of(self._splitter.end())
        if records:
            self._sink.write(records)

    def _records_of(self, parts: list[Part]) -> bytes:
        now = self._now()
        written = [
            self._records.lines(now, self._peer, data)
            if sort is Sort.LINES
            else self._records.piece(now, self._peer, data, _MARKS[sort])
            for sort, data in parts
        ]
        return written[0] if len(written) == 1 else b"".join(written)


class LineLogFactory(Factory):
    noisy = False

    def __init__(
        self, sink: FileSink, records: Records, max_line: int, now: Callable[[], int] = time.time_ns
    ) -> None:
        self._arguments = (sink, records, max_line, now)

    def buildProtocol(self, _address: object) -> LineLog:  # noqa: N802
        return LineLog(*self._arguments)
