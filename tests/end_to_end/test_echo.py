"""What an administrator trusts an echo with: every byte, in order, at any size, and flat memory."""

import hashlib
import random
import signal
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.end_to_end.conftest import Serve
from tests.end_to_end.harness import Daemon, fill, receive, receive_all
from tests.end_to_end.programs import BOUND

MEGABYTE = 1_000_000
ALLOWED_GROWTH = 8 * 1024  # kB of resident memory, whatever passes through
FILE = """
endpoints:
  echo:
    listen: ['tcp://127.0.0.1:0', 'unix://echo.sock', 'udp://*:0', 'unixgram://gram.sock']
    protocol: echo
"""


def blocks(count: int) -> Iterator[bytes]:
    """So many different megabytes, the same for the sender and for the hash."""
    generator = random.Random(7)
    for _ in range(count):
        yield generator.randbytes(MEGABYTE)


def resident(daemon: Daemon) -> int:
    return int(daemon.status("VmRSS").split()[0])


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_100_mb_through_a_slow_reader(serve: Serve, kind: str) -> None:
    """100 MB come back identical to a client that reads slowly, and the daemon's memory stays flat."""
    daemon = serve(FILE)
    before = resident(daemon)
    sent, came = hashlib.sha256(), hashlib.sha256()
    most = before
    with daemon.connect("echo", kind) as one:
        if kind == "tcp":
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)

        def send() -> None:
            for block in blocks(100):
                sent.update(block)
                one.sendall(block)
            one.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        count = 0
        while chunk := one.recv(4096):  # slower than the daemon could send
            came.update(chunk)
            count += len(chunk)
            if count % (4096 * 512) < len(chunk):
                most = max(most, resident(daemon))
        sender.join(BOUND)
    assert count == 100 * MEGABYTE
    assert came.digest() == sent.digest()
    assert most - before < ALLOWED_GROWTH


def test_a_client_that_does_not_read_at_all(serve: Serve) -> None:
    """It is not read from either: the kernel holds what it may, the daemon's memory stays flat."""
    daemon = serve(FILE)
    before = resident(daemon)
    with daemon.connect("echo") as stuck, daemon.connect("echo") as other:
        taken = fill(stuck, other)
        assert resident(daemon) - before < ALLOWED_GROWTH
        assert len(receive(stuck, taken)) == taken  # now that it reads, everything is there


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_what_was_sent_before_a_half_close_comes_back(serve: Serve, kind: str) -> None:
    """12 MB, then FIN with some of them still on their way: all of them come back."""
    daemon = serve(FILE)
    data = b"".join(blocks(12))
    with daemon.connect("echo", kind) as one:

        def send() -> None:
            one.sendall(data)
            one.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        assert receive_all(one) == data
        sender.join(BOUND)


def test_a_half_delivered_echo_finishes_at_stop(serve: Serve) -> None:
    """SIGTERM while megabytes are on their way back: all arrive, then the connection ends, status 0."""
    daemon = serve(FILE)
    data = b"".join(blocks(40))
    with daemon.connect("echo") as one, daemon.connect("echo") as other:
        taken = fill(one, other, data)
        assert taken > 2 * MEGABYTE
        assert receive(one, 1000) == data[:1000]
        daemon.signal(signal.SIGTERM)
        rest = receive_all(one)
    assert 1000 + len(rest) == taken
    assert rest == data[1000:taken]
    assert daemon.wait() == 0


@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.2", "127.9.8.7"])
def test_a_reply_leaves_from_the_address_that_was_asked(serve: Serve, source: str) -> None:
    """On udp://* a client that connected its socket to 127.0.0.2 gets its answer from there."""
    port = serve(FILE).port("echo", "udp")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(BOUND)
        one.sendto(b"hello", (source, port))
        assert one.recvfrom(100) == (b"hello", (source, port))


def test_both_families_share_a_port(serve: Serve) -> None:
    """udp://* answers over IPv6 as well, on the port that IPv4 has."""
    if not socket.has_ipv6:
        pytest.skip("no IPv6 in this Python")
    port = serve(FILE).port("echo", "udp")
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one:
        one.settimeout(BOUND)
        try:
            one.connect(("::1", port))
        except OSError as error:
            pytest.skip(f"no IPv6 on this machine: {error}")
        one.send(b"hello")
        assert one.recv(100) == b"hello"


@pytest.mark.parametrize("kind", ["udp", "unixgram"])
def test_an_empty_datagram_comes_back_empty(serve: Serve, kind: str) -> None:
    """It is a datagram like any other, and what comes after it does too."""
    daemon = serve(FILE)
    with daemon.connect("echo", kind, source=mine(daemon, kind)) as one:
        for data in (b"", b"after", b"", b"", bytes(60_000)):
            one.send(data)
            assert one.recv(65536) == data
    assert daemon.stop() == 0
    assert not [one for one in daemon.events if one.get("event") == "refused"]


def test_who_has_no_return_address_is_counted(serve: Serve) -> None:
    """An unbound Unix socket can't be answered: the stop reports it, and others are served."""
    daemon = serve(FILE)
    with daemon.connect("echo", "unixgram") as unbound:
        for data in (b"nobody to answer to", b""):
            unbound.send(data)
    with daemon.connect("echo", "unixgram", source=mine(daemon, "unixgram")) as one:
        one.send(bytes(200_000))
        assert one.recv(300_000) == bytes(200_000)
    assert daemon.stop() == 0
    assert daemon.event("refused", endpoint="echo")["refused"] == {"no return address": 2}


def mine(daemon: Daemon, kind: str) -> str:
    """A Unix client's own address; the kernel chooses those of the others."""
    return str(daemon.directory / "mine.sock") if kind == "unixgram" else ""
