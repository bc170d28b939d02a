"""line-log over datagrams: a batch goes to the sink as one piece, unless that takes too long for one event.

Nobody can be slowed down here: what a full sink can't take is dropped and counted. As on connections, one
event records a bounded amount. Most batches are within it, one line a datagram, and are escaped as one block.
Of others each datagram is recorded by itself, in later turns of the reactor; a long one as a connection that
has ended, step by step. What arrives behind them waits, so that the records keep the order of arrival.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence

from sockd.base.lines import Sort, split
from sockd.base.peers import Peer
from sockd.protocols.contract import DatagramProtocol
from sockd.protocols.line_log.records import Mark, Records
from sockd.protocols.line_log.service import Backlog
from sockd.protocols.line_log.stream import RECORDS_PER_EVENT, STEP_SIZE_NON_ASCII, LineLogConnection
from sockd.sinks.file import FileSink

SINK_FULL = "sink full"
# Bytes received that one event records: of any kind, at worst an empty line each (0.3 ms); of one line a
# datagram, at worst slow to escape (0.6 ms); of one ASCII line a datagram, which is all that an event reads.
ANY_SIZE = STEP_SIZE_NON_ASCII
ONE_LINE_SIZE = 4 * STEP_SIZE_NON_ASCII
ASCII_SIZE = 2 * RECORDS_PER_EVENT
# The rest waits for later turns, up to this many bytes; what arrives then is dropped.
WAITING_LIMIT = 1024 * 1024
_OVERHEAD = 256  # bytes of memory for each waiting datagram, besides its own


class _LongDatagram(LineLogConnection):
    """A datagram that is recorded as if it were all that came by a connection that has ended."""

    def __init__(
        self,
        sink: FileSink,
        backlog: Backlog,
        records: Records,
        max_line: int,
        now: int,
        data: bytes,
        peer: str,
    ) -> None:
        super().__init__(sink, backlog, records, max_line, lambda: now)
        self._peer = peer
        # A line that ends with CR keeps it, as a datagram needs no newline.
        self._left = data if data.endswith(b"\n") else data + (b"\r\n" if data.endswith(b"\r") else b"\n")


class LineLogDatagrams(DatagramProtocol):
    """One datagram listener."""

    def __init__(
        self,
        sink: FileSink,
        backlog: Backlog,
        records: Records,
        max_line: int,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._sink = sink
        self._backlog = backlog
        self._records = records
        self._max_line = max_line
        self._now = now
        # Datagrams for later turns, each with the time of its arrival, and the one that takes several of
        # them.
        self._waiting: deque[tuple[int, bytes, str]] = deque()
        self.held = 0  # bytes of memory that they take
        self._long: _LongDatagram | None = None

    def datagrams(self, batch: Sequence[tuple[bytes, Peer]]) -> None:
        if self._sink.full or self.held > WAITING_LIMIT:
            self.transport.refuse(SINK_FULL, [peer for _, peer in batch])
            return
        filled = [each for each in batch if each[0]]
        if not filled:
            return
        now = self._now()
        waited = self._unrecorded
        records = None if waited else self._block(now, filled)
        if records is not None:
            self._sink.write(records)
            return
        self._waiting += [(now, data, peer.text) for data, peer in filled]
        self.held += sum([len(data) + _OVERHEAD for data, _ in filled])
        if not waited and self.record_some():
            self._backlog.add(self)

    # -- from the backlog

    ended = True  # nobody can be told to wait, so all of it is recorded before a stop or an upgrade

    @property
    def _unrecorded(self) -> bool:
        return bool(self._waiting) or self._long is not None

    def record_some(self) -> bool:
        """Record some of what waits; whether more does."""
        if self._long is not None:
            if not self._long.record_some():
                self._long = None
            return self._unrecorded
        some: list[bytes] = []
        size = work = 0
        while self._waiting and work < RECORDS_PER_EVENT and size < ONE_LINE_SIZE and self._long is None:
            now, data, peer = self._waiting.popleft()
            self.held -= len(data) + _OVERHEAD
            if len(data) > ANY_SIZE:
                self._long = _LongDatagram(
                    self._sink, self._backlog, self._records, self._max_line, now, data, peer
                )
            else:
                some.append(self._records_of(now, data, peer))
                size += len(data)
                work += len(some[-1])
        if some:
            self._sink.write(b"".join(some))
        return self._unrecorded

    def all_recorded(self) -> None:
        """Nothing waits."""

    # -- records

    def _block(self, now: int, batch: Sequence[tuple[bytes, Peer]]) -> bytes | None:
        """The records of a batch, escaped as one block; None where that may take too long for one event."""
        lines = [data for data, _ in batch]
        whole = b"\n".join([*lines, b""])
        if whole.count(b"\n") > len(lines):  # some end with a newline of their own, as they may
            lines = [data.removesuffix(b"\n") for data in lines]
            whole = b"\n".join([*lines, b""])
        # A datagram of several lines, or with carriage returns, or too long, is looked at by itself.
        if whole.count(b"\n") > len(lines) or b"\r" in whole or max(map(len, lines)) > self._max_line:
            if len(whole) > ANY_SIZE:
                return None
            return b"".join([self._records_of(now, data, peer.text) for data, peer in batch])
        if len(whole) > ONE_LINE_SIZE and (len(whole) > ASCII_SIZE or not whole.isascii()):
            return None
        peers = [peer.text for _, peer in batch]
        if peers.count(peers[0]) == len(peers):
            return self._records.lines(now, peers[0], whole)
        return self._records.each(now, peers, whole)

    def _records_of(self, now: int, data: bytes, peer: str) -> bytes:
        """The records of one datagram, whose last line needs no newline: most senders write none."""
        records = self._records
        if len(data) <= self._max_line and b"\r" not in data:
            return records.lines(now, peer, data if data.endswith(b"\n") else data + b"\n")
        written = []
        for sort, part in split(data, self._max_line):
            if sort is Sort.LINES:
                written.append(records.lines(now, peer, part))
            else:
                written.append(records.piece(now, peer, part, Mark.CUT if sort is Sort.CUT else None))
        return b"".join(written)
