"""What a chat's datagram members are to be sent: some of it in each event, the rest in later turns.

One line to a room of 300 is 300 datagrams, which take two milliseconds; of a batch that was read in one event
each may hold a line. On a stream the transport collects what is written and sends it in slices; a datagram
socket has nothing of the kind, so what a listener sends goes through its outbox, in one order for all of its
members. While much of it waits, no more lines are read (`datagram.ChatDatagrams`). What others say, such as
members who come by a stream, is dropped and counted once the outbox is full.
"""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Protocol

from sockd.base.peers import Peer
from sockd.base.reactor import Later, Timer
from sockd.protocols.contract import DatagramTransport

SENDS_PER_EVENT = 64  # one system call for all of them, a quarter of a millisecond at most
CROWDED = 1024  # datagrams that wait: until fewer do, no more lines are read
LIMIT = 65_536  # datagrams that may wait
OUTBOX_FULL = "send queue full"


class Addressee(Protocol):
    """The session of a member."""

    @property
    def peer(self) -> Peer:
        """Where its datagrams go."""

    def sent(self, taken: bool) -> None:
        """One was sent to it; on a Unix socket, whether it was taken."""


class Outbox:
    """Of one listener. `later` is the host's."""

    def __init__(self, later: Later) -> None:
        self._later = later
        self._transport: DatagramTransport | None = None
        self._waiting: deque[tuple[bytes, Addressee]] = deque()
        self._call: Timer | None = None
        self.in_event = False  # `end_event` is to come

    def open(self, transport: DatagramTransport) -> None:
        """Send by this transport."""
        self._transport = transport

    def close(self) -> None:
        """Send what still waits, then nothing more: the socket is about to be closed, or is."""
        while self._waiting:
            self._send_some()
        self._transport = None
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[tuple[bytes, Addressee]]:
        return iter(self._waiting)

    @property
    def crowded(self) -> bool:
        """Whether so much waits that nothing more should be said for now."""
        return len(self._waiting) > CROWDED

    def add(self, data: bytes, to: Addressee) -> None:
        """Send this to a member, after all that waits."""
        transport = self._transport
        if transport is None:
            return
        if len(self._waiting) >= LIMIT:
            transport.counters.refused[OUTBOX_FULL] += 1
            return
        self._waiting.append((data, to))
        if not self.in_event and self._call is None:
            self._call = self._later(self._go_on)

    def end_event(self) -> None:
        """The event is over, and may send some itself, if nothing has waited for longer."""
        self.in_event = False
        if self._waiting and self._call is None:
            self._go_on()

    def _go_on(self) -> None:
        self._call = None
        try:
            self._send_some()
        finally:
            if self._waiting and self._call is None:
                self._call = self._later(self._go_on)

    def _send_some(self) -> None:
        waiting, transport = self._waiting, self._transport
        assert transport is not None  # noqa: S101 - else nothing waits
        batch = list(islice(waiting, SENDS_PER_EVENT))
        for _ in batch:
            waiting.popleft()
        if any(to.peer.local for _, to in batch):
            # A member that is sent something may leave because it takes nothing, which the others are told.
            for data, to in batch:
                to.sent(transport.send(data, to.peer))
        else:
            transport.send_many([(data, to.peer) for data, to in batch])
