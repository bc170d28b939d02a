"""line-log over streams: what each chunk completes goes to the sink, in a few large pieces."""

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from sockd.lines import LineSplitter, Part, Sort
from sockd.protocols.contract import State
from sockd.protocols.line_log.backlog import Backlog
from sockd.protocols.line_log.records import Mark, Records
from sockd.sinks.file import FileSink, Source

# What a read gave is recorded in steps of so many bytes: they stay in the processor's cache, and one of
# nothing but newlines, each of which becomes a record, takes 0.2 ms.
STEP = 16 * 1024
# Other than ASCII may be what is dear to escape: the worst that a peer can send takes 1 ms in steps of these.
STEP_BEYOND_ASCII = 4 * 1024
# After so many bytes of records others have their turn: with lines of 60 bytes a whole read makes less.
MOST = 384 * 1024
# A piece of a line that is too long takes as long as so many bytes of records.
PIECE = 1024

_MARKS = {Sort.CUT: Mark.CUT, Sort.UNFINISHED: Mark.NO_NEWLINE}


class LineLog(Protocol):
    """One connection. It pauses while the sink is full or it is in the backlog; it never answers."""

    transport: Any

    def __init__(
        self, sink: FileSink, backlog: Backlog, records: Records, max_line: int, now: Callable[[], int]
    ) -> None:
        self._sink = sink
        self._backlog = backlog
        self._records = records
        self._splitter = LineSplitter(max_line)
        self._now = now
        self._left = b""  # was read and isn't recorded; while there is some, the backlog has us
        self._sink_full = False
        self.lost = False

    def connectionMade(self) -> None:  # noqa: N802
        self._peer: str = self.transport.peer.text
        self._sink.attach(self)

    def freeze(self) -> State:
        """What is not recorded yet. What was recorded is the sink's to keep."""
        return {"line": self._splitter.rest + self._left}

    def thaw(self, state: State) -> None:
        self.connectionMade()
        # Where the file allows only shorter lines by now, this gives records at once.
        self.dataReceived(state["line"])

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        if len(data) <= STEP_BEYOND_ASCII and not self._left:
            self._record(data)
        elif self._left:
            self._left += data
        else:
            self._left = data
            if self.go_on():
                self.transport.pauseProducing()
                self._backlog.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002, N802
        self._sink.detach(self)
        self.lost = True
        if not self._left:
            self._end()

    # -- from the sink

    def pauseProducing(self) -> None:  # noqa: N802
        self._sink_full = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:  # noqa: N802
        self._sink_full = False
        if not self._left:
            self.transport.resumeProducing()

    # -- from the backlog

    def go_on(self) -> bool:
        """Record what is left, as far as one event may; whether some still is."""
        data = self._left
        at = recorded = 0
        while at < len(data) and recorded < MOST:
            step = data[at : data.rfind(b"\n", at, at + STEP) + 1 or at + STEP]
            if not step.isascii():
                step = step[:STEP_BEYOND_ASCII]
            at += len(step)
            recorded += self._record(step)
        self._left = data[at:]
        return bool(self._left)

    def finished(self) -> None:
        """Nothing is left."""
        if self.lost:
            self._end()
        elif not self._sink_full:
            self.transport.resumeProducing()

    # -- records

    def _record(self, data: bytes) -> int:
        """Record the lines that this completes; about how many bytes of records that was work for."""
        if self._splitter.alone(data):
            records = self._records.lines(self._now(), self._peer, data)
            self._sink.write(records, self)
            return len(records)
        parts = self._splitter.feed(data)
        return self._record_parts(parts, self) + PIECE * len(parts)

    def _end(self) -> None:
        self._record_parts(self._splitter.end(), None)

    def _record_parts(self, parts: list[Part], source: Source | None) -> int:
        now = self._now()
        written = [
            self._records.lines(now, self._peer, data)
            if sort is Sort.LINES
            else self._records.piece(now, self._peer, data, _MARKS[sort])
            for sort, data in parts
        ]
        records = written[0] if len(written) == 1 else b"".join(written)
        if records:
            self._sink.write(records, source)
        return len(records)


class LineLogFactory(Factory):
    noisy = False

    def __init__(
        self,
        sink: FileSink,
        backlog: Backlog,
        records: Records,
        max_line: int,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._arguments = (sink, backlog, records, max_line, now)

    def buildProtocol(self, _address: object) -> LineLog:  # noqa: N802
        return LineLog(*self._arguments)
