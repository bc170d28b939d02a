"""A protocol that pauses is given nothing more, also of what came in the same read."""

import socket
import ssl
from contextlib import suppress
from typing import Any

import pytest

from sockd.base.metrics import End
from sockd.transports.records import RECORDS_PER_EVENT
from tests.transports.loop import HalfProbe, Probe, ended
from tests.transports.test_tls import Link


class Words:
    """A client that says its last words of the handshake and more in one segment."""

    def __init__(self, protocol: Probe) -> None:
        self.link = Link(protocol)
        self.connection = self.link.connection
        self.sock = socket.socket(fileno=self.link.client.tls.detach())
        self.sock.setblocking(False)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out)
        self.link.loop.until(self._shake, self.sock)

    def _shake(self) -> bool:
        with suppress(BlockingIOError):
            self._in.write(self.sock.recv(65536))
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            if self._out.pending:
                self.sock.send(self._out.read())
            return False
        return True

    def write(self, data: bytes) -> None:
        self._tls.write(data)

    def cipher(self) -> bytes:
        return self._out.read()

    def send(self) -> None:
        self.sock.send(self.cipher())

    def say(self, data: bytes, *, bye: bool = False) -> None:
        self.write(data)
        if bye:
            with suppress(ssl.SSLError):
                self._tls.unwrap()
        self.send()
        self.link.loop.until(lambda: self.connection.ready)
        self.link.loop.settle()

    def close(self) -> None:
        self.sock.close()
        self.connection.abortConnection()
        self.link.loop.settle()


def pause(probe: Probe, *_: Any) -> None:
    """What protocols do that are not ready yet."""
    probe.transport.pauseProducing()


@pytest.mark.parametrize("bye", [False, True])
def test_paused_at_once(bye: bool) -> None:
    """It gets what came, and the end after it, when it resumes."""
    probe = Probe(on_made=pause)
    words = Words(probe)
    words.say(b"first", bye=bye)
    assert not probe.data
    assert not probe.lost
    words.connection.peer_left(reset=False)  # it is not to be taken for an end before that
    words.connection.resumeProducing()
    words.connection.pauseProducing()
    words.link.loop.settle()
    assert not probe.data
    words.connection.resumeProducing()
    words.link.loop.settle()
    assert probe.data == b"first"
    assert words.connection.received == 5
    if bye:
        words.link.loop.settle()
        assert ended(probe)
        assert words.link.owner.ends == [End.PEER]
    words.close()


def test_paused_after_a_half_close() -> None:
    """That we have finished sending loses nothing of what the peer sent."""
    probe = HalfProbe(on_made=pause)
    words = Words(probe)
    words.say(b"first", bye=True)
    words.connection.loseWriteConnection()
    words.link.loop.settle()
    words.connection.resumeProducing()
    words.link.loop.settle()
    assert probe.data == b"first"
    assert "read" in probe.events
    words.close()


def test_many_small_records() -> None:
    """What came in one read is given little by little, and nothing of it to a protocol that pauses."""
    pieces: list[int] = []

    def take(probe: Probe, data: bytes) -> None:
        pieces.append(len(data))
        pause(probe)

    words = Words(Probe(take))
    words.say(b"x")
    count = 5 * RECORDS_PER_EVENT  # within one read: each is a byte and the 22 that TLS 1.3 puts around it
    for _ in range(count):
        words.write(b"x")
    words.send()
    for _ in range(count):
        if sum(pieces) > count:
            break
        given = len(pieces)
        words.connection.resumeProducing()
        words.link.loop.settle()
        assert len(pieces) == given + 1
    assert sum(pieces) == words.connection.received == 1 + count
    assert max(pieces) == RECORDS_PER_EVENT
    words.close()


def test_lost_before_it_resumes() -> None:
    """Who ends the connection doesn't get the rest."""
    probe = Probe(on_made=pause)
    words = Words(probe)
    words.say(b"first")
    words.connection.loseConnection()
    words.link.loop.settle()
    words.sock.close()
    words.link.loop.until(lambda: probe.lost)
    assert not probe.data


def test_raises_at_what_was_kept() -> None:
    """That costs it the connection, as it would have before."""

    def fault(*_: object) -> None:
        raise ZeroDivisionError

    probe = Probe(fault, on_made=pause)
    words = Words(probe)
    words.say(b"first")
    words.connection.resumeProducing()
    words.link.loop.settle()
    assert words.link.owner.failures == ["dataReceived"]
    assert words.link.owner.ends == [End.FAILED]
    words.close()


def test_the_end_came_with_what_made_it_pause() -> None:
    """It hears of that when it resumes: until then it may answer."""
    probe = Probe(pause)
    words = Words(probe)
    words.say(b"last", bye=True)
    assert probe.data == b"last"
    assert not probe.lost
    words.connection.write(b"answer")
    words.connection.resumeProducing()
    words.connection.pauseProducing()
    words.link.loop.settle()
    assert not probe.lost
    words.connection.resumeProducing()
    words.link.loop.settle()
    assert ended(probe)
    assert words.link.owner.ends == [End.PEER]
    assert words.connection.sent == 6
    words.close()


@pytest.mark.parametrize("bye", [True, False])
def test_gone_before_it_resumes(bye: bool) -> None:
    """Who has waited long enough hears of the end all the same, and whether it was a clean one."""
    probe = Probe(pause)
    words = Words(probe)
    words.say(b"last", bye=bye)
    assert not probe.lost
    words.connection.peer_left(reset=False)
    words.link.loop.settle()
    assert words.link.owner.ends == [End.PEER if bye else End.TRUNCATED]
    words.close()


def test_paused_at_once_with_nothing_to_keep() -> None:
    """A peer that leaves then was cut off, as ever."""
    words = Words(Probe(on_made=pause))
    words.send()
    words.link.loop.until(lambda: words.connection.ready)
    words.connection.peer_left(reset=False)
    words.link.loop.settle()
    assert words.link.owner.ends == [End.TRUNCATED]
    words.close()


def test_the_beginning_of_an_alert_is_no_alert() -> None:
    """What may become a close_notify waits for its protocol, and the FIN after it is no clean end."""
    words = Words(Probe(on_made=pause))
    words.sock.send(words.cipher() + b"\x15")
    words.link.loop.until(lambda: words.connection.ready)
    words.connection.peer_left(reset=False)
    words.link.loop.settle()
    assert not words.link.owner.ends
    words.sock.shutdown(socket.SHUT_WR)
    words.connection.resumeProducing()
    words.link.loop.until(lambda: words.link.owner.ends)
    assert words.link.owner.ends == [End.TRUNCATED]
    words.close()
