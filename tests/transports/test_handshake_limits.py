"""What a handshake may cost before anything is known of the peer: bytes, records, memory of all together."""

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from sockd.base.metrics import End
from sockd.transports.handshake import HANDSHAKE_FAILURE
from sockd.transports.handshake_memory import HANDSHAKES_MEMORY, HandshakeMemory
from sockd.transports.inspection import CERTIFICATES_SIZE, HELLO_SIZE
from sockd.transports.openssl import context
from tests.certificates import Made, made
from tests.tls_clients import Client
from tests.transports.loop import Probe, echo
from tests.transports.test_inspection import FFDHE8192, HANDSHAKE, keys, record
from tests.transports.test_tls import Link
from tests.transports.test_tls_paused import Words


class Talk:
    """A server, and a client that says what its test says."""

    def __init__(self) -> None:
        self.link = Link(Probe(echo))
        self.sock = socket.socket(fileno=self.link.client.tls.detach())
        self.sock.setblocking(False)

    def answer(self, data: bytes) -> bytes:
        """What the server says to this, until it closes."""
        self.sock.send(data)
        got = bytearray()

        def closed() -> bool:
            try:
                data = self.sock.recv(65536)
            except BlockingIOError:
                return False
            except ConnectionResetError:
                return True
            got.extend(data)
            return not data

        self.link.loop.until(closed, self.sock)
        self.sock.close()
        self.link.loop.until(lambda: self.link.owner.ends)
        return bytes(got)

    def close(self) -> None:
        self.sock.close()
        self.link.connection.abortConnection()
        self.link.loop.settle()


@pytest.fixture
def talk() -> Iterator[Callable[[], Talk]]:
    talks: list[Talk] = []

    def make() -> Talk:
        talks.append(Talk())
        return talks[-1]

    yield make
    for each in talks:
        each.close()


@pytest.mark.parametrize(
    ("data", "why", "answer"),
    [
        (
            record(HANDSHAKE, b"\1" + (HELLO_SIZE + 1).to_bytes(3, "big")),
            "the ClientHello takes more than 16 KiB",
            b"",
        ),
        (
            record(HANDSHAKE, b"\1") + record(HANDSHAKE, b"") * 32,
            "the ClientHello takes more than 32 records",
            b"",
        ),
        (
            record(HANDSHAKE, keys([FFDHE8192], [FFDHE8192])),
            "the client's key is of a group of FFDHE, and elliptic curves are spoken",
            HANDSHAKE_FAILURE,
        ),
    ],
    ids=["long", "many records", "FFDHE"],
)
def test_a_hello_that_is_refused(data: bytes, why: str, answer: bytes, talk: Callable[[], Talk]) -> None:
    """The log and the counters have the reason; a peer that may mean well gets an alert."""
    one = talk()
    assert one.answer(data) == answer
    assert one.link.owner.ends == [End.HANDSHAKE]
    assert one.link.connection.why == why
    assert one.link.counters.refused == {f"TLS: {why}": 1}


def test_a_handshake_byte_by_byte(talk: Callable[[], Talk]) -> None:
    """A slow network is no reason to refuse: it is the records that count, and the time."""
    one = talk()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    believing = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    believing.check_hostname, believing.verify_mode = False, ssl.CERT_NONE
    client = believing.wrap_bio(incoming, outgoing)

    def shaken() -> bool:
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            done = False
        else:
            done = True
        for byte in outgoing.read():
            one.sock.send(bytes([byte]))
            one.link.loop.turn()
        with suppress(BlockingIOError):
            incoming.write(one.sock.recv(65536))
        return done

    one.link.loop.until(shaken, one.sock)
    one.link.loop.until(lambda: one.link.connection.ready)


def test_a_client_that_is_asked_for_another_key() -> None:
    """A server without the group of the client's first key has it send a second ClientHello."""
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    other.set_ecdh_curve("secp384r1")
    link = Link(Probe(echo), context=other).shaken()
    link.client.tls.send(b"hello")
    link.until(lambda: link.client.data == b"hello")
    link.close()


@pytest.mark.parametrize("size", [1, 5_000])
def test_data_with_the_last_of_the_handshake(size: int) -> None:
    """It isn't taken for a part of the handshake, however much it is and in however many records."""
    words = Words(Probe())
    for _ in range(12_000 // size if size > 1 else 300):
        words.write(b"x" * size)
    sent = 300 if size == 1 else 10_000
    words.send()
    words.link.loop.until(lambda: words.connection.ready)
    words.link.loop.until(lambda: words.connection.received == sent)
    assert not words.link.counters.refused
    words.close()


@pytest.mark.parametrize(("extra", "refused"), [(0, False), (6, True)])
def test_long_certificates_of_a_costly_source(extra: int, refused: bool) -> None:
    """They are refused before OpenSSL has them; short ones of the same source aren't."""
    server, own = made("localhost"), made("anna.example", issuer="authority")
    asking = context(server.chain, server.key, "1.3", made("authority", authority=True).chain)
    link = Link(Probe(echo), context=asking)
    assert link.turn.tls is not None
    link.turn.tls[3].failed(link.connection.peer, 1.0, link.loop.seconds())
    sock = socket.socket(fileno=link.client.tls.detach())
    client = Client(sock, certificate=Made(own.chain + made("extra").chain * extra, own.key))
    with suppress(ConnectionResetError):
        link.loop.until(client.shake, client.tls)
    link.loop.until(lambda: link.connection.ready or link.owner.ends)
    assert bool(link.owner.ends) is refused
    assert ("took long to read" in link.connection.why) is refused
    client.tls.close()
    link.close()


class Holder:
    """A handshake that holds memory."""

    def __init__(self) -> None:
        self.gave_way = False

    def give_way(self) -> None:
        self.gave_way = True


def test_the_oldest_gives_way() -> None:
    """All of them together have a bound; the one that has waited longest is the least likely to be honest."""
    memory = HandshakeMemory()
    holders = [Holder() for _ in range(HANDSHAKES_MEMORY // CERTIFICATES_SIZE + 2)]
    for holder in holders:
        memory.hold(holder, 100)
        memory.hold(holder, CERTIFICATES_SIZE)
        assert memory.total <= HANDSHAKES_MEMORY
    assert [holder.gave_way for holder in holders] == [True] * 2 + [False] * (len(holders) - 2)
    for holder in holders:
        memory.hold(holder, 0)
    assert memory.total == 0


def held_by(link: Link) -> HandshakeMemory:
    """The memory of all handshakes of its reactor."""
    assert link.turn.tls is not None
    return link.turn.tls[2]


def test_it_is_given_back(talk: Callable[[], Talk]) -> None:
    """By a handshake that is done, one that is refused, and one whose peer leaves."""
    begun = record(HANDSHAKE, b"\1" + HELLO_SIZE.to_bytes(3, "big"))
    one = talk()
    memory = held_by(one.link)
    one.sock.send(begun)
    one.link.loop.until(lambda: memory.total == len(begun))
    one.sock.close()
    one.link.loop.until(lambda: one.link.owner.ends)
    assert memory.total == 0
    shaken = Link(Probe(echo)).shaken()
    assert held_by(shaken).total == 0
    shaken.close()


def test_giving_way(talk: Callable[[], Talk]) -> None:
    """The connection ends, and the log says why."""
    one = talk()
    one.sock.send(record(HANDSHAKE, b"\1" + HELLO_SIZE.to_bytes(3, "big")))
    one.link.loop.until(lambda: held_by(one.link).total)
    one.link.connection.give_way()
    one.link.loop.settle()
    assert one.link.owner.ends == [End.HANDSHAKE]
    assert one.link.connection.why == "the handshakes of all peers hold too much memory"
    assert held_by(one.link).total == 0
