"""The contract that protocols of other packages build on."""

from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import ValidationError
from twisted.logger import Logger

from sockd.base.metrics import Counters
from sockd.base.peers import Peer
from sockd.protocols.contract import DatagramProtocol, Host, Options, Specification
from tests.protocols.reactors import ClockReactor


class Transport:
    """A socket that keeps what was sent."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.sent: list[tuple[bytes, Peer]] = []
        self.failures: list[str] = []

    def refuse(self, reason: str, peers: Sequence[Peer], why: str = "") -> None:
        self.counters.refused[reason] += len(peers)

    def pauseProducing(self) -> None:
        raise AssertionError

    resumeProducing = pauseProducing  # noqa: N815

    def failed(self, where: str) -> None:
        self.failures.append(where)

    def send(self, data: bytes, peer: Peer) -> bool:
        self.sent.append((data, peer))
        return True

    def gone(self, _peer: Peer) -> bool:
        return False

    def send_many(self, replies: Sequence[tuple[bytes, Peer]]) -> None:
        self.sent += replies


class Shouting(DatagramProtocol):
    def datagram(self, data: bytes, peer: Peer) -> None:
        self.transport.send(data.upper(), peer)


def test_datagram_is_called_for_each_of_a_batch() -> None:
    """The slow form is made from the fast one, in order."""
    transport, protocol = Transport(), Shouting()
    protocol.start(transport)
    peers = [Peer.inet(("127.0.0.1", port)) for port in (1, 2)]
    batch: Sequence[tuple[bytes, Peer]] = [(b"a", peers[0]), (b"", peers[1])]
    protocol.datagrams(batch)
    assert transport.sent == [(b"A", peers[0]), (b"", peers[1])]
    protocol.drain()
    protocol.stop()


def test_one_datagram_is_not_to_blame_for_another() -> None:
    """A protocol that raises on one of a batch still gets the others; the exception is reported."""

    class Picky(Shouting):
        def datagram(self, data: bytes, peer: Peer) -> None:
            if not data:
                raise KeyboardInterrupt
            super().datagram(data, peer)

    transport, protocol, peer = Transport(), Picky(), Peer.inet(("127.0.0.1", 1))
    protocol.start(transport)
    protocol.datagrams([(b"a", peer), (b"", peer), (b"b", peer)])
    assert [data for data, _ in transport.sent] == [b"A", b"B"]
    assert transport.failures == ["datagram"]


def test_one_of_the_two_must_be_written() -> None:
    """A datagram protocol with neither method says so."""
    with pytest.raises(NotImplementedError):
        DatagramProtocol().datagram(b"", Peer())


def test_options_are_frozen_and_closed() -> None:
    """Unknown options are refused; equal ones are equal."""

    class Mine(Options):
        count: int = 1

    unknown: Any = {"size": 1}
    with pytest.raises(ValidationError):
        Mine(**unknown)
    with pytest.raises(ValidationError):
        Mine().count = 2  # type: ignore[misc]
    assert Mine(count=1) == Mine()


def test_hosts_share_nothing() -> None:
    """Each endpoint has its own counters."""
    hosts = [Host("a", Options(), ClockReactor(), Logger(), lambda error: None) for _ in range(2)]
    hosts[0].counters.refused["x"] += 1
    assert not hosts[1].counters.refused
    assert hosts[0].service is None


def test_a_specification_needs_little() -> None:
    """A protocol without options, service or datagrams says only what it is."""
    specification = Specification("says nothing")
    assert specification.options is Options
    for missing in (specification.stream, specification.datagram, specification.service):
        assert missing is None
    assert specification.idle is None
