"""Echoes by datagrams: what comes back is what was sent, once, or the daemon tells that it refused."""

import random
import socket
import threading
import time
from pathlib import Path

from tests.soak.books import Book

PAUSE = 0.02  # seconds between two pings
ANSWER_TIMEOUT = 10.0  # seconds in which an answer must come
PING_BYTES = 2000  # bytes of a ping


class Pinger(threading.Thread):
    """One ping after another; an answer that is late is waited for no longer, but is still one."""

    def __init__(self, url: str, directory: Path, book: Book, seed: int) -> None:
        self.kind, _, self._where = url.partition("://")
        super().__init__(name=f"ping-{self.kind}", daemon=True)
        self.over = threading.Event()
        self._own = directory / f"ping-{self.kind}.sock"
        self._book = book
        self._random = random.Random(f"{seed} {self.name}")

    def run(self) -> None:
        try:
            if self.kind == "udp":
                host, _, port = self._where.rpartition(":")
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                    one.connect((host, int(port)))
                    self._ping(one)
            else:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
                    one.bind(str(self._own))
                    one.connect(self._where)
                    self._ping(one)
        except Exception as error:  # noqa: BLE001 - it is in the account
            self._book.fault("client failed", f"{self.name}: {error!r}")

    def _ping(self, one: socket.socket) -> None:
        one.settimeout(ANSWER_TIMEOUT)
        number = 0
        while not self.over.is_set():
            message = f"{number} ".encode() + self._random.randbytes(self._random.randrange(PING_BYTES))
            number += 1
            self._book.counts["sent"] += 1
            one.send(message)
            if self._answered(one, message):
                self._book.counts["answered"] += 1
            time.sleep(PAUSE)

    def _answered(self, one: socket.socket, message: bytes) -> bool:
        number = message.partition(b" ")[0]
        while True:
            try:
                answer = one.recv(65_536)
            except TimeoutError:
                self._book.fault("unanswered", f"{self.name}: ping {number.decode()}")
                return False
            if answer == message:
                return True
            early = answer.partition(b" ")[0]
            if early.isdigit() and int(early) < int(number):
                self._book.counts["late"] += 1
                continue
            self._book.fault("wrong", f"{self.name}: the answer to {number.decode()} is another one")
            return True
