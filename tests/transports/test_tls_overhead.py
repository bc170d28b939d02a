"""Records that hold nothing for the protocol: an event has few of them, a connection bears few a second."""

import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sockd.base.metrics import End
from sockd.transports.records import (
    RECORDS_AT_ONCE,
    RECORDS_PER_EVENT,
    USELESS_RECORDS,
    Portion,
    next_records,
)
from tests.tls_clients import Client
from tests.tls_forger import CLIENT_HELLO, HANDSHAKE, Forger, KeyUpdates
from tests.transports.loop import Probe
from tests.transports.test_tls import Link

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
ALERT, DATA = 21, 23
WHY = "too many records without data"


class Flood:
    """A connection whose client makes its records itself; `calls` are the bytes that OpenSSL got at once."""

    def __init__(self, keys: Path, version: ssl.TLSVersion) -> None:
        self.probe = Probe()
        self.link = Link(self.probe)
        self.loop, self.connection = self.link.loop, self.link.connection
        self.sock = socket.socket(fileno=self.link.client.tls.detach())
        self.record: Callable[[], bytes]
        if version is V12:
            forger = Forger(self.sock, keys)
            self.loop.until(forger.shake, self.sock)
            self.record = lambda: forger.record(HANDSHAKE, CLIENT_HELLO)
            self.forger = forger
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.keylog_filename = str(keys)
            client = Client(self.sock, V13, context=context)
            self.loop.until(client.shake, client.tls)
            self.sock = socket.socket(fileno=client.tls.detach())
            self.record = KeyUpdates(keys).record
        self.loop.until(lambda: self.connection.ready)
        self.loop.settle()
        self.sock.setblocking(False)

    def send(self, records: bytes) -> None:
        """Send them, and have them handled."""
        self.sock.send(records)
        self.loop.turn((), 10.0)  # until they have come
        self.loop.settle()

    @property
    def refused(self) -> dict[str, int]:
        return dict(self.link.counters.refused)

    def close(self) -> None:
        self.sock.close()
        self.connection.abortConnection()
        self.loop.settle()


@pytest.fixture
def flood(tmp_path: Path) -> Iterator[Callable[[ssl.TLSVersion], Flood]]:
    made: list[Flood] = []

    def make(version: ssl.TLSVersion) -> Flood:
        made.append(Flood(tmp_path / "keys", version))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("version", [V12, V13])
def test_a_flood_ends_the_connection(version: ssl.TLSVersion, flood: Callable[..., Flood]) -> None:
    """KeyUpdates, and requests for another handshake: the log and the counters say why it ended."""
    one = flood(version)
    one.send(b"".join(one.record() for _ in range(USELESS_RECORDS.count + 1)))
    assert one.link.owner.ends == [End.TLS]
    assert one.connection.why == WHY
    assert one.refused == {f"TLS: {WHY}": 1}


@pytest.mark.parametrize("version", [V12, V13])
def test_a_few_are_borne(version: ssl.TLSVersion, flood: Callable[..., Flood]) -> None:
    """As many at once as the rate has, and again when it has recovered."""
    one = flood(version)
    for _ in range(2):
        one.send(b"".join(one.record() for _ in range(USELESS_RECORDS.count)))
        assert one.connection.connected
        one.loop.advance(USELESS_RECORDS.per)
    one.send(one.record())
    assert one.connection.connected
    assert not one.refused


def test_one_at_a_time(flood: Callable[..., Flood]) -> None:
    """A record in each read is counted as those that come together."""
    one = flood(V13)
    for number in range(USELESS_RECORDS.count + 1):
        assert one.connection.connected, number
        one.send(one.record())
    assert one.link.owner.ends == [End.TLS]


def test_between_data(flood: Callable[..., Flood]) -> None:
    """Data in between buys none: each byte of data would buy a millisecond."""
    one = flood(V12)
    for _ in range(USELESS_RECORDS.count // 4 + 1):
        records = [one.forger.record(DATA, b"x"), *(one.record() for _ in range(4))]
        one.send(b"".join(records))
    assert one.link.owner.ends == [End.TLS]


def test_warnings_and_empty_records(flood: Callable[..., Flood]) -> None:
    """They are records without data like any other, though OpenSSL has bounds of its own for some of them."""
    one = flood(V12)
    warning, empty = bytes([1, 90]), b""
    while one.connection.connected:
        one.send(b"".join([one.forger.record(ALERT, warning), one.forger.record(DATA, empty), one.record()]))
    assert one.link.owner.ends == [End.TLS]
    assert one.refused == {f"TLS: {WHY}": 1}


def test_an_event_has_few_of_them(flood: Callable[..., Flood]) -> None:
    """What OpenSSL gets in one event doesn't grow with what was read."""
    one = flood(V13)
    records = [one.record() for _ in range(2000)]
    assert one.link.turn.tls is not None
    incoming, outgoing = one.link.turn.tls[:2]
    portion = Portion(one.connection.session, incoming, b"".join(records), 0)
    outgoing.read()
    assert portion.rest == b"".join(records[RECORDS_AT_ONCE:])
    assert portion.useless == RECORDS_AT_ONCE
    assert not portion.data


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 7, 100, 1000])
def test_records_are_found_however_they_come(step: int) -> None:
    """Each piece is taken in whole, and records are counted where they end."""
    sizes = [0, 1, 300, 7, 0, 0, 70, 5, 4, 1, 2, 3, 900, 0, 1]
    stream = b"".join(b"\x17\3\3" + size.to_bytes(2, "big") + b"\xff" * size for size in sizes)
    begun: int | bytes = 0
    found = 0
    for start in range(0, len(stream), step):
        data = stream[start : start + step]
        at = 0
        while at < len(data):
            at, count, begun = next_records(data, at, begun)
            assert count <= RECORDS_AT_ONCE
            found += count
            if at < len(data):
                assert (count, begun) == (RECORDS_AT_ONCE, 0)
    assert (found, begun) == (len(sizes), 0)


def test_an_event_reads_some_data(flood: Callable[..., Flood]) -> None:
    """Records of a byte each are data, and are given little by little."""
    one = flood(V12)
    pieces: list[int] = []
    one.probe.on_data = lambda probe, data: pieces.append(len(data))
    count = 3 * RECORDS_PER_EVENT + 1
    one.send(b"".join(one.forger.record(DATA, b"x") for _ in range(count)))
    assert sum(pieces) == count
    assert max(pieces) == RECORDS_PER_EVENT
    assert not one.refused
