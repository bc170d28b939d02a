"""Clients by TLS, whose connections an upgrade lets finish instead of handing them over."""

import random
import select
import socket
import ssl
import threading
import time
from pathlib import Path

from tests.certificates import made
from tests.soak.books import Book

STEP_TIMEOUT = 60.0  # seconds for each step
PAUSE = 0.02  # seconds between two visits
VISIT_BYTES = 20_000  # bytes of a visit


def certify(directory: Path, number: int) -> bytes:
    """Another certificate next to the file each time; what clients are shown of it (DER)."""
    one = made("soak.example", days=30 + number)
    one.write(directory)
    return ssl.PEM_cert_to_DER_cert(one.chain.decode())


def secured(url: str) -> ssl.SSLSocket:
    """A connection whose handshake is done; nothing of the server is believed."""
    host, _, port = url.partition("://")[2].rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    plain = socket.create_connection((host, int(port)), STEP_TIMEOUT)
    try:
        return context.wrap_socket(plain, suppress_ragged_eofs=False)
    except BaseException:
        plain.close()
        raise


def closing(one: ssl.SSLSocket) -> bool:
    """Whether the daemon has something to say to a client without an answer: that it ends the connection."""
    if not (one.pending() or select.select([one], [], [], 0)[0]):
        return False
    one.settimeout(0.0)
    try:
        return not one.recv(1)
    except ssl.SSLWantReadError:
        return False  # a session ticket
    finally:
        one.settimeout(STEP_TIMEOUT)


class SecureVisitor(threading.Thread):
    """Comes, gets an echo, leaves; an upgrade may cut it short, but nothing may give it other bytes."""

    def __init__(self, url: str, book: Book, seed: int) -> None:
        super().__init__(name="visits-tls", daemon=True)
        self.over = threading.Event()
        self._url, self._book = url, book
        self._random = random.Random(f"{seed} tls")

    def run(self) -> None:
        try:
            while not self.over.is_set():
                self._visit(self._random.randbytes(self._random.randrange(1, VISIT_BYTES)))
                time.sleep(PAUSE)
        except Exception as error:  # noqa: BLE001 - it is in the account
            self._book.fault("client failed", f"{self.name}: {error!r}")

    def _visit(self, message: bytes) -> None:
        came = bytearray()
        try:
            with secured(self._url) as one:
                one.sendall(message)
                while len(came) < len(message) and (data := one.recv(65_536)):
                    came += data
                one.unwrap()
        except OSError as error:
            self._book.fault("cut", f"{self.name}: {error!r} after {len(came)} of {len(message)} bytes")
        else:
            if came == message:
                self._book.counts["ok"] += 1
                return
            self._book.fault("cut", f"{self.name}: {len(came)} of {len(message)} bytes")
        if not message.startswith(came):
            self._book.fault("wrong", f"{self.name}: other bytes came back")
