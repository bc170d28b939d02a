"""A chat on a clock, one datagram listener, and members who come by it."""

import re
from collections.abc import Sequence
from typing import Any

from twisted.logger import Logger, formatEvent

from sockd.base.metrics import Counters
from sockd.base.peers import Peer
from sockd.protocols.chat.datagram import ChatDatagrams
from sockd.protocols.chat.options import ChatOptions
from sockd.protocols.chat.service import ChatService
from sockd.protocols.chat.specification import specification
from sockd.protocols.contract import Host
from tests.protocols.reactors import ClockReactor

DAVE = Peer.inet(("192.0.2.4", 4004))
ERIN = Peer.inet(("192.0.2.5", 4005))
UNIX = Peer.unix(1000, 77, "/run/someone.sock")


class Net:
    """One endpoint on a clock, one datagram listener, and what it sent to whom."""

    def __init__(self, clock: ClockReactor | None = None, **options: Any) -> None:
        self.counters = Counters()
        self.sent: list[tuple[bytes, Peer]] = []
        self.deaf: set[Peer] = set()
        self.paused = False

        self.left: set[Peer] = set()
        self.clock = clock or ClockReactor()
        self.why = ""
        self.logged: list[str] = []
        log = Logger(observer=lambda event: self.logged.append(formatEvent(event)))  # type: ignore[arg-type]
        host: Host[ChatOptions] = Host(
            "lobby", ChatOptions(**options), self.clock, log, fail=lambda _error: None
        )
        assert specification.service is not None
        assert specification.datagram is not None
        service = host.service = specification.service(host)
        assert isinstance(service, ChatService)
        service.chat.guests = 0
        self.service = service
        listener = specification.datagram(host)
        assert isinstance(listener, ChatDatagrams)
        self.listener = listener
        self.listener.start(self)
        service.startService()

    def send(self, data: bytes, peer: Peer) -> bool:
        assert len(data) <= 1400
        if peer in self.deaf:
            return False
        self.sent.append((data, peer))
        return True

    def send_many(self, replies: Sequence[tuple[bytes, Peer]]) -> None:
        for data, peer in replies:
            self.send(data, peer)

    def refuse(self, reason: str, peers: Sequence[Peer], why: str = "") -> None:
        self.counters.refused[reason] += len(peers)
        self.why = why

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def gone(self, peer: Peer) -> bool:
        return peer in self.left

    def failed(self, where: str) -> None:
        raise AssertionError(where)

    def receive(self, data: bytes, peer: Peer) -> list[str]:
        """One datagram from a peer; the lines that this peer is sent."""
        self.listener.datagrams([(data, peer)])
        return self.heard(peer)

    def heard(self, peer: Peer) -> list[str]:
        self.clock.advance(0)
        lines = b"".join(data for data, to in self.sent if to == peer).decode().splitlines()
        self.sent = [(data, to) for data, to in self.sent if to != peer]
        return lines

    def prove(self, peer: Peer, behind: bytes = b"\n") -> list[str]:
        asked = self.receive(b"hello\n", peer)
        assert len(asked) == 1
        found = re.search("/prove [0-9a-f-]+", asked[0])
        assert found
        return self.receive(found[0].replace("-", "").encode() + behind, peer)

    def join(self, peer: Peer, name: str) -> None:
        if peer.local:
            self.receive(b"", peer)
        else:
            self.prove(peer)
        self.receive(f"/nick {name}\n".encode(), peer)
        self.clock.advance(1)
        self.sent.clear()
