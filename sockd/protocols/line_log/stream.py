"""line-log over streams: what each chunk completes goes to the sink, in a few large pieces."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from sockd.base.lines import LineSplitter, Part, Sort
from sockd.protocols.contract import State
from sockd.protocols.line_log.records import Mark, Records
from sockd.protocols.line_log.service import Backlog
from sockd.sinks.file import FileSink

# What a read gave is recorded in steps of so many bytes: they stay in the processor's cache, and one of
# nothing but newlines, each of which becomes a record, takes 0.2 ms.
STEP = 16 * 1024
# Other than ASCII may be dear to escape: the worst that a peer can send takes 0.6 ms in steps of these.
STEP_BEYOND_ASCII = 4 * 1024
# After so many bytes of records others have their turn: a whole read of lines of 120 bytes makes less.
MOST = 256 * 1024
# With so many in the backlog a newcomer isn't read from before they have gone on.
QUEUE = 8
# A piece of a line that is too long takes as long as so many bytes of records,
PIECE = 4096
# and each byte that escaping adds to a long line as long as so many.
ESCAPED = 24

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
        self._step = min(STEP, 64 * max_line)
        # Whether we are in the backlog, which has us no more than once; nothing is read meanwhile.
        self._queued = False
        # What was read and isn't recorded: as it came, and as parts that are being recorded slice by slice.
        # While there is some we are in the backlog.
        self._left = b""
        self._parts: list[Part] = []
        self._slices: Iterator[int] | None = None
        self._sink_full = False
        self.lost = False

    def connectionMade(self) -> None:  # noqa: N802
        self._peer: str = self.transport.peer.text
        self._sink.attach(self)
        if len(self._backlog) >= QUEUE:  # those before us first: else who comes again and again fills memory
            self.transport.pauseProducing()
            self._queue()

    def freeze(self) -> State:
        """What is not recorded yet. What was recorded is the sink's to keep."""
        parts = [data if sort is Sort.CUT else data.replace(b"\n", b"\r\n") for sort, data in self._parts]
        return {"line": b"".join([*parts, self._splitter.rest, self._left])}

    def thaw(self, state: State) -> None:
        self.connectionMade()
        # Where the file allows only shorter lines by now, this gives records at once.
        self.dataReceived(state["line"])

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        if self._queued:
            self._left += data
            return
        if len(data) <= STEP_BEYOND_ASCII:
            self._record(data)
            if self._slices is None:
                return
        else:
            self._left = data
        if self.go_on():
            self.transport.pauseProducing()
            self._queue()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002, N802
        self._sink.detach(self)
        self.lost = True
        if self._left or self._slices is not None:
            return  # the backlog comes to it
        if self._queued:
            self._queued = False
            self._backlog.drop(self)
        self._end()

    def _queue(self) -> None:
        self._queued = True
        self._backlog.add(self)

    # -- from the sink

    def pauseProducing(self) -> None:  # noqa: N802
        self._sink_full = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:  # noqa: N802
        self._sink_full = False
        if not self._queued:
            self.transport.resumeProducing()

    # -- from the backlog

    def go_on(self) -> bool:
        """Record what is left, as far as one event may; whether some still is."""
        data = self._left
        at = work = 0
        while work < MOST:
            if self._slices is not None:
                work += next(self._slices)
            elif at < len(data):
                step = data[at : data.rfind(b"\n", at, at + self._step) + 1 or at + self._step]
                if not step.isascii():
                    step = step[:STEP_BEYOND_ASCII]
                at += len(step)
                work += self._record(step)
            else:
                break
        self._left = data[at:]
        return bool(self._left) or self._slices is not None

    def finished(self) -> None:
        """Nothing is left."""
        self._queued = False
        if self.lost:
            self._end()
        elif not self._sink_full:
            self.transport.resumeProducing()

    # -- records

    def _end(self) -> None:
        self._record_parts(self._splitter.end())
        if self._slices is not None:
            self._queue()

    def _record(self, data: bytes) -> int:
        """Record the lines that this completes; how much work that was, in bytes of records."""
        if self._splitter.alone(data):
            records = self._records.lines(self._now(), self._peer, data)
            self._sink.write(records, self)
            return len(records)
        return self._record_parts(self._splitter.feed(data))

    def _record_parts(self, parts: list[Part]) -> int:
        if any(_dear(data) for _sort, data in parts):
            self._parts = parts
            self._slices = self._slice_by_slice()
            return 0
        now = self._now()
        written = [
            self._records.lines(now, self._peer, data)
            if sort is Sort.LINES
            else self._records.piece(now, self._peer, data, _MARKS[sort])
            for sort, data in parts
        ]
        records = written[0] if len(written) == 1 else b"".join(written)
        if records:
            self._sink.write(records, self)
        return len(records) + PIECE * len(parts)

    def _slice_by_slice(self) -> Iterator[int]:
        """Record `_parts`; yields how much work each bit of it was."""
        while True:
            sort, data = self._parts[0]
            if sort is Sort.LINES:
                # The first may be long, as it was waiting for its end; the others came just now.
                line, _, others = data.partition(b"\n")
                rest = [Part(Sort.LINES, others)] if others else []
            else:
                line, rest = data, []
            record = []
            for written in self._records.slices(
                self._now(), self._peer, line, STEP_BEYOND_ASCII, _MARKS.get(sort)
            ):
                record.append(written)
                yield len(written) + ESCAPED * max(0, len(written) - STEP_BEYOND_ASCII)
            self._sink.write(b"".join(record), self)
            self._parts[:1] = rest
            if not any(_dear(data) for _sort, data in self._parts):
                break
        parts, self._parts, self._slices = self._parts, [], None
        yield self._record_parts(parts)


def _dear(data: bytes) -> bool:
    """Whether it can take longer to escape than one event may."""
    return len(data) > 2 * STEP or (len(data) > 2 * STEP_BEYOND_ASCII and not data.isascii())


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
