"""Attacks on TLS that cost OpenSSL much and a client little: empty records, long handshakes, big keys."""

import contextlib
import shutil
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.certificates import Made, made
from tests.end_to_end.programs import Process
from tests.hostile.ordeal import attacked
from tests.hostile.scene import FULL, Attackers, Scene, loudly_skip, tls_scene, until
from tests.hostile.test_tls import client
from tests.tls_forger import CLIENT_HELLO, HANDSHAKE, Forger, KeyUpdates
from tests.transports.test_inspection import record

pytestmark = pytest.mark.slow

ENDPOINTS = """
  tls-echo:
    listen: tls://{host}:0
    protocol: echo
    tls: {{certificate: server.pem, key: server.key}}
    limits: {{connections: 5000}}
  tls-known:
    listen: tls://{host}:0
    protocol: echo
    tls: {{certificate: server.pem, key: server.key, client_ca: authority.pem}}
    limits: {{connections: 5000}}
"""
ALERT, DATA = 21, 23
USELESS = {"tls-echo: TLS: too many records without data": lambda n: n > 0}
Records = Callable[[], bytes]


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with tls_scene(ENDPOINTS) as one:
        yield one


def shaken_13(attackers: Attackers, keys: Path) -> tuple[socket.socket, KeyUpdates]:
    """A connection under TLS 1.3 that is ready for records of our own."""
    context = client()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.keylog_filename = str(keys)
    plain = attackers.connect("tls-echo", "tls")
    one = context.wrap_socket(plain, server_hostname="localhost")
    sock = attackers.own(socket.socket(fileno=one.detach()))
    return sock, KeyUpdates(keys)


def shaken_12(attackers: Attackers, keys: Path) -> tuple[socket.socket, Forger]:
    """The same, under TLS 1.2."""
    sock = attackers.connect("tls-echo", "tls")
    forger = Forger(sock, keys)
    until(forger.shake, "a handshake")
    sock.setblocking(True)
    return sock, forger


def flood(scene: Scene, name: str, begin: Callable[[Attackers, Path], tuple[socket.socket, Records]]) -> None:
    """Carry out an attack with records that hold nothing, over one connection after the other."""

    def send(attackers: Attackers, end: float) -> int:
        count = 0
        while time.monotonic() < end:
            with tempfile.TemporaryDirectory() as directory:
                sock, make = begin(attackers, Path(directory) / "keys")
            with contextlib.suppress(OSError):
                while time.monotonic() < end:
                    sock.sendall(b"".join(make() for _ in range(500)))
                    count += 500
            sock.close()
        return count

    attacked(scene, name, "records", send, refused=USELESS)


@pytest.mark.parametrize("requested", [False, True], ids=["", "requested"])
def test_key_updates(requested: bool, scene: Scene) -> None:
    """Each costs OpenSSL 57 µs, and twice that where it has to answer: read in one go they took 137 ms."""

    def begin(attackers: Attackers, keys: Path) -> tuple[socket.socket, Records]:
        sock, updates = shaken_13(attackers, keys)
        return sock, lambda: updates.record(requested=requested)

    flood(scene, f"KeyUpdates{' that ask' if requested else ''}", begin)


def test_renegotiation_flood(scene: Scene) -> None:
    """Each ClientHello within a connection of TLS 1.2 is answered with an alert."""

    def begin(attackers: Attackers, keys: Path) -> tuple[socket.socket, Records]:
        sock, forger = shaken_12(attackers, keys)
        return sock, lambda: forger.record(HANDSHAKE, CLIENT_HELLO)

    flood(scene, "renegotiation flood", begin)


def test_warnings_and_empty_records(scene: Scene) -> None:
    """In turn, so that none of OpenSSL's own bounds is met, with data in between."""

    def begin(attackers: Attackers, keys: Path) -> tuple[socket.socket, Records]:
        sock, forger = shaken_12(attackers, keys)
        kinds = [(DATA, b""), (ALERT, bytes([1, 90])), (DATA, b""), (DATA, b"x")]
        number = iter(range(10**9))
        return sock, lambda: forger.record(*kinds[next(number) % len(kinds)])

    flood(scene, "warnings, empty records", begin)


def test_records_of_a_byte(scene: Scene) -> None:
    """They are data and may go on, on a hundred connections at once: others have their turn."""

    def send(attackers: Attackers, end: float) -> int:
        pairs = []
        for _ in range(100 if FULL else 20):
            with tempfile.TemporaryDirectory() as directory:
                pairs.append(shaken_12(attackers, Path(directory) / "keys"))
        count = 0
        while not count or time.monotonic() < end:
            for sock, forger in pairs:
                sock.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    sock.sendall(b"".join(forger.record(DATA, b"x") for _ in range(100)))
                with contextlib.suppress(TimeoutError, BlockingIOError):
                    sock.recv(1 << 20, socket.MSG_DONTWAIT)
                count += 100
        return count

    attacked(scene, "records of a byte", "records", send, memory=64)


def openssl_hello(*options: str) -> bytes:
    """What OpenSSL's own client sends first."""
    openssl = shutil.which("openssl")
    if openssl is None:
        loudly_skip("openssl is not installed (see .ci/run)")
    with socket.create_server(("127.0.0.1", 0)) as one:
        where = f"127.0.0.1:{one.getsockname()[1]}"
        process = Process([openssl, "s_client", "-connect", where, *options])
        try:
            accepted, _ = one.accept()
            with accepted:
                return accepted.recv(65_536)
        finally:
            process.end()


def hellos(scene: Scene, name: str, data: bytes, why: str) -> None:
    """Send what is to be refused at once, on one connection after the other."""

    def send(attackers: Attackers, end: float) -> int:
        count = 0
        while time.monotonic() < end:
            with attackers.connect("tls-echo", "tls") as sock, contextlib.suppress(OSError):
                sock.sendall(data)
                while sock.recv(65_536):
                    pass
            count += 1
        return count

    attacked(scene, name, "connections", send, refused={f"tls-echo: TLS: {why}": lambda n: n > 0})


def test_a_hello_of_tiny_records(scene: Scene) -> None:
    """64 KiB of them took 7 ms."""
    hello = b"\1" + (11_000).to_bytes(3, "big") + bytes(11_000)
    data = b"".join(record(HANDSHAKE, bytes([byte])) for byte in hello)
    hellos(scene, "ClientHello in bytes", data, "the ClientHello takes more than * records")


def test_keys_of_ffdhe(scene: Scene) -> None:
    """OpenSSL would compute with numbers of 8192 bits for 23 ms."""
    data = openssl_hello("-groups", "ffdhe8192", "-tls1_3")
    hellos(scene, "FFDHE-8192", data, "the client's key is of a group of FFDHE*")


@pytest.mark.parametrize("size", [9, 15_000])
def test_long_hellos(size: int, scene: Scene) -> None:
    """A thousand that promise 128 KiB are refused; a thousand of 15,000 bytes hold what they send."""
    promised = 130_000 if size == 9 else 16_000
    data = record(HANDSHAKE, b"\1" + promised.to_bytes(3, "big"))
    data += record(HANDSHAKE, bytes(size - len(data))) if size > 100 else b""
    number = 1000 if FULL else 100

    def send(attackers: Attackers, end: float) -> int:
        for _ in range(number):
            with contextlib.suppress(OSError):
                attackers.connect("tls-echo", "tls").sendall(data)
        while time.monotonic() < end:
            time.sleep(0.05)
        return number

    refused = {"tls-echo: TLS: the ClientHello takes more than*": lambda n: n == (number if size == 9 else 0)}
    # A connection in its handshake takes 40 KiB.
    memory = 32 + number // 16
    attacked(scene, f"ClientHellos of {size} B", "connections", send, refused=refused, memory=memory)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize("count", [25, 200])
def test_many_certificates(count: int, version: ssl.TLSVersion, scene: Scene) -> None:
    """OpenSSL took 54 ms for the 150 that go into 64 KiB, before it looked at who had signed them."""

    def send(attackers: Attackers, end: float) -> int:
        shown = made("client.example")
        context = client(Made(shown.chain + made("extra").chain * count, shown.key))
        context.minimum_version = context.maximum_version = version
        number = 0
        while time.monotonic() < end:
            sock = attackers.connect("tls-known", "tls")
            with sock, contextlib.suppress(OSError), context.wrap_socket(sock) as one:
                one.recv(1)
            number += 1
        return number

    attacked(scene, f"{count} certificates", "handshakes", send, refused={"tls-known: *": lambda n: n > 0})
