"""A client that stays: says numbered lines, hears its own or those of others, and notes what it meets."""

import socket
import time
from collections.abc import Sequence
from typing import Protocol

from tests.end_to_end.load import STEP_TIMEOUT, destination

LINE_BYTES = {"echo": 8000, "chat": 400}  # bytes of a line, about
NEWS = (" joined", " is now ")  # what a chat says of its own accord when nobody was lost


class House(Protocol):
    """Who counts what a resident meets."""

    def tell(self, what: str, example: str) -> None:
        """One more of it, a field of Result."""

    def took(self, said: float) -> None:
        """A line came that was said at this time."""


class Numbers:
    """The numbers that came from one speaker, which should be 0, 1, 2 and so on."""

    def __init__(self) -> None:
        self.next = 0
        self.missing: set[int] = set()

    def hear(self, number: int) -> str:
        """The field of Result that this number adds one to."""
        if number >= self.next:
            self.missing.update(range(self.next, number))
            self.next = number + 1
            return "heard"
        if number in self.missing:
            self.missing.remove(number)
            return "disordered"
        return "duplicated"

    def lost(self, said: int) -> int:
        """How many of so many never came."""
        return len(self.missing) + said - self.next

    def lost_numbers(self, said: int) -> set[int]:
        """Which of so many."""
        return self.missing | set(range(self.next, said))


def line(speaker: str, number: int, longest: int) -> bytes:
    """What a speaker says as its line of this number; each has a length of its own."""
    text = f"{number} {speaker} " * 20
    return (text * (longest // len(text) + 1))[: len(text) // 20 + number * 97 % longest].encode() + b"\n"


class Resident:
    """One connection: of an echo, which hears itself, or of a chat, which hears the others of its room."""

    def __init__(self, name: str, kind: str, url: str, room: str, house: House) -> None:
        self.name, self.kind, self.room = name, kind, room
        self.ready = kind == "echo"
        self.times: list[float] = []  # when it said which line
        self.speakers: dict[str, tuple[Resident, Numbers]] = {}
        self.alive = True
        self._house = house
        self._received = bytearray()
        self._rest = b"" if self.ready else f"/nick {name}\n/join {room}\n".encode()
        family, where = destination(url)
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(STEP_TIMEOUT)
        self.socket.connect(where)
        self.socket.setblocking(False)
        self.unsent = bytearray()
        self.send()

    def listen(self, speakers: Sequence["Resident"]) -> None:
        self.speakers = {one.name: (one, Numbers()) for one in speakers}

    def say(self) -> None:
        """The second half of the line before, and the first of the next."""
        data = line(self.name, len(self.times), LINE_BYTES[self.kind])
        self.send()
        self.times.append(time.monotonic())
        self.unsent += data[: len(data) // 2]
        self._rest = data[len(data) // 2 :]
        self.flush()

    def send(self) -> None:
        """Whatever is left of the line that it began."""
        self.unsent += self._rest
        self._rest = b""
        if self.times:
            self.times[-1] = time.monotonic()
        self.flush()

    def flush(self) -> None:
        """As much as the kernel takes."""
        try:
            while self.unsent and self.alive:
                del self.unsent[: self.socket.send(self.unsent[:65_536])]
        except BlockingIOError:
            pass
        except OSError as error:
            self.end(repr(error))

    def receive(self) -> None:
        try:
            data = self.socket.recv(65_536)
        except BlockingIOError:
            return
        except OSError as error:
            self.end(repr(error))
            return
        if not data:
            self.end("the connection was closed")
            return
        self._received += data
        *lines, rest = bytes(self._received).split(b"\n")
        self._received = bytearray(rest)
        for one in lines:
            self._hear(one.decode(errors="backslashreplace"))

    def end(self, why: str) -> None:
        self.alive = False
        self._house.tell("dropped", f"{self.name}: {why}")

    def _hear(self, text: str) -> None:
        if text.startswith("-- ") and self.kind == "chat":
            if text.startswith(f"-- you are in {self.room}"):
                self.ready = True
            elif self.speakers and not any(news in text for news in NEWS):
                self._house.tell("notices", f"{self.name}: {text}")
            return
        if not self.speakers:
            return  # what was said before
        name, said = self.name, text
        if self.kind == "chat":
            name, _, said = text.removeprefix("<").partition("> ")
        number = said.partition(" ")[0]
        if name not in self.speakers or not (number.isascii() and number.isdigit()):
            self._house.tell("wrong", f"{self.name}: {text[:100]}")
            return
        speaker, numbers = self.speakers[name]
        n = int(number)
        if n >= len(speaker.times) or said.encode() + b"\n" != line(name, n, LINE_BYTES[self.kind]):
            self._house.tell("wrong", f"{self.name}: {text[:100]}")
            return
        expected = numbers.next
        self._house.tell(numbers.hear(n), f"{self.name}: line {n} of {name}, not {expected}")
        self._house.took(speaker.times[n])

    def lost(self) -> int:
        """How many lines of the others, or its own, it should have heard and didn't."""
        return sum(numbers.lost(len(speaker.times)) for speaker, numbers in self.speakers.values())
