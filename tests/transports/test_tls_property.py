"""TLS changes nothing for a protocol and its peer: over a plain connection it would have been the same."""

import socket
import ssl
from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sockd.base.metrics import Counters, End
from sockd.base.peers import Peer
from sockd.transports.connection import Connection
from sockd.transports.ending import FACTS
from sockd.transports.fields import HIGH_WATER, READ_SIZE
from sockd.transports.flush import Flusher
from sockd.transports.listening import Listening
from sockd.transports.openssl import context
from sockd.transports.tls import PIECE_SIZE, TlsConnection
from tests.certificates import made
from tests.transports.loop import HalfProbe, Loop, Probe, Recorder, echo, small_buffers

SIZES = st.one_of(
    st.integers(0, 300),
    st.sampled_from(
        [16383, 16384, 16385, 32768, 32769, HIGH_WATER + 1, PIECE_SIZE + 1, 3 * PIECE_SIZE, READ_SIZE + 1]
    ),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["send", "write", "write twice"]), SIZES),
        st.tuples(st.just("sprinkle"), st.integers(1, 3 * 32768 // 23)),
        # of what the client's end has to send, and of what has come for it
        st.tuples(st.sampled_from(["feed", "take"]), st.one_of(st.integers(1, 60), st.integers(1, 300_000))),
        st.tuples(st.sampled_from(["pause", "resume", "turn"]), st.none()),
    ),
    max_size=30,
)
ENDS = st.permutations(["client finishes", "server finishes", "server closes"])


def pattern(start: int, size: int) -> bytes:
    """Bytes that tell where in the stream they are."""
    return b"".join(n.to_bytes(4, "big") for n in range(start, start + size // 4 + 1))[:size]


class Plain:
    """The client's end over a plain connection; `outgoing` is what it has to send."""

    def __init__(self) -> None:
        self.outgoing = bytearray()
        self.got = bytearray()
        self.closed = False

    def start(self) -> None: ...

    def send(self, data: bytes) -> None:
        self.outgoing += data

    def take(self, data: bytes) -> None:
        self.got += data
        self.closed = self.closed or not data

    def finish(self) -> None:
        """Its FIN goes out when everything has."""

    finishes_by_fin = True
    shaken = True


class Tls(Plain):
    """The same in TLS."""

    finishes_by_fin = False

    def __init__(self, version: ssl.TLSVersion) -> None:
        super().__init__()
        settings = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        settings.check_hostname = False
        settings.verify_mode = ssl.CERT_NONE
        settings.minimum_version = settings.maximum_version = version
        self.bio_in, self.bio_out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = settings.wrap_bio(self.bio_in, self.bio_out)
        self.shaken = False
        self.early = bytearray()

    def start(self) -> None:
        self.take(b"more")

    def send(self, data: bytes) -> None:
        if not self.shaken:
            self.early += data
        elif data:
            self.tls.write(data)
        self.outgoing += self.bio_out.read()

    def take(self, data: bytes) -> None:
        if data and data != b"more":
            self.bio_in.write(data)
        with suppress(ssl.SSLWantReadError):
            if not self.shaken:
                self.tls.do_handshake()
                self.shaken = True
                self.send(bytes(self.early))
            while not self.closed:
                try:
                    data = self.tls.read(1 << 20)
                except ssl.SSLZeroReturnError:
                    data = b""
                self.got += data
                self.closed = not data
        self.outgoing += self.bio_out.read()

    def finish(self) -> None:
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.outgoing += self.bio_out.read()


class Neighbour:
    """Another connection in the same reactor, whose bytes come so few at a time that records are torn."""

    def __init__(self, loop: Loop, turn: Flusher) -> None:
        self.loop, self.client, self.owner = loop, Tls(ssl.TLSVersion.TLSv1_3), Recorder(loop)
        ours, self.sock = socket.socketpair()
        for sock in (ours, self.sock):
            sock.setblocking(False)
        certificate = made("localhost")
        settings = context(certificate.chain, certificate.key)
        self.connection = TlsConnection(ours, Peer.unix(0, 2), turn, self.owner, Listening("y"), settings)
        self.connection.start(lambda: Probe(echo))
        self.client.start()
        self.sent = bytearray()

    def say(self) -> None:
        data = pattern(len(self.sent), 60)
        self.sent += data
        self.client.send(data)
        self.move(23)

    def move(self, most: int) -> None:
        del self.client.outgoing[: self.sock.send(self.client.outgoing[:most])]
        self.loop.turn()
        with suppress(BlockingIOError):
            self.client.take(self.sock.recv(1 << 20))

    def end(self) -> None:
        """It was not disturbed."""
        for _ in range(1000):
            if self.client.got == self.sent:
                break
            self.move(1 << 20)
        assert self.client.got == self.sent
        self.sock.close()
        self.loop.until(lambda: self.owner.ends)


class Stage:
    """A connection of one sort, its protocol and its client's end; `echoing`: it writes what comes."""

    def __init__(self, client: Plain, half: bool, *, roomy: bool, echoing: bool) -> None:
        kind, on_data = HalfProbe if half else Probe, echo if echoing else None
        protocol = kind(on_data=on_data)
        self.echoing = echoing
        self.neighbour: Neighbour | None = None
        self.loop, self.client, self.protocol = Loop(), client, protocol
        self.owner, self.counters = Recorder(self.loop), Counters()
        ours, self.sock = socket.socketpair() if roomy else small_buffers()
        for sock in (ours, self.sock):
            sock.setblocking(False)
        turn = Flusher(self.loop)
        common: Any = (ours, Peer.unix(0, 1), turn, self.owner, Listening("x", self.counters))
        if isinstance(client, Tls):
            certificate = made("localhost")
            tls = TlsConnection(*(*common, context(certificate.chain, certificate.key)))
            tls.start(lambda: protocol)
            self.connection: Connection = tls
            client.start()
            self.neighbour = Neighbour(self.loop, turn)
        else:
            self.connection = Connection(*common)
            self.connection.start(protocol)
        self.sent = bytearray()
        self.written = self.sent if echoing else bytearray()
        self.finished = False

    def until(self, condition: Any) -> None:
        """Take turns, and let everything flow."""
        for _ in range(20_000):
            if condition():
                return
            self.feed(1 << 20)
            self.take(1 << 20)
            self.loop.turn()
        raise AssertionError("it never came true")

    def feed(self, most: int) -> None:
        with suppress(BlockingIOError, BrokenPipeError):
            del self.client.outgoing[: self.sock.send(self.client.outgoing[:most])]
        if self.finished and not self.client.outgoing and self.client.finishes_by_fin:
            self.sock.shutdown(socket.SHUT_WR)
            self.finished = False

    def take(self, most: int) -> None:
        with suppress(BlockingIOError):
            data = self.sock.recv(most)
            if data or self.client.finishes_by_fin:
                self.client.take(data)

    def step(self, what: str, size: Any) -> None:
        if self.neighbour is not None:
            self.neighbour.say()
        match what:
            case "write" | "write twice" if self.echoing:
                self.step("send", size)
            case "send":
                data = pattern(len(self.sent), size)
                self.sent += data
                self.client.send(data)
            case "sprinkle":  # a record for each byte
                data = pattern(len(self.sent), size)
                self.sent += data
                for byte in data:
                    self.client.send(bytes([byte]))
            case "write" | "write twice":
                for _ in range(1 + (what == "write twice")):
                    data = pattern(len(self.written), size)
                    self.written += data
                    self.connection.write(data)
            case "feed":
                self.feed(size)
                self.loop.turn()
            case "take":
                self.take(size)
                self.loop.turn()
            case "pause":
                self.connection.pauseProducing()
            case "resume":
                self.connection.resumeProducing()
            case "turn":
                self.loop.turn()
            case "client finishes":
                self.client.finish()
                self.finished = True
            case "server finishes":
                self.connection.loseWriteConnection()
            case "server closes":
                self.connection.loseConnection()

    def play(self, steps: list[tuple[str, Any]], ends: list[str]) -> tuple[Any, ...]:
        """All that came of it."""
        self.until(lambda: self.protocol.made and self.client.shaken)
        for step in steps:
            self.step(*step)
        self.connection.resumeProducing()
        self.until(lambda: self.protocol.data == self.sent and self.client.got == self.written)
        half = isinstance(self.protocol, HalfProbe)
        for end in ends:
            if self.owner.ends or (end == "server finishes" and self.connection.disconnecting):
                break
            self.step(end, None)
            if end == "client finishes":
                self.until(lambda: not FACTS[self.connection.state].reads or self.connection.lingering)
                if not half:
                    break
            else:
                self.until(lambda: self.client.closed)
                if end == "server closes":
                    break
        self.until(lambda: self.client.closed)
        self.sock.close()
        if self.neighbour is not None:
            self.neighbour.end()
        self.loop.settle()
        events = self.protocol.events if isinstance(self.protocol, HalfProbe) else []
        counters = self.counters
        assert self.connection.unsent == 0
        return (
            bytes(self.protocol.data), bytes(self.client.got), self.owner.ends, events,
            [failure.type for failure in self.protocol.lost], self.owner.failures,
            (self.connection.received, self.connection.sent), (counters.bytes_in, counters.bytes_out),
            dict(counters.refused),
        )  # fmt: skip


@given(
    version=st.sampled_from([ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]),
    half=st.booleans(),
    roomy=st.booleans(),
    echoing=st.booleans(),
    steps=STEPS,
    ends=ENDS,
)
def test_the_same_as_without(
    version: ssl.TLSVersion,
    half: bool,
    roomy: bool,
    echoing: bool,
    steps: list[tuple[str, Any]],
    ends: list[str],
) -> None:
    """Bytes, their order, ends, half-closes and counters, whatever the chunks, the pauses and the waiting.

    `roomy`: the kernel takes as much as one read takes from it, else a few KiB at a time. What another
    connection is amid of makes no difference either.
    """
    results = [
        Stage(client, half, roomy=roomy, echoing=echoing).play(steps, ends)
        for client in (Plain(), Tls(version))
    ]
    assert results[0] == results[1]
    assert results[0][2] in ([End.PEER], [End.DONE])
