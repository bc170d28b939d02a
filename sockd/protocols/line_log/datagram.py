"""line-log over datagrams: a batch goes to the sink as one piece."""

import time
from collections.abc import Callable, Sequence

from sockd.lines import Sort, split
from sockd.peers import Peer
from sockd.protocols.contract import DatagramProtocol
from sockd.protocols.line_log.records import Mark, Records
from sockd.sinks.file import FileSink

SINK_FULL = "sink full"


class LineLogDatagrams(DatagramProtocol):
    """One datagram address. Nobody can be slowed down: what a full sink can't take is dropped and counted."""

    def __init__(
        self, sink: FileSink, records: Records, max_line: int, now: Callable[[], int] = time.time_ns
    ) -> None:
        self._sink = sink
        self._records = records
        self._max_line = max_line
        self._now = now

    def datagrams(self, batch: Sequence[tuple[bytes, Peer]]) -> None:
        if self._sink.full:
            self.transport.counters.refused[SINK_FULL] += len(batch)
            return
        now = self._now()
        written = b"".join([self._recorded(now, data, peer.text) for data, peer in batch])
        if written:
            self._sink.write(written)

    def _recorded(self, now: int, data: bytes, peer: str) -> bytes:
        """A datagram's last line is whole without a newline: most senders write none."""
        records = self._records
        if not data:
            return b""
        if len(data) <= self._max_line and b"\r" not in data:
            return records.lines(now, peer, data if data.endswith(b"\n") else data + b"\n")
        written = []
        for sort, part in split(data, self._max_line):
            if sort is Sort.LINES:
                written.append(records.lines(now, peer, part))
            else:
                written.append(records.piece(now, peer, part, Mark.CUT if sort is Sort.CUT else None))
        return b"".join(written)
