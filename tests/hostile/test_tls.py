"""Attacks on TLS: what is no handshake, one that never ends, certificates that are not good enough."""

import contextlib
import os
import shutil
import socket
import ssl
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.certificates import Made, made
from tests.end_to_end.programs import Process
from tests.hostile.ordeal import attacked
from tests.hostile.scene import FULL, Attackers, Scene, loudly_skip, tls_scene, until

pytestmark = pytest.mark.slow

ENDPOINTS = """
  tls-echo:
    listen: tls://{host}:0
    protocol: echo
    tls: {{certificate: server.pem, key: server.key}}
    limits: {{connections: 5000, handshake: 1s}}
  tls-known:
    listen: tls://{host}:0
    protocol: echo
    tls: {{certificate: server.pem, key: server.key, client_ca: authority.pem, client_names: [good.example]}}
    limits: {{handshake: 1s}}
"""
HELLO = bytes.fromhex("1603010200010001fc0303")  # how a ClientHello of 512 bytes begins


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """A daemon that speaks TLS, to everybody and to those whom an authority knows."""
    with tls_scene(ENDPOINTS) as one:
        yield one


def client(shown: Made | None = None) -> ssl.SSLContext:
    """A client's that believes any server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if shown is not None:
        shown.load_into(context)
    return context


def echoed(scene: Scene, endpoint: str, context: ssl.SSLContext) -> bool:
    """Whether a client gets its byte back."""
    plain = socket.create_connection(scene.where(endpoint, "tls"), 30)
    try:
        with context.wrap_socket(plain, server_hostname="localhost") as one:
            one.sendall(b"x")
            return one.recv(1) == b"x"
    except (ssl.SSLError, ConnectionResetError, BrokenPipeError):
        return False
    finally:
        plain.close()


def closed(one: socket.socket) -> None:
    """Waits until the daemon has closed it."""
    try:
        while one.recv(65_536):
            pass
    except ConnectionResetError:
        pass


def test_slow_handshakes(scene: Scene) -> None:
    """A handshake that doesn't end, a byte at a time or not begun, is cut after `limits.handshake`."""
    count = 2000 if FULL else 200

    def dribble(attackers: Attackers, end: float) -> int:
        sockets = [attackers.connect("tls-echo", "tls") for _ in range(count)]
        for at in range(len(HELLO)):
            for number, one in enumerate(sockets):
                try:
                    one.send(HELLO[at : at + 1] if number % 2 else b"")
                except (BrokenPipeError, ConnectionResetError):
                    break
            time.sleep(0.1)
        for one in sockets:
            closed(one)
        return count

    refused = {"tls-echo: handshake": lambda n: n == count}
    attacked(scene, "slow handshakes", "connections", dribble, refused=refused, memory=16 + count // 16)


def test_garbage(scene: Scene) -> None:
    """What is no TLS at all gets an alert and the end, and is counted under OpenSSL's reason."""
    pieces = [
        os.urandom(200),
        b"GET / HTTP/1.0\r\n\r\n",
        HELLO + bytes(600),
        b"\x16\x03\x01\xff\xff" + bytes(70_000),
        b"\x80\x2e\x01\x00\x02" + bytes(41),  # as SSL 2 began
        b"\x15\x03\x03\x00\x02\x02\x28",  # an alert
        b"\n" * 70_000,
    ]

    def send(attackers: Attackers, end: float) -> int:
        count = 0
        while time.monotonic() < end:
            with socket.create_connection(scene.where("tls-echo", "tls"), 30) as one:
                try:
                    one.sendall(pieces[count % len(pieces)])
                    one.shutdown(socket.SHUT_WR)
                    closed(one)
                except OSError:
                    pass
            count += 1
        return count

    tell_tls(scene, "TLS garbage", "connections", send)


def tell_tls(scene: Scene, name: str, what: str, attack: Callable[[Attackers, float], int]) -> Counter[str]:
    """Only TLS refuses anything, under OpenSSL's reasons and not more of them than there are."""
    reasons = {"tls-*: TLS: *": lambda n: n > 0, "tls-*: handshake": lambda n: n >= 0}
    outcome = attacked(scene, name, what, attack, refused=reasons)
    told = outcome.refused
    assert sum(told.values()) <= outcome.count
    assert len(told) < 40, told
    return told


def test_handshake_storm(scene: Scene) -> None:
    """Whole handshakes, one after the other: the dearest thing that a client can ask for."""

    def shake(attackers: Attackers, end: float) -> int:
        context = client()
        count = 0
        while time.monotonic() < end:
            assert echoed(scene, "tls-echo", context)
            count += 1
        return count

    attacked(scene, "TLS handshakes", "handshakes", shake)


def test_old_versions(scene: Scene) -> None:
    """TLS 1.1 and older are refused."""

    def shake(attackers: Attackers, end: float) -> int:
        count = 0
        while time.monotonic() < end:
            context = client()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                context.maximum_version = ssl.TLSVersion.TLSv1_1
                context.minimum_version = ssl.TLSVersion.TLSv1
            context.set_ciphers("ALL:@SECLEVEL=0")
            assert not echoed(scene, "tls-echo", context)
            count += 1
        return count

    tell_tls(scene, "old TLS", "handshakes", shake)


def test_renegotiation(scene: Scene) -> None:
    """A client of TLS 1.2 that asks for another handshake doesn't get it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        loudly_skip("openssl is not installed (see .ci/run)")
    host, port = scene.where("tls-echo", "tls")

    def ask(attackers: Attackers, end: float) -> int:
        count = 0
        while time.monotonic() < end:
            one = Process([openssl, "s_client", "-connect", f"{host}:{port}", "-tls1_2"])
            try:
                one.expect("Verify return code")
                one.send("R\n")
                one.expect("RENEGOTIATING")
                one.expect("no renegotiation")
                one.wait()
            finally:
                one.end()
            count += 1
        return count

    tell_tls(scene, "renegotiation", "connections", ask)


def test_wrong_certificates(scene: Scene) -> None:
    """None, and each that is wrong in its own way, is refused under its own reason; the right one gets in."""
    wrong = [
        None,
        made("good.example"),  # by itself
        made("good.example", issuer="other authority"),
        made("good.example", issuer="authority", days=-0.5),
        made("good.example", issuer="authority", start=1),
        made("good.example", issuer="authority", purpose=ExtendedKeyUsageOID.SERVER_AUTH),
        made("bad.example", issuer="authority"),
    ]
    good = client(made("good.example", issuer="authority", days=29))
    contexts = [client(one) for one in wrong]

    def show(attackers: Attackers, end: float) -> int:
        count = 0
        while count < len(contexts) or time.monotonic() < end:
            assert not echoed(scene, "tls-known", contexts[count % len(contexts)]), count
            count += 1
        assert echoed(scene, "tls-known", good)
        counts.append(count)
        return count

    counts: list[int] = []
    told = tell_tls(scene, "wrong certificates", "handshakes", show)
    assert len(told) == len(wrong), told
    assert sum(told.values()) == counts[-1]
    assert max(told.values()) - min(told.values()) <= 1, told


def test_never_read_in_tls(scene: Scene) -> None:
    """Clients that send all they can and read nothing: the bound is the plain connections', and OpenSSL's."""

    def send(attackers: Attackers, end: float) -> int:
        sockets = []
        for _ in range(20):
            plain = attackers.connect("tls-echo", "tls", buffer=4096)
            one = attackers.own(client().wrap_socket(plain, server_hostname="localhost"))
            one.setblocking(False)
            sockets.append(one)
        count = 0
        while time.monotonic() < end:
            for one in sockets:
                with contextlib.suppress(ssl.SSLWantWriteError, ssl.SSLWantReadError):
                    count += one.send(bytes(16_384))
            time.sleep(0.001)
        return count

    attacked(scene, "never read, TLS", "bytes", send, memory=32)
    until(lambda: scene.endpoint("tls-echo")["connections"] == 0, "they are gone")
