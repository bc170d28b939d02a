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
        filled = [each for each in batch if each[0]]
        if filled:
            self._sink.write(self._recorded_at_once(self._now(), filled))

    def _recorded_at_once(self, now: int, batch: Sequence[tuple[bytes, Peer]]) -> bytes:
        """Most datagrams are one line: then all of them are escaped in one piece."""
        lines = [data for data, _ in batch]
        whole = b"\n".join([*lines, b""])
        if whole.count(b"\n") > len(lines):  # some end with one of their own, as they may
            lines = [data.removesuffix(b"\n") for data in lines]
            whole = b"\n".join([*lines, b""])
        # A line that has carriage returns, or is too long, is looked at by itself.
        if whole.count(b"\n") > len(lines) or b"\r" in whole or max(map(len, lines)) > self._max_line:
            return b"".join([self._recorded(now, data, peer.text) for data, peer in batch])
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
