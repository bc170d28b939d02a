"""echo: bytes or lines, streams and datagrams, and whom it answers."""

from collections.abc import Sequence
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from twisted.internet.testing import StringTransport
from twisted.logger import Logger

from sockd.base.metrics import Counters
from sockd.base.peers import Peer
from sockd.protocols.contract import Host
from sockd.protocols.echo.specification import EchoOptions, specification
from tests.protocols.reactors import ClockReactor


class Stream(StringTransport):
    """A connection that notes the limit of a read."""

    read_most = 0

    def limit_read(self, count: int) -> None:
        self.read_most = count


class Transport:
    """A socket that keeps what was sent."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.sent: list[tuple[bytes, Peer]] = []

    def refuse(self, reason: str, peers: Sequence[Peer], why: str = "") -> None:
        self.counters.refused[reason] += len(peers)

    def pauseProducing(self) -> None:
        raise AssertionError

    resumeProducing = pauseProducing  # noqa: N815

    def failed(self, where: str) -> None:
        raise AssertionError(where)

    def send(self, data: bytes, peer: Peer) -> bool:
        self.sent.append((data, peer))
        return True

    def gone(self, _peer: Peer) -> bool:
        return False

    def send_many(self, replies: Sequence[tuple[bytes, Peer]]) -> None:
        self.sent += replies


def host(**options: Any) -> Host[EchoOptions]:
    return Host(
        "echo", EchoOptions(**options), ClockReactor(), Logger(), lambda error: None, udp_ports={7007}
    )


def streamed(chunks: list[bytes], **options: Any) -> bytes:
    """The bytes that come back for these chunks."""
    assert specification.stream is not None
    protocol = specification.stream(host(**options)).buildProtocol(None)
    transport = Stream()
    protocol.makeConnection(transport)
    for chunk in chunks:
        protocol.dataReceived(chunk)
    value: bytes = transport.value()
    return value


def answered(data: bytes, peer: Peer, **options: Any) -> tuple[list[tuple[bytes, Peer]], dict[str, int]]:
    """The datagrams sent for this one, and the refusals."""
    assert specification.datagram is not None
    protocol, transport = specification.datagram(host(**options)), Transport()
    protocol.start(transport)
    protocol.datagrams([(data, peer)])
    return transport.sent, dict(transport.counters.refused)


PREFIXES = st.sampled_from(["", "> "])
CHUNKS = st.lists(st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r\n"]), min_size=1).map(b"".join))


@given(chunks=st.lists(st.binary(min_size=1)))
def test_the_same_bytes(chunks: list[bytes]) -> None:
    """Any bytes come back as they came."""
    assert streamed(chunks) == b"".join(chunks)


@given(chunks=CHUNKS)
def test_prefix_before_each_line(chunks: list[bytes]) -> None:
    """Any chunking gives the same: the prefix stands before each line, also one without its newline yet."""
    lines = b"".join(chunks).replace(b"\n", b"\n\0").split(b"\0")
    assert streamed(chunks, prefix="Echo: ") == b"".join(b"Echo: " + line for line in lines if line)


@given(chunks=CHUNKS, at=st.integers(0, 10), before=PREFIXES, after=PREFIXES)
def test_a_new_program_goes_on_where_the_old_one_was(
    chunks: list[bytes], at: int, before: str, after: str
) -> None:
    """At whatever chunk it comes, the client gets the same bytes, whatever prefix the file has by now."""
    assert specification.stream is not None
    transport = Stream()
    old = specification.stream(host(prefix=before)).buildProtocol(None)
    old.makeConnection(transport)
    for chunk in chunks[:at]:
        old.dataReceived(chunk)
    state = old.freeze()
    assert old.freeze() == state
    new = specification.stream(host(prefix=after)).buildProtocol(None)
    new.transport = transport
    new.thaw(state)
    for chunk in chunks[at:]:
        new.dataReceived(chunk)
    assert transport.value() == streamed(chunks, prefix=before)


def test_each_connection_begins_anew() -> None:
    """Connections of one factory know nothing of each other."""
    assert specification.stream is not None
    factory = specification.stream(host(prefix="> "))
    for _ in range(2):
        protocol, transport = factory.buildProtocol(None), Stream()
        protocol.makeConnection(transport)
        protocol.dataReceived(b"no newline")
        assert transport.value() == b"> no newline"


def test_one_datagram_for_one() -> None:
    """The same bytes, an empty one too; with a prefix, that before, where the kernel vouches for the peer."""
    peer = Peer.inet(("127.0.0.1", 40000))
    for data in (b"", b"hello", bytes(9000)):
        assert answered(data, peer) == ([(data, peer)], {})
    assert answered(b"hello", peer, prefix="é ") == ([(b"hello", peer)], {})
    local = Peer.unix(1000, 1, "me.sock")
    assert answered(b"hello", local, prefix="é ") == ([("é hello".encode(), local)], {})


@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        (Peer.inet(("127.0.0.1", 53)), "source port below 1024"),
        (Peer.inet(("127.0.0.1", 7007)), "source port of ours"),
        (Peer.inet(("192.0.2.1", 40000)), "source network"),
        (Peer.inet(("0.0.0.0", 40000)), "source is no host"),
    ],
)
def test_peers_that_are_not_answered(peer: Peer, reason: str) -> None:
    """Each refusal is counted under its reason."""
    assert answered(b"x", peer) == ([], {reason: 1})


def test_peers_of_a_batch_that_are_answered() -> None:
    """Each by itself, in order, whoever else came at the same time."""
    assert specification.datagram is not None
    protocol, transport = specification.datagram(host(prefix="> ")), Transport()
    protocol.start(transport)
    friend, other, foe = (Peer.inet(("10.1.2.3", port)) for port in (40000, 40001, 7))
    protocol.datagrams([(b"1", foe), (b"2", friend), (b"3", foe), (b"4", other), (b"5", friend)])
    assert transport.sent == [(b"2", friend), (b"4", other), (b"5", friend)]
    assert transport.counters.refused == {"source port below 1024": 2}


def test_peers_that_are_answered() -> None:
    """Loopback and private networks, or what the options say; Unix peers always."""
    for text in ("10.1.2.3", "172.31.0.1", "192.168.1.1", "169.254.1.1", "::1", "fd00::1", "fe80::1"):
        peer = Peer.inet((text, 40000))
        assert answered(b"x", peer) == ([(b"x", peer)], {})
    far = Peer.inet(("192.0.2.1", 40000))
    assert answered(b"x", far, answer=(ip_network("192.0.2.0/24"),)) == ([(b"x", far)], {})
    local = Peer.unix(0, 1, "/x")
    assert answered(b"x", local, answer=()) == ([(b"x", local)], {})


def test_prefix_is_bounded() -> None:
    """An answer is hardly longer than its request."""
    assert EchoOptions(prefix="x" * 64).prefix
    with pytest.raises(ValidationError):
        EchoOptions(prefix="x" * 65)


def test_what_stands_in_between_stays() -> None:
    """Somebody's wrapper around dataReceived is called, though echo has nothing to do there itself."""
    assert specification.stream is not None
    protocol: Any = specification.stream(host()).buildProtocol(None)
    received, heard = protocol.dataReceived, []

    def listening(data: bytes) -> None:
        heard.append(data)
        received(data)

    protocol.dataReceived = listening
    transport = Stream()
    protocol.makeConnection(transport)
    protocol.dataReceived(b"hello")
    assert (heard, transport.value()) == ([b"hello"], b"hello")


@pytest.mark.parametrize(
    ("prefix", "most"), [("", 0), ("> ", 512 * 1024 // 3), ("é" * 64, 512 * 1024 // 129)]
)
def test_a_read_of_newlines(prefix: str, most: int) -> None:
    """With a prefix it becomes an answer of half a MiB at most, so little is read at once."""
    assert specification.stream is not None
    transport = Stream()
    specification.stream(host(prefix=prefix)).buildProtocol(None).makeConnection(transport)
    assert transport.read_most == most
