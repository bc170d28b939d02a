"""Senders of lines to be logged: one thread for each kind of address."""

import json
import random
import re
import socket
import ssl
import threading
import time
from pathlib import Path

from tests.end_to_end.load import destination
from tests.fuzz.parsers.lines import json_bytes, original
from tests.soak.books import Book, Ledger
from tests.soak.secure import closing, secured

LINES_OF_A_CONNECTION = 300  # lines of a connection
CHUNK = 25  # lines that are sent at once, at most
PAUSE = 0.02  # seconds between two chunks
STEP_TIMEOUT = 60.0  # seconds in which the daemon must take something, or end a connection

_RECORD = re.compile(rb"\S+ applog \S+ (.*)")
_LINE = re.compile(r"(\w+)\.(\d+)\.(\d+) ")


def line(sender: str, connection: int, number: int) -> bytes:
    """What is sent, without its newline: each has a length of its own, and some need an escape."""
    text = f"{sender}.{connection}.{number} " + "grüße\t\\ \x1b[1m" * (number % 3) + "x" * (number * 97 % 300)
    return text.encode()


class Logger(threading.Thread):
    """Sends until it is asked to stop; then it ends what it began."""

    def __init__(self, url: str, ledger: Ledger, book: Book, seed: int) -> None:
        self.kind, _, self._where = url.partition("://")
        super().__init__(name=f"log-{self.kind}", daemon=True)
        self.over = threading.Event()
        self._url = url
        self._ledger, self._book = ledger, book
        self._random = random.Random(f"{seed} {self.kind}")

    def run(self) -> None:
        try:
            if self.kind in ("tcp", "unix", "tls"):
                connection = 0
                while not self.over.is_set():
                    self._stream(connection)
                    connection += 1
            else:
                self._datagrams()
        except Exception as error:  # noqa: BLE001 - it is in the account
            self._book.fault("client failed", f"{self.name}: {error!r}")

    def _stream(self, connection: int) -> None:
        sending = self._ledger.begin(self.kind, connection)
        clean = False
        with connected(self._url) as one:
            try:
                left = self._random.randrange(1, LINES_OF_A_CONNECTION)
                while left and not self.over.is_set():
                    if isinstance(one, ssl.SSLSocket) and closing(one):
                        self._book.counts["let finish"] += 1
                        break
                    count = min(left, self._random.randrange(1, CHUNK + 1))
                    lines = [line(self.kind, connection, sending.sent + n) for n in range(count)]
                    sending.sent += count
                    data = b"".join(each + b"\n" for each in lines)
                    half = self._random.randrange(len(data))  # a line is always under way
                    one.sendall(data[:half])
                    time.sleep(PAUSE)
                    one.sendall(data[half:])
                    left -= count
                else:
                    clean = _closed(one)
            except OSError as error:
                # An upgrade lets those by TLS finish, and they may find out by an error.
                what = "let finish" if self.kind == "tls" else "connections cut"
                self._book.fault(what, f"{self.name}, connection {connection}: {error!r}")
        self._ledger.end(sending, clean=clean)

    def _datagrams(self) -> None:
        sending = self._ledger.begin(self.kind, 0)
        if self.kind == "udp":
            host, _, port = self._where.rpartition(":")
            one, where = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), (host, int(port))
        else:
            one, where = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), self._where  # type: ignore[assignment]
        with one:
            one.settimeout(STEP_TIMEOUT)
            while not self.over.is_set():
                count = self._random.randrange(1, 4)
                data = b"\n".join(line(self.kind, 0, sending.sent + n) for n in range(count))
                sending.sent += count
                one.sendto(data, where)
                time.sleep(PAUSE)
        self._ledger.end(sending, clean=False)


def _closed(one: socket.socket) -> bool:
    """Ends the connection from this side; whether the daemon did so after that."""
    if isinstance(one, ssl.SSLSocket):
        one.unwrap()
        return True
    one.shutdown(socket.SHUT_WR)
    return one.recv(1) == b""


def connected(url: str) -> socket.socket:
    """A stream; the full backlog of a Unix socket says so, to try again."""
    if url.startswith("tls:"):
        return secured(url)
    family, where = destination(url)
    end = time.monotonic() + STEP_TIMEOUT
    while True:
        one = socket.socket(family, socket.SOCK_STREAM)
        one.settimeout(STEP_TIMEOUT)
        try:
            one.connect(where)
        except BlockingIOError:
            one.close()
            if time.monotonic() > end:
                raise
            time.sleep(PAUSE)
        except BaseException:
            one.close()
            raise
        else:
            return one


def read(file: Path, ledger: Ledger) -> None:
    """Every record of a file goes into the ledger."""
    with file.open("rb") as records:
        for record in records:
            written = _bytes(record.removesuffix(b"\n"))
            found = _LINE.match(written.decode(errors="replace"))
            if not found or written != line(found[1], int(found[2]), int(found[3])):
                ledger.faults.append(f"{file.name}: a record of what nobody sent: {record[:200]!r}")
            else:
                ledger.found(found[1], int(found[2]), int(found[3]))


def _bytes(record: bytes) -> bytes:
    """The line of a record of either format."""
    if record.startswith(b"{"):
        return json_bytes(json.loads(record))
    found = _RECORD.fullmatch(record)
    return original(found[1]) if found else b""
