"""What TLS itself answers to a peer that takes no answers stays bounded; peers that leave while paused."""

import socket
import ssl
from contextlib import suppress
from pathlib import Path

import pytest

from sockd.base.metrics import End
from sockd.base.peers import Peer
from sockd.transports.fields import HIGH_WATER, READ_SIZE
from sockd.transports.flush import Flusher
from sockd.transports.listening import Listening
from sockd.transports.openssl import context
from sockd.transports.records import USELESS_RECORDS
from sockd.transports.tls import TlsConnection
from sockd.tree.timeouts import overdue
from tests.certificates import made
from tests.tls_clients import Client
from tests.tls_forger import CLIENT_HELLO, HANDSHAKE, Forger
from tests.transports.loop import Loop, Probe, Recorder, ended, small_buffers
from tests.transports.test_tls import Link
from tests.transports.test_tls_paused import Words


def test_alerts_that_nobody_takes_end_the_reading(tmp_path: Path) -> None:
    """Each ClientHello within a connection is answered by an alert: who asks and asks is not read from."""
    loop = Loop()
    flusher = Flusher(loop)
    owner = Recorder(loop)
    ours, theirs = small_buffers()
    ours.setblocking(False)
    certificate = made("localhost")
    connection = TlsConnection(
        ours,
        Peer.unix(0, 1),
        flusher,
        owner,
        Listening("tls://here"),
        context(certificate.chain, certificate.key),
    )
    probe = Probe()
    connection.start(lambda: probe)
    assert flusher.tls is not None
    outgoing = flusher.tls[1]
    forger = Forger(theirs, tmp_path / "keys")
    loop.until(forger.shake, theirs)
    loop.until(lambda: connection.ready)
    most = 0
    while not connection.paused:
        theirs.send(b"".join(forger.record(HANDSHAKE, CLIENT_HELLO) for _ in range(USELESS_RECORDS.count)))
        loop.settle()
        loop.advance(USELESS_RECORDS.per)  # more of them in a shorter time would end the connection
        most = max(most, outgoing.pending)
        assert most < HIGH_WATER + READ_SIZE
    assert connection.unsent
    answers = 0
    while connection.paused:  # until the peer takes them
        loop.turn()
        with suppress(BlockingIOError):
            answers += len(theirs.recv(1 << 20))
    assert answers > HIGH_WATER
    assert not owner.ends
    theirs.close()
    connection.abortConnection()
    loop.settle()


def test_a_handshake_that_nobody_takes_is_none_in_time() -> None:
    """A long chain of certificates fills the buffers: a client that doesn't read them has no more time."""
    loop = Loop()
    owner = Recorder(loop)
    ours, theirs = small_buffers()
    ours.setblocking(False)
    certificate = made("localhost")
    long = context(certificate.chain * (1 + 2 * HIGH_WATER // len(certificate.chain)), certificate.key)
    connection = TlsConnection(ours, Peer.unix(0, 1), Flusher(loop), owner, Listening("tls://here"), long)
    connection.start(Probe)
    client = Client(theirs)
    with suppress(ssl.SSLWantReadError):
        client.tls.do_handshake()
    loop.settle()
    assert connection.unsent > HIGH_WATER
    assert overdue(connection, 9.0, 10.0, None, None) is None
    assert overdue(connection, 10.0, 10.0, None, None) is End.HANDSHAKE
    connection.hold(True)
    assert connection.paused
    client.tls.close()
    connection.abortConnection()
    loop.settle()


@pytest.mark.parametrize("shaken", [True, False])
def test_a_peer_that_leaves_while_nothing_is_read(shaken: bool) -> None:
    """Without a close_notify it isn't taken for a clean end, be it that we learn of it without reading."""
    probe = Probe()
    link = Link(probe)
    if shaken:
        link.shaken()
    link.loop.settle()
    link.connection.hold(True)
    link.plain = socket.socket(fileno=link.client.tls.detach())
    link.plain.shutdown(socket.SHUT_WR)
    link.connection.peer_left(reset=False)
    link.loop.settle()
    assert link.owner.ends == [End.TRUNCATED if shaken else End.HANDSHAKE]
    assert not shaken or not ended(probe)
    link.plain.close()


def test_a_peer_that_resets_while_nothing_is_read() -> None:
    """That is told as what it is."""
    link = Link(Probe()).shaken()
    link.connection.peer_left(reset=True)
    link.loop.settle()
    assert link.owner.ends == [End.RESET]
    link.close()


@pytest.mark.parametrize("first", [b"", b"said before"])
def test_what_follows_a_broken_record(first: bytes) -> None:
    """It is nobody's: all connections use the same buffers to OpenSSL, and this one ends."""
    probe = Probe()
    words = Words(probe)
    words.say(b"hello")
    if first:
        words.write(first)
    words.write(b"broken")
    *whole, last = words.cipher()
    words.sock.send(bytes([*whole, last ^ 1]) + b"and more")
    words.link.loop.until(lambda: words.link.counters.refused)
    assert probe.data == b"hello" + first
    assert [bio.pending for bio in (words.link.turn.tls or ())[:2]] == [0, 0]
    words.close()
