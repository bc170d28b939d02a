"""A TLS connection: the handshake, bytes both ways, its ends, back-pressure, peers who break rules."""

import errno
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone, ConnectionLost

from sockd.base.metrics import Counters, End
from sockd.base.peers import Peer
from sockd.transports.ending import ConnectionState
from sockd.transports.fields import HIGH_WATER, READ_SIZE
from sockd.transports.flush import Flusher
from sockd.transports.listening import Listening
from sockd.transports.records import RECORD_SIZE
from sockd.transports.tls import TlsConnection
from tests.certificates import made
from tests.tls_clients import Client
from tests.transports.loop import (
    HalfProbe,
    Loop,
    Probe,
    Recorder,
    broken,
    echo,
    ended,
    replace_system_calls,
    tcp_pair,
)

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


class Link:
    """A TlsServer on a Loop and a client that it can talk to."""

    def __init__(
        self,
        protocol: Probe | None,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.loop = Loop()
        self.turn = Flusher(self.loop)
        self.owner = Recorder(self.loop)
        self.counters = Counters()
        ours, theirs = tcp_pair()
        ours.setblocking(False)
        self.context = context or ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate = made("localhost")
        certificate.load_into(self.context)
        self.protocol = protocol
        here = Listening("tls://here", self.counters)
        self.connection = TlsConnection(
            ours, Peer.inet(theirs.getsockname()), self.turn, self.owner, here, self.context
        )
        self.connection.start(lambda: protocol)
        self.plain = theirs
        self.client = Client(theirs, version)

    def shaken(self) -> "Link":
        self.loop.until(self.client.shake, self.client.tls)
        self.loop.until(lambda: self.connection.ready)
        return self

    def until(self, condition: Callable[[], object]) -> None:
        def met() -> object:
            self.client.read()
            return condition()

        self.loop.until(met, self.client.tls)

    def close(self) -> None:
        self.client.tls.close()
        self.plain.close()
        self.connection.abortConnection()
        self.loop.settle()


@pytest.fixture
def link() -> Iterator[Callable[..., Link]]:
    links: list[Link] = []

    def make(*arguments: Any) -> Link:
        links.append(Link(*arguments))
        return links[-1]

    yield make
    for each in links:
        each.close()
        assert not each.loop.readers | each.loop.writers


@pytest.mark.parametrize("version", VERSIONS)
def test_echo(link: Callable[..., Link], version: ssl.TLSVersion) -> None:
    """What is sent comes back, and is counted as the protocol saw it."""
    one = link(Probe(echo), version).shaken()
    one.client.tls.send(b"hello")
    one.until(lambda: one.client.data == b"hello")
    assert one.connection.session.version() == {VERSIONS[0]: "TLSv1.2", VERSIONS[1]: "TLSv1.3"}[version]
    assert (one.counters.bytes_in, one.counters.bytes_out) == (5, 5)
    assert (one.connection.received, one.connection.sent, one.connection.unsent) == (5, 5, 0)


def test_nothing_of_the_protocol_before_the_handshake(link: Callable[..., Link]) -> None:
    """It isn't made until then."""
    protocol = Probe(echo)
    one = link(protocol)
    one.loop.settle()
    before = one.connection.ready, protocol.made
    one.shaken()
    assert (before, protocol.made) == ((False, 0), 1)


def test_much_both_ways(link: Callable[..., Link]) -> None:
    """Megabytes come back in order, though the kernel takes them in pieces; each read event at most twice."""
    one = link(Probe(echo)).shaken()
    sent, at = bytes(range(256)) * 8192, 0

    def exchange() -> bool:
        nonlocal at
        while at < len(sent):
            try:
                at += one.client.tls.send(sent[at : at + 100_000])
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                break
        one.client.read()
        return len(one.client.data) == len(sent)

    one.loop.until(exchange, one.client.tls)
    assert one.client.data == sent
    assert one.connection.sent == one.counters.bytes_out == len(sent)


def test_a_slow_reader_is_waited_for(link: Callable[..., Link]) -> None:
    """What waits is bounded: nothing more is read; all of it comes in the end."""
    protocol = Probe()
    one = link(protocol).shaken()
    data = b"x" * 6_000_000
    one.connection.write(data)
    one.loop.settle()
    waiting = one.connection.unsent
    assert 0 < waiting < len(data)
    assert one.connection.paused
    one.until(lambda: len(one.client.data) == len(data))
    assert one.connection.unsent == 0
    assert not one.connection.paused


def test_the_client_says_goodbye(link: Callable[..., Link]) -> None:
    """close_notify is a clean end; it is answered with ours."""
    protocol = Probe(echo)
    one = link(protocol).shaken()
    one.client.tls.send(b"bye")
    one.until(lambda: one.client.data == b"bye")
    with pytest.raises(ssl.SSLWantReadError):
        one.client.tls.unwrap()
    one.loop.until(lambda: one.owner.ends)
    assert one.owner.ends == [End.PEER]
    assert ended(protocol, ConnectionDone)
    one.client.tls.unwrap()


def test_truncated(link: Callable[..., Link]) -> None:
    """A FIN alone may be an attacker's: the protocol learns that it was no clean end."""
    protocol = Probe(echo)
    one = link(protocol).shaken()
    one.client.tls.send(b"half")
    one.until(lambda: one.client.data == b"half")
    one.client.tls.shutdown(socket.SHUT_WR)
    one.loop.until(lambda: one.owner.ends)
    assert one.owner.ends == [End.TRUNCATED]
    assert ended(protocol, ConnectionLost)


def test_we_say_goodbye(link: Callable[..., Link]) -> None:
    """loseConnection: what is owed, close_notify, FIN; then we wait for the client's end."""
    protocol = Probe(lambda each, data: (each.transport.write(data), each.transport.loseConnection()))
    one = link(protocol).shaken()
    one.client.tls.send(b"last")
    one.until(lambda: one.client.closed)
    assert one.client.data == b"last"
    assert one.connection.lingering
    one.client.tls.close()
    one.loop.until(lambda: one.owner.ends)
    assert one.owner.ends == [End.DONE]


def test_garbage_before_the_handshake(link: Callable[..., Link]) -> None:
    """It is counted by OpenSSL's reason, answered with an alert, and there never is a protocol."""
    protocol = Probe()
    one = link(protocol)
    one.plain = socket.socket(fileno=one.client.tls.detach())
    one.plain.send(b"GET / HTTP/1.0\r\n\r\n")
    one.loop.until(lambda: one.connection.lingering)
    assert one.counters.refused == {"TLS: http request": 1}
    one.plain.close()
    one.loop.until(lambda: one.owner.ends)
    assert one.owner.ends == [End.HANDSHAKE]
    assert not protocol.made


def test_garbage_after_the_handshake(link: Callable[..., Link]) -> None:
    """The connection ends with an alert; the protocol learns of it."""
    protocol = Probe()
    one = link(protocol).shaken()
    raw = socket.socket(fileno=one.client.tls.detach())
    raw.send(b"\x17\x03\x03\x00\x20" + bytes(32))
    one.loop.until(lambda: one.connection.lingering)
    raw.close()
    one.loop.until(lambda: one.owner.ends)
    assert one.owner.ends == [End.TLS]
    assert one.counters.refused == {"TLS: decryption failed or bad record mac": 1}
    assert protocol.lost


@pytest.mark.parametrize("version", VERSIONS)
def test_garbage_after_what_is_answered(link: Callable[..., Link], version: ssl.TLSVersion) -> None:
    """That an answer can't be sent any more is no fault of a protocol that writes much at once."""
    one = link(Probe(lambda probe, data: probe.transport.write(data * HIGH_WATER)), version).shaken()
    one.connection.limit_unsent(1)
    one.client.tls.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, True)  # they are read at once
    one.client.tls.send(b"hello")
    os.write(one.client.tls.fileno(), b"GET / HTTP/1.0\r\n\r\n")
    one.client.tls.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, False)
    said: list[str] = []
    one.loop.until(lambda: said.append(one.client.alert()) or said[-1], one.client.tls)  # type: ignore[func-returns-value]
    assert said[-1] == "alert protocol version"
    assert one.protocol is not None
    assert one.protocol.data == b"hello"
    assert one.counters.refused == {"TLS: wrong version number": 1}
    assert one.owner.failures == []


def test_gone_in_the_handshake(link: Callable[..., Link]) -> None:
    """Who leaves before it is done was never there."""
    protocol = Probe()
    one = link(protocol)
    one.plain = socket.socket(fileno=one.client.tls.detach())
    one.plain.shutdown(socket.SHUT_WR)
    one.loop.until(lambda: one.owner.ends)
    assert one.owner.ends == [End.HANDSHAKE]
    assert not protocol.made


def test_refused_after_the_handshake(link: Callable[..., Link]) -> None:
    """`build` may end the connection instead of giving a protocol."""
    one = link(None)
    one.connection.start(lambda: one.connection.close(End.REFUSED))
    one.shaken()
    one.until(lambda: one.client.closed)
    one.client.tls.close()
    one.loop.until(lambda: one.owner.ends)
    assert one.owner.ends == [End.REFUSED]


def test_a_faulty_protocol(link: Callable[..., Link]) -> None:
    """Whatever it raises costs it this connection."""
    for where in ("on_data", "on_made"):
        one = link(Probe(**{where: broken}))
        one.loop.until(one.client.shake, one.client.tls)
        one.client.tls.send(b"x")
        one.loop.until(lambda one=one: one.owner.ends)  # type: ignore[misc]
        assert one.owner.ends == [End.FAILED]


def test_before_the_handshake(link: Callable[..., Link]) -> None:
    """A preamble gets what comes, in any pieces, and gives the rest to TLS."""
    one = link(Probe(echo))
    seen = bytearray()

    def preamble(data: bytes) -> bytes | None:
        seen.extend(data)
        _, newline, rest = bytes(seen).partition(b"\n")
        return rest if newline else None

    one.connection.begin_with(preamble)
    one.plain = socket.socket(fileno=one.client.tls.detach())
    one.plain.send(b"hea")
    one.loop.settle()
    one.plain.send(b"der\n")
    one.loop.settle()
    one.client = Client(one.plain, VERSIONS[1])
    one.shaken()
    one.client.tls.send(b"hello")
    one.until(lambda: one.client.data == b"hello")
    assert bytes(seen) == b"header\n"


def test_more_than_one_read_holds(link: Callable[..., Link]) -> None:
    """Records that were begun in one read event and end in the next are all delivered."""
    protocol = Probe()
    one = link(protocol).shaken()
    data = bytes(range(256)) * (3 * READ_SIZE // 256)
    at = 0

    def send() -> bool:
        nonlocal at
        while at < len(data):
            try:
                at += one.client.tls.send(data[at:])
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                break
        return len(protocol.data) == len(data)

    one.loop.until(send, one.client.tls)
    assert protocol.data == data


def test_much_in_one_read(link: Callable[..., Link]) -> None:
    """The protocol gets it in one piece."""
    pieces: list[int] = []
    one = link(Probe(lambda _, data: pieces.append(len(data)))).shaken()
    whole = bytearray()
    encrypted = READ_SIZE + READ_SIZE // RECORD_SIZE * 22

    def gather(number: int, size: int) -> bytes:
        whole.extend(kernel.read(number, size))
        if len(whole) < encrypted:
            raise BlockingIOError
        data = bytes(whole)
        whole.clear()
        return data

    kernel = replace_system_calls(one.connection, read=gather)
    one.client.tls.setblocking(True)
    one.client.tls.send(bytes(READ_SIZE))
    one.loop.until(lambda: pieces)
    assert pieces == [READ_SIZE]


def test_both_say_goodbye_in_turn(link: Callable[..., Link]) -> None:
    """After our half-close the client still speaks, and then ends cleanly too."""
    protocol = HalfProbe()
    one = link(protocol).shaken()
    one.connection.loseWriteConnection()
    one.until(lambda: one.client.closed)
    one.client.tls.send(b"last words")
    one.loop.until(lambda: protocol.data == b"last words")
    with suppress(ssl.SSLError):
        one.client.tls.unwrap()
    one.loop.until(lambda: one.owner.ends)
    assert protocol.events == ["write", "read"]
    assert one.owner.ends == [End.DONE]
    assert not one.counters.refused


def full(*_: object) -> int:
    """A send buffer that takes nothing."""
    raise BlockingIOError


@pytest.mark.parametrize("ending", ["loseWriteConnection", "loseConnection", "garbage"])
def test_words_after_the_last(ending: str, link: Callable[..., Link]) -> None:
    """What is written while the goodbye waits for the kernel can't follow it, and is dropped."""
    protocol = Probe()
    one = link(protocol).shaken()
    kernel = replace_system_calls(one.connection, write=full)
    if ending == "garbage":
        one.plain = socket.socket(fileno=one.client.tls.detach())
        one.plain.send(b"\x17\x03\x03\x00\x20" + bytes(32))
        one.loop.until(lambda: one.counters.refused)
    else:
        getattr(one.connection, ending)()
    one.loop.turn()
    one.loop.turn()
    assert one.connection.unsent
    one.connection.write(b"too late")
    replace_system_calls(one.connection, write=kernel.write)
    fin_sent = (ConnectionState.HALF_CLOSED, ConnectionState.LINGERING)
    one.loop.until(lambda: one.connection.state in fin_sent)
    assert one.connection.unsent == 0
    assert one.connection.sent == 0
    if ending != "garbage":
        one.until(lambda: one.client.closed)
        assert not one.client.data


def test_reset_while_something_is_owed(link: Callable[..., Link]) -> None:
    """What can't be sent is dropped; the end is told once."""
    protocol = Probe()
    one = link(protocol).shaken()

    def reset(*_: object) -> int:
        raise ConnectionResetError

    replace_system_calls(one.connection, write=reset)
    one.connection.write(b"x")
    one.loop.turn()
    assert one.connection.unsent == 0
    one.client.tls.close()
    one.loop.until(lambda: one.owner.ends)
    assert len(protocol.lost) == 1


def test_a_kernel_without_memory(link: Callable[..., Link]) -> None:
    """What it couldn't take goes out when it has had time to find some."""
    one = link(Probe(echo)).shaken()

    def short(*_: object) -> int:
        raise OSError(errno.ENOBUFS, "no room")

    kernel = replace_system_calls(one.connection, write=short)
    one.client.tls.send(b"hello")
    one.loop.until(lambda: one.counters.refused)
    assert one.connection.unsent == 5
    replace_system_calls(one.connection, write=kernel.write)
    one.loop.advance(1)
    one.until(lambda: one.client.data == b"hello")
    assert one.connection.unsent == 0


def test_what_breaks_leaves_nothing_to_others(link: Callable[..., Link]) -> None:
    """All connections use the same buffers to OpenSSL: whatever is raised finds them empty again."""
    short = False

    class Exhausted(ssl.SSLObject):
        def read(self, *arguments: Any) -> Any:
            if short:
                raise MemoryError
            return super().read(*arguments)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = Exhausted
    one = link(Probe(), VERSIONS[1], context).shaken()
    one.loop.settle()
    short = True
    one.loop.forgiving = True
    one.client.tls.send(b"hello")
    one.loop.until(lambda: one.owner.ends)
    assert one.owner.ends == [End.RESET]
    assert [bio.pending for bio in (one.turn.tls or ())[:2]] == [0, 0]


@pytest.mark.parametrize("taken", [0, 1, 20])
def test_a_kernel_that_takes_some_of_an_answer(link: Callable[..., Link], taken: int) -> None:
    """The rest follows when there is room."""
    one = link(Probe(echo)).shaken()

    def some(number: int, data: bytes) -> int:
        replace_system_calls(one.connection, write=kernel.write)
        if not taken:
            raise BlockingIOError
        return kernel.write(number, data[:taken])

    kernel = replace_system_calls(one.connection, write=some)
    one.client.tls.send(b"hello")
    one.until(lambda: one.client.data == b"hello")
    assert (one.connection.unsent, one.connection.sent, one.counters.bytes_out) == (0, 5, 5)


class Receiver(Probe):
    """A Probe that never answers."""

    only_receives = True


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("protocol", [Probe, Receiver])
def test_what_comes_after_our_goodbye(
    link: Callable[..., Link], version: ssl.TLSVersion, protocol: type[Probe]
) -> None:
    """It is the protocol's if that only receives, else counted, as it was before encryption."""
    one = link(protocol(), version).shaken()
    one.client.tls.send(b"before\n")
    one.loop.until(lambda: one.protocol.data)  # type: ignore[union-attr]
    one.connection.close(End.DRAINED)
    one.loop.until(lambda: one.connection.lingering)
    one.client.tls.send(b"after\n")
    one.loop.until(lambda: one.connection.dropped or len(one.connection.protocol.data) > 7)
    one.client.tls.send(b"more\n")
    one.connection.linger_expired()
    one.loop.until(lambda: one.owner.ends)
    assert one.protocol is not None
    if protocol is Receiver:
        assert one.protocol.data == b"before\nafter\nmore\n"
        assert one.connection.dropped == 0
    else:
        assert one.protocol.data == b"before\n"
        assert one.counters.dropped["drained"] >= len(b"after\nmore\n")  # the unread rest is still encrypted


def test_a_goodbye_is_no_data(link: Callable[..., Link]) -> None:
    """The peer's close_notify after ours drops nothing."""
    one = link(Probe()).shaken()
    one.connection.close(End.DONE)
    one.loop.until(lambda: one.connection.lingering)
    with suppress(ssl.SSLError, OSError):
        one.client.tls.unwrap()
    one.client.tls.close()
    one.loop.until(lambda: one.owner.ends)
    assert one.counters.dropped == {}


def test_nonsense_after_our_goodbye_is_counted_as_it_came(link: Callable[..., Link]) -> None:
    """It can't be decrypted; the connection keeps its reason, and no failure of TLS is counted."""
    one = link(Probe()).shaken()
    one.connection.close(End.DONE)
    one.loop.until(lambda: one.connection.lingering)
    for _ in range(2):
        os.write(one.client.tls.fileno(), b"nonsense" * 10)
        one.loop.settle()
    one.connection.linger_expired()
    one.loop.settle()
    assert one.counters.dropped["done"] >= 80
    assert one.counters.refused == {}
    assert one.owner.ends == [End.DONE]
