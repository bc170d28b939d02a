"""Clients that may not come, come too often or stay too long, and PROXY headers of each wrong kind."""

import contextlib
import shutil
import socket
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.ordeal import attacked
from tests.hostile.scene import Attackers, Scene, until

pytestmark = pytest.mark.slow

ENDPOINTS = """
  barred: {{listen: tcp://{host}:0, protocol: echo, access: {{deny: [127.0.0.0/8], allow: [127.0.0.2]}}}}
  per-source:
    listen: tcp://{host}:0
    protocol: echo
    limits: {{connections_per_source: 3, exempt: [127.0.0.9]}}
  rate: {{listen: tcp://{host}:0, protocol: echo, limits: {{connect_rate: 5/s, exempt: [127.0.0.9]}}}}
  first: {{listen: tcp://{host}:0, protocol: echo, limits: {{first_byte: 300ms}}}}
  short: {{listen: tcp://{host}:0, protocol: echo, limits: {{lifetime: 1s}}}}
  proxied:
    listen: tcp://{host}:0
    protocol: echo
    proxy_protocol: {{from: [127.0.0.1]}}
    access: {{deny: [203.0.113.0/24]}}
    limits: {{handshake: 500ms, connections_per_source: 3}}
"""
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
GOOD = [
    b"PROXY TCP4 198.51.100.7 192.0.2.1 4000 7007\r\n",
    b"PROXY UNKNOWN\r\n",
    SIGNATURE + b"\x21\x11\x00\x0c" + bytes([198, 51, 100, 8, 192, 0, 2, 1]) + struct.pack("!HH", 4000, 7007),
    SIGNATURE + b"\x20\x00\x00\x00",
]
WRONG = [
    b"GET / HTTP/1.0\r\n\r\n",
    b"PROXY \r\n",
    b"PROXY TCP4 198.51.100.7 192.0.2.1 4000\r\n",
    b"PROXY TCP4 198.51.100.7 192.0.2.1 4000 65536\r\n",
    b"PROXY TCP4 198.51.100.7 192.0.2.1 04000 7007\r\n",
    b"PROXY TCP4 198.51.100.256 192.0.2.1 4000 7007\r\n",
    b"PROXY TCP4 2001:db8::1 192.0.2.1 4000 7007\r\n",
    b"PROXY TCP6 198.51.100.7 192.0.2.1 4000 7007\r\n",
    b"PROXY TCP4  198.51.100.7 192.0.2.1 4000 7007\r\n",
    b"PROXY UDP4 198.51.100.7 192.0.2.1 4000 7007\r\n",
    b"proxy TCP4 198.51.100.7 192.0.2.1 4000 7007\r\n",
    b"PROXY TCP4 198.51.100.7 192.0.2.1 4000 7007\n\n",
    b"PROXY UNKNOWN " + b"x" * 200,
    SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),  # version 1
    SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),  # an unknown command
    SIGNATURE + b"\x21\x12\x00\x0c" + bytes(12),  # datagrams
    SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11),  # too short for its addresses
    SIGNATURE + b"\x21\x11\xff\xff" + bytes(600),  # too long
    SIGNATURE + b"\x21\x11\x00\x0f" + bytes(12) + b"\x04\x00\x09",  # a TLV beyond its end
    SIGNATURE[:-1] + b"\r" + bytes(20),
]


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """A daemon whose endpoints restrict their clients."""
    path = Path(tempfile.mkdtemp(prefix="sockd-"))
    one = Scene(path, endpoints=ENDPOINTS)
    yield one
    one.close()
    shutil.rmtree(path)


def served(scene: Scene, endpoint: str, source: str = "127.0.0.1", first: bytes = b"") -> bool:
    """Whether a client from there gets its byte back."""
    with socket.create_connection(scene.where(endpoint), 30, (source, 0)) as one:
        try:
            one.sendall(first + b"x")
            return one.recv(1) == b"x"
        except (ConnectionResetError, BrokenPipeError):
            return False


def test_barred(scene: Scene) -> None:
    """A source that isn't allowed is closed before a byte is read, however often; one that is, is served."""

    def storm(attackers: Attackers, end: float) -> int:
        count = 0
        while time.monotonic() < end:
            assert not served(scene, "barred")
            count += 1
            if count % 100 == 0:
                assert served(scene, "barred", "127.0.0.2")
        return count

    outcome = attacked(scene, "barred", "connections", storm, refused={"barred: access": lambda n: n > 0})
    assert outcome.refused["barred: access"] == outcome.count


def test_too_many_of_one_source(scene: Scene) -> None:
    """Three of one source and no more, while another source and exempt ones are served."""

    def crowd(attackers: Attackers, end: float) -> int:
        for _ in range(3):
            attackers.connect("per-source")
        until(lambda: scene.endpoint("per-source")["connections"] == 3, "three of them")
        count = 0
        while time.monotonic() < end:
            assert not served(scene, "per-source")
            assert served(scene, "per-source", "127.0.0.2")
            count += 1
        for _ in range(10):
            attackers.own(socket.create_connection(scene.where("per-source"), 30, ("127.0.0.9", 0)))
        assert served(scene, "per-source", "127.0.0.9")
        return count

    refused = {"per-source: connections_per_source": lambda n: n > 0}
    outcome = attacked(scene, "too many of one source", "connections", crowd, refused=refused)
    assert outcome.refused["per-source: connections_per_source"] == outcome.count
    assert served(scene, "per-source")


def test_too_often(scene: Scene) -> None:
    """Faster than `connect_rate` one source gets no further; it recovers by itself."""
    ok: list[int] = []

    def storm(attackers: Attackers, end: float) -> int:
        count = good = 0
        while time.monotonic() < end:
            good += served(scene, "rate")
            count += 1
            assert served(scene, "rate", "127.0.0.9")
        ok.append(good)
        return count

    began = time.monotonic()
    refused = {"rate: connect_rate": lambda n: n > 0}
    outcome = attacked(scene, "too often", "connections", storm, refused=refused)
    assert outcome.refused["rate: connect_rate"] == outcome.count - ok[-1]
    assert ok[-1] <= 5 * (time.monotonic() - began + 1)
    until(lambda: served(scene, "rate"), "it recovers", 5)


def test_no_first_byte(scene: Scene) -> None:
    """Who says nothing at first is closed long before the idle time."""

    def wait(attackers: Attackers, end: float) -> int:
        count = 0
        while time.monotonic() < end:
            sockets = [attackers.connect("first") for _ in range(50)]
            for one in sockets:
                with contextlib.suppress(ConnectionResetError):
                    assert one.recv(1) == b""
            count += len(sockets)
        return count

    outcome = attacked(
        scene, "no first byte", "connections", wait, refused={"first: first_byte": lambda n: n > 0}
    )
    assert outcome.refused["first: first_byte"] == outcome.count


def test_lifetime(scene: Scene) -> None:
    """Who sends a byte now and then for ever is closed when its time is over."""

    def linger(attackers: Attackers, end: float) -> int:
        sockets = [attackers.connect("short") for _ in range(50)]
        began = time.monotonic()
        for one in sockets:
            one.settimeout(0.001)
        left = list(sockets)
        while left:
            assert time.monotonic() < began + 20
            for one in list(left):
                try:
                    one.sendall(b"x")
                    if one.recv(100) == b"":
                        left.remove(one)
                except TimeoutError:
                    pass
                except OSError:
                    left.remove(one)
        return len(sockets)

    outcome = attacked(scene, "lifetime", "connections", linger, refused={"short: lifetime": lambda n: n > 0})
    assert outcome.refused["short: lifetime"] == outcome.count


def test_wrong_proxy_headers(scene: Scene) -> None:
    """A header of each wrong kind ends its connection, and so does one from a peer that is no proxy."""

    def send(attackers: Attackers, end: float) -> int:
        count = 0
        while count < len(WRONG) or time.monotonic() < end:
            assert not served(scene, "proxied", first=WRONG[count % len(WRONG)]), WRONG[count % len(WRONG)]
            count += 1
        assert not served(scene, "proxied", "127.0.0.2", GOOD[0])
        return count + 1

    refused = {"proxied: proxy header": lambda n: n > 0, "proxied: handshake": lambda n: n >= 0}
    outcome = attacked(scene, "wrong PROXY headers", "connections", send, refused=refused)
    assert outcome.refused.total() == outcome.count


def test_split_proxy_headers(scene: Scene) -> None:
    """A right header is taken however it is split: at each byte, and all of them one by one."""

    def send(attackers: Attackers, end: float) -> int:
        count = 0
        for header in GOOD:
            for at in (*range(1, len(header)), 0):
                with socket.create_connection(scene.where("proxied"), 30) as one:
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    parts = (
                        [header[:at], header[at:]] if at else [header[n : n + 1] for n in range(len(header))]
                    )
                    for part in parts:
                        one.sendall(part)
                        time.sleep(0.001)
                    one.sendall(b"x")
                    assert one.recv(10) == b"x"
                count += 1
        return count

    attacked(scene, "split PROXY headers", "connections", send)


def test_slow_proxy_headers(scene: Scene) -> None:
    """A header that doesn't come whole within `limits.handshake` ends its connection."""

    def dribble(attackers: Attackers, end: float) -> int:
        sockets = [attackers.connect("proxied") for _ in range(100)]
        for number, one in enumerate(sockets):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                one.sendall(GOOD[number % 4][: number % 10])
        for one in sockets:
            with contextlib.suppress(ConnectionResetError):
                assert one.recv(1) == b""
        return len(sockets)

    outcome = attacked(
        scene, "slow PROXY headers", "connections", dribble, refused={"proxied: handshake": lambda n: n > 0}
    )
    assert outcome.refused["proxied: handshake"] == outcome.count


def test_sources_that_a_proxy_tells(scene: Scene) -> None:
    """Access and limits are of the address in the header."""

    def send(attackers: Attackers, end: float) -> int:
        count = 0
        barred = b"PROXY TCP4 203.0.113.7 192.0.2.1 4000 7007\r\n"
        while time.monotonic() < end:
            assert not served(scene, "proxied", first=barred)
            count += 1
        for _ in range(3):
            attackers.connect("proxied").sendall(GOOD[0])
        until(lambda: scene.endpoint("proxied")["connections"] == 3, "three of them")
        until(lambda: not served(scene, "proxied", first=GOOD[0]), "no fourth one")
        assert served(scene, "proxied", first=GOOD[2])
        return count

    refused = {"proxied: access": lambda n: n > 0, "proxied: connections_per_source": lambda n: n > 0}
    outcome = attacked(scene, "sources that a proxy tells", "connections", send, refused=refused)
    assert outcome.refused["proxied: access"] == outcome.count
