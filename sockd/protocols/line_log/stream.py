"""line-log on connections: the lines that a read completes go to the sink, in a few large pieces.

Most reads hold a few ordinary lines, and cost a few calls for all of them together: the splitter returns
blocks of lines, the format escapes a block in one pass, the sink takes it whole. The rest of this module
bounds the reads that are made to cost more. Three kinds of them are known, and each has its own bound:

- Many short lines: each becomes a record, so what is read is recorded in steps (STEP_SIZE), and an event ends
  when it has made RECORDS_PER_EVENT bytes of records.
- Bytes that are slow to escape, such as control characters beyond ASCII: steps of these are smaller
  (STEP_SIZE_NON_ASCII).
- One long line of such bytes, which can't be recorded in part: `_escape_by_slices` escapes it slice by slice,
  over several events, and writes its record when all of it is escaped.

What one event doesn't record waits in the backlog (see `service`).
"""

import time
from collections.abc import Callable, Iterator

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure

from sockd.base.frozen import State
from sockd.base.lines import LineSplitter, Part, Sort
from sockd.protocols.line_log.records import Mark, Records
from sockd.protocols.line_log.service import Backlog
from sockd.protocols.stream import StreamProtocol
from sockd.sinks.file import FileSink

# Bytes received that are recorded in one step: they stay in the processor's cache, and a step of nothing but
# newlines, each of which becomes a record, takes 0.2 ms.
STEP_SIZE = 16 * 1024
# The same where not all of them are ASCII: the worst that a peer can send takes 0.6 ms in such a step.
STEP_SIZE_NON_ASCII = 4 * 1024
# Bytes of records after which an event ends: a whole read of lines of 120 bytes makes less.
RECORDS_PER_EVENT = 256 * 1024
# A newcomer isn't read from while this many are in the backlog.
CROWDED_BACKLOG = 8
# What else takes time, in bytes of records that take as long: a piece of a line that is too long, and each
# byte that escaping adds to a long line.
PIECE_COST = 4096
ESCAPED_BYTE_COST = 24

_MARKS = {Sort.CUT: Mark.CUT, Sort.UNFINISHED: Mark.NO_NEWLINE}


class LineLogConnection(StreamProtocol):
    """One connection; it isn't read from while the sink is full or it is in the backlog. It never answers."""

    only_receives = True  # what the kernel acknowledged after our FIN is the sender's record all the same

    def __init__(
        self, sink: FileSink, backlog: Backlog, records: Records, max_line: int, now: Callable[[], int]
    ) -> None:
        self._sink = sink
        self._backlog = backlog
        self._records = records
        self._splitter = LineSplitter(max_line)
        self._now = now
        self._step = min(STEP_SIZE, 64 * max_line)
        # Whether we are in the backlog, which has us no more than once. Nothing is read then.
        self._queued = False
        # What was read and isn't recorded yet: as it came, or as parts that are escaped slice by slice.
        # While there is some we are in the backlog.
        self._left = b""
        self._parts: list[Part] = []
        self._slices: Iterator[int] | None = None
        self._sink_full = False
        self.ended = False

    def connectionMade(self) -> None:  # noqa: N802
        self._peer: str = self.transport.peer.text
        if self.transport.identity:
            self._records = self._records.identified(self.transport.identity)
        self._sink.attach(self)
        if len(self._backlog) >= CROWDED_BACKLOG:
            self.transport.pauseProducing()
            self._queue()

    def freeze(self) -> State:
        """What is not recorded yet; the sink hands on what is."""
        parts = [data if sort is Sort.CUT else data.replace(b"\n", b"\r\n") for sort, data in self._parts]
        return {"line": b"".join([*parts, self._splitter.rest, self._left])}

    def thaw(self, state: State) -> None:
        self.connectionMade()
        # Where the file allows only shorter lines by now, this makes records immediately.
        self.dataReceived(state["line"])

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        if self._queued:
            self._left += data
            return
        if len(data) <= STEP_SIZE_NON_ASCII:
            self._record(data)
            if self._slices is None:
                return
        else:
            self._left = data
        if self.record_some():
            self.transport.pauseProducing()
            self._queue()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002, N802
        self._sink.detach(self)
        self.ended = True
        if self._left or self._slices is not None:
            return  # the backlog records it, then calls `all_recorded`
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

    def record_some(self) -> bool:
        """Record what is left, as far as one event may; whether some still is."""
        data = self._left
        at = work = 0
        while work < RECORDS_PER_EVENT:
            if self._slices is not None:
                work += next(self._slices)
            elif at < len(data):
                step = data[at : data.rfind(b"\n", at, at + self._step) + 1 or at + self._step]
                if not step.isascii():
                    step = step[:STEP_SIZE_NON_ASCII]
                at += len(step)
                work += self._record(step)
            else:
                break
        self._left = data[at:]
        return bool(self._left) or self._slices is not None

    def all_recorded(self) -> None:
        """Nothing is left."""
        self._queued = False
        if self.ended:
            self._end()
        elif not self._sink_full:
            self.transport.resumeProducing()

    # -- records

    def _end(self) -> None:
        self._record_parts(self._splitter.end())
        if self._slices is not None:
            self._queue()

    def _record(self, data: bytes) -> int:
        """Record the lines that these bytes complete; the work that it took, in bytes of records."""
        if self._splitter.alone(data):
            records = self._records.lines(self._now(), self._peer, data)
            self._sink.write(records, self)
            return len(records)
        return self._record_parts(self._splitter.feed(data))

    def _record_parts(self, parts: list[Part]) -> int:
        if any(_slow_to_escape(data) for _sort, data in parts):
            self._parts = parts
            self._slices = self._escape_by_slices()
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
        return len(records) + PIECE_COST * len(parts)

    def _escape_by_slices(self) -> Iterator[int]:
        """Record `_parts`; yields after each slice the work that it took."""
        while True:
            sort, data = self._parts[0]
            if sort is Sort.LINES:
                # The first line may be long, as it was waiting for its end; the others came just now.
                line, _, others = data.partition(b"\n")
                rest = [Part(Sort.LINES, others)] if others else []
            else:
                line, rest = data, []
            record = []
            for written in self._records.slices(
                self._now(), self._peer, line, STEP_SIZE_NON_ASCII, _MARKS.get(sort)
            ):
                record.append(written)
                yield len(written) + ESCAPED_BYTE_COST * max(0, len(written) - STEP_SIZE_NON_ASCII)
            self._sink.write(b"".join(record), self)
            self._parts[:1] = rest
            if not any(_slow_to_escape(data) for _sort, data in self._parts):
                break
        parts, self._parts, self._slices = self._parts, [], None
        yield self._record_parts(parts)


def _slow_to_escape(data: bytes) -> bool:
    """Whether to escape this may take longer than one event may."""
    return len(data) > 2 * STEP_SIZE or (len(data) > 2 * STEP_SIZE_NON_ASCII and not data.isascii())


class LineLogFactory(Factory):
    """Makes a LineLogConnection for each connection."""

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

    def buildProtocol(self, addr: IAddress | None) -> LineLogConnection:  # noqa: N802, ARG002
        return LineLogConnection(*self._arguments)
