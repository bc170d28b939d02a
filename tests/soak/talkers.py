"""Members of one chat room that come by datagrams, and one by each sort of stream: all hear all."""

import re
import selectors
import socket
import threading
import time
from pathlib import Path

from tests.end_to_end.load import STEP_TIMEOUT
from tests.end_to_end.resident import LINE_BYTES, Numbers, line
from tests.soak.books import Book
from tests.soak.loggers import connected

ROOM = "mixed"
PACE = 0.5  # seconds from one line of a member to its next: below what the chat allows
TURN = 0.05  # seconds, at most, until the time is looked at

_ASKED = re.compile(rb"/prove [0-9a-f-]+")
_TOO_FAST = "-- faster than "
_SAID = re.compile(r"<(\w+)> (\d+) ")


class Talker:
    """One member; `said` is how many lines it has said."""

    def __init__(self, name: str, url: str, directory: Path) -> None:
        self.name = name
        self.kind, _, where = url.partition("://")
        self.ready = self.proved = False
        self.said = 0
        self.heard: dict[str, Numbers] = {}
        self._rest = b""
        if self.kind in ("tcp", "unix"):
            self.socket = connected(url)
        elif self.kind == "udp":
            host, _, port = where.rpartition(":")
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.socket.connect((host, int(port)))
        else:
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self.socket.bind(str(directory / f"{name}.sock"))
            self.socket.connect(where)
        self.socket.settimeout(STEP_TIMEOUT)

    def begin(self) -> None:
        """Joins; by UDP it is asked for a proof first."""
        if self.kind == "udp":
            self.socket.send(b"hello\n")
        else:
            self.enter()

    def enter(self) -> None:
        self.socket.send(f"/nick {self.name}\n/join {ROOM}\n".encode())

    def say(self) -> None:
        self.socket.sendall(line(self.name, self.said, LINE_BYTES["chat"]))
        self.said += 1

    def lines(self) -> list[bytes]:
        """What has come: whole lines."""
        data = self.socket.recv(65_536)
        if self.kind in ("tcp", "unix") and not data:
            raise ConnectionError("the chat closed the connection")
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines


class Talkers(threading.Thread):
    """All of them; `over` is set when nobody is to say anything more."""

    def __init__(self, urls: list[str], directory: Path, book: Book) -> None:
        super().__init__(name="talkers", daemon=True)
        self.over = threading.Event()
        self.there = threading.Event()
        self._book = book
        self.all = [
            Talker(f"{url.partition(':')[0]}{number}", url, directory)
            for url in urls
            for number in range(1 if url.startswith(("tcp", "unix:")) else 2)
        ]
        self._selector = selectors.DefaultSelector()
        for each in self.all:
            self._selector.register(each.socket, selectors.EVENT_READ, each)

    def run(self) -> None:
        try:
            self._talk()
        except Exception as error:  # noqa: BLE001 - it is in the account
            self._book.fault("client failed", f"talkers: {error!r}")
        finally:
            self.there.set()
            for each in self.all:
                each.socket.close()

    def _talk(self) -> None:
        for each in self.all:
            each.begin()
        self._turns(lambda: all(each.ready for each in self.all))
        for each in self.all:
            each.heard = {other.name: Numbers() for other in self.all if other is not each}
        self.there.set()
        due = time.monotonic()
        while not self.over.is_set():
            if time.monotonic() >= due:
                for each in self.all:
                    each.say()
                    self._book.counts["said"] += 1
                due = time.monotonic() + PACE
            self._flusher()
        self._turns(lambda: not self.lost())

    def _turns(self, true: object) -> None:
        end = time.monotonic() + STEP_TIMEOUT
        while not true() and time.monotonic() < end:  # type: ignore[operator]
            self._flusher()

    def _flusher(self) -> None:
        for key, _ in self._selector.select(TURN):
            each: Talker = key.data
            for one in each.lines():
                self._hear(each, one)

    def _hear(self, each: Talker, one: bytes) -> None:
        text = one.decode(errors="backslashreplace")
        if text.startswith("-- "):
            asked = _ASKED.search(one)
            if asked and not each.proved:
                each.proved = True
                each.socket.send(asked[0].replace(b"-", b"") + b"\n")
                each.enter()
            each.ready |= text.startswith(f"-- you are in {ROOM}")
            if _TOO_FAST in text:
                self._book.counts["told to be too fast"] += (
                    1  # the daemon stood still, and lines came at once
                )
            elif each.heard and " joined" not in text and " is now " not in text:
                self._book.fault("notices", f"{each.name}: {text}")
            return
        found = _SAID.match(text)
        if not each.heard:
            return
        if not found or found[1] not in each.heard:
            self._book.fault("wrong", f"{each.name}: {text[:100]}")
            return
        speaker, number = found[1], int(found[2])
        if text.partition("> ")[2].encode() + b"\n" != line(speaker, number, LINE_BYTES["chat"]):
            self._book.fault("wrong", f"{each.name}: {text[:100]}")
            return
        what = each.heard[speaker].hear(number)
        self._book.counts[what] += 1
        if what != "heard":
            self._book.fault(what, f"{each.name}: line {number} of {speaker}")

    def lost(self) -> list[str]:
        """Lines that nobody heard, and what single members did not hear of the others."""
        told = []
        for speaker in self.all:
            hearers = [each for each in self.all if each is not speaker]
            missed = {
                each.name: each.heard[speaker.name].lost_numbers(speaker.said)
                for each in hearers
                if each.heard
            }
            nobody = set.intersection(*missed.values()) if missed else set()
            told += [f"nobody heard line {number} of {speaker.name}" for number in sorted(nobody)]
            for name, numbers in missed.items():
                told += [
                    f"{name} did not hear line {number} of {speaker.name}"
                    for number in sorted(numbers - nobody)
                ]
        return told
