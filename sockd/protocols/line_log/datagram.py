"""line-log over datagrams: a batch goes to the sink as one piece, unless it takes too long for one event."""

import time
from collections import deque
from collections.abc import Callable, Sequence

from sockd.base.lines import Sort, split
from sockd.base.peers import Peer
from sockd.protocols.contract import DatagramProtocol
from sockd.protocols.line_log.records import Mark, Records
from sockd.protocols.line_log.service import Backlog
from sockd.protocols.line_log.stream import MOST, STEP_BEYOND_ASCII, LineLog
from sockd.sinks.file import FileSink

SINK_FULL = "sink full"
# Bytes recorded at once that may be records of an empty line each (0.3 ms); that are a line a datagram, but
# may be dear to escape (0.6 ms); that are cheap to: what one event reads.
ANY = STEP_BEYOND_ASCII
SINGLE = 4 * STEP_BEYOND_ASCII
CHEAP = 2 * MOST
# The rest waits for later turns: so many bytes, and those who hold them. What comes then is dropped.
WAITING = 1024 * 1024
_HOLDER = 256


class _Long(LineLog):
    """A datagram as the chunk of a connection that has ended."""

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
    """One datagram address. Nobody can be slowed down: what a full sink can't take is dropped and counted."""

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
        # What waits for later turns, and the one of them that is being recorded in several.
        self._waiting: deque[tuple[int, bytes, str]] = deque()
        self._held = 0  # bytes
        self._long: _Long | None = None

    def datagrams(self, batch: Sequence[tuple[bytes, Peer]]) -> None:
        if self._sink.full or self._held > WAITING:
            self.transport.counters.refused[SINK_FULL] += len(batch)
            return
        filled = [each for each in batch if each[0]]
        if not filled:
            return
        now = self._now()
        waited = self._unrecorded
        records = None if waited else self._recorded_at_once(now, filled)
        if records is not None:
            self._sink.write(records)
            return
        self._waiting += [(now, data, peer.text) for data, peer in filled]
        self._held += sum([len(data) + _HOLDER for data, _ in filled])
        if not waited and self.go_on():
            self._backlog.add(self)

    # -- from the backlog

    lost = True  # nobody is told to wait for us: before a stop or an upgrade all of it is recorded

    @property
    def _unrecorded(self) -> bool:
        return bool(self._waiting) or self._long is not None

    def go_on(self) -> bool:
        """Record some of what waits; whether more does."""
        if self._long is not None:
            if not self._long.go_on():
                self._long = None
            return self._unrecorded
        some: list[bytes] = []
        size = work = 0
        while self._waiting and work < MOST and size < SINGLE and self._long is None:
            now, data, peer = self._waiting.popleft()
            self._held -= len(data) + _HOLDER
            if len(data) > ANY:
                self._long = _Long(self._sink, self._backlog, self._records, self._max_line, now, data, peer)
            else:
                some.append(self._recorded(now, data, peer))
                size += len(data)
                work += len(some[-1])
        if some:
            self._sink.write(b"".join(some))
        return self._unrecorded

    def finished(self) -> None:
        """Nothing waits."""

    # -- records

    def _recorded_at_once(self, now: int, batch: Sequence[tuple[bytes, Peer]]) -> bytes | None:
        """Most datagrams are one line: then all are escaped in one piece. None where that may take long."""
        lines = [data for data, _ in batch]
        whole = b"\n".join([*lines, b""])
        if whole.count(b"\n") > len(lines):  # some end with one of their own, as they may
            lines = [data.removesuffix(b"\n") for data in lines]
            whole = b"\n".join([*lines, b""])
        # A line that has carriage returns, or is too long, is looked at by itself.
        if whole.count(b"\n") > len(lines) or b"\r" in whole or max(map(len, lines)) > self._max_line:
            if len(whole) > ANY:
                return None
            return b"".join([self._recorded(now, data, peer.text) for data, peer in batch])
        if len(whole) > SINGLE and (len(whole) > CHEAP or not whole.isascii()):
            return None
        peers = [peer.text for _, peer in batch]
        if peers.count(peers[0]) == len(peers):
            return self._records.lines(now, peers[0], whole)
        return self._records.each(now, peers, whole)

    def _recorded(self, now: int, data: bytes, peer: str) -> bytes:
        """A datagram's last line is whole without a newline: most senders write none."""
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
