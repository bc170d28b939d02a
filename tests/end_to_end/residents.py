"""Residents of echo and chat endpoints, which talk to each other; a program that prints what they met.

    python3 -m tests.end_to_end.residents --seconds 10 --echo tcp://127.0.0.1:7007 --chat unix:///run/lobby.sock

needs nothing but Python. Half a line of each is always under way. JSON lines come on standard output: `ready`
when all are there, how far it is, then the Result.
"""

import argparse
import heapq
import random
import selectors
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

from tests.end_to_end.load import EXAMPLES, STEP_TIMEOUT, TELL, say, watch_input
from tests.end_to_end.resident import Resident

ROOM = 10  # members of a chat room


@dataclass
class Result:
    """What the residents met: all but the first two and the last four are 0 if a client does not notice."""

    said: int = 0
    heard: int = 0
    dropped: int = 0  # connections that ended
    lost: int = 0  # lines that never reached a resident that stayed
    duplicated: int = 0
    disordered: int = 0  # lines that came after later ones
    wrong: int = 0  # lines that nobody said
    notices: int = 0  # what the chat itself said, such as that it stops
    worst: float = 0.0  # seconds from saying to hearing, at most
    at: float = 0.0  # seconds from the beginning until that line was said
    seconds: float = 0.0
    examples: list[str] = field(default_factory=list)

    @property
    def missed(self) -> dict[str, int]:
        """What was not as it should be, by its name; empty if all was well."""
        names = ("dropped", "lost", "duplicated", "disordered", "wrong", "notices")
        return {name: count for name in names if (count := getattr(self, name))}

    def summary(self) -> str:
        """One line for people."""
        missed = ", ".join(f"{count} {what}" for what, count in self.missed.items()) or "none missed"
        return (
            f"{self.heard} lines heard in {self.seconds:.1f} s, {missed}, the longest was under way "
            f"{self.worst * 1000:.0f} ms at {self.at:.1f} s"
        )


class Residents:
    """All of them, in one thread."""

    def __init__(self, echo: Sequence[str], chat: Sequence[str], count: int, pace: float) -> None:
        self.result = Result()
        self.over = threading.Event()
        self._pace = pace
        self._began = time.monotonic()
        self._selector = selectors.DefaultSelector()
        self.all: list[Resident] = []
        kinds = [kind for kind, urls in (("echo", echo), ("chat", chat)) if urls]
        for number in range(count):
            kind = kinds[number % len(kinds)]
            urls, which = (echo if kind == "echo" else chat), number // len(kinds)
            room = f"room{which // ROOM}"
            one = Resident(f"{kind}{which}", kind, urls[which % len(urls)], room, self)
            self.all.append(one)
            self._selector.register(one.socket, selectors.EVENT_READ, one)

    def settle(self) -> None:
        """Until every one is where it should be; none has said anything by then."""
        self._until(lambda: all(one.ready for one in self.all))
        if left := [one.name for one in self.all if not one.ready]:
            raise SystemExit(f"not in their rooms: {', '.join(left)}")
        for one in self.all:
            others = [other for other in self.all if other.kind == "chat" and other.room == one.room]
            one.listen([one] if one.kind == "echo" else [other for other in others if other is not one])

    def talk(self, seconds: float) -> Result:
        """Until the time is over, or `over` is set; then until each heard what it should."""
        self._began = now = time.monotonic()
        until = now + seconds
        queue = [(now + random.random() * self._pace, number) for number in range(len(self.all))]
        heapq.heapify(queue)
        told = now
        while now < until and not self.over.is_set():
            while queue and queue[0][0] <= now:
                due, number = heapq.heappop(queue)
                if self.all[number].alive:
                    self.all[number].say()
                    self.result.said += 1
                    heapq.heappush(queue, (due + self._pace, number))
            self._flusher(max(0.0, min(queue[0][0], until) - now) if queue else TELL)
            now = time.monotonic()
            if now - told >= TELL:
                told = now
                say({"heard": self.result.heard})
        for one in self.all:
            one.send()
        self._until(lambda: not any(one.lost() for one in self.all if one.alive))
        self.result.lost = sum(one.lost() for one in self.all if one.alive)
        for one in self.all:
            one.socket.close()
        self.result.seconds = time.monotonic() - self._began
        return self.result

    def _until(self, true: Callable[[], bool]) -> None:
        until = time.monotonic() + STEP_TIMEOUT
        while not true() and time.monotonic() < until:
            for one in self.all:
                one.flush()  # what the kernel did not take before
            self._flusher(TELL)

    def _flusher(self, timeout: float) -> None:
        for key, _ in self._selector.select(timeout):
            one: Resident = key.data
            if one.alive:
                one.receive()
            if not one.alive:
                self._selector.unregister(one.socket)
                one.socket.close()

    def tell(self, what: str, example: str) -> None:
        setattr(self.result, what, getattr(self.result, what) + 1)
        if what != "heard" and len(self.result.examples) < EXAMPLES:
            self.result.examples.append(f"{what} at {time.monotonic() - self._began:.3f} s: {example}")

    def took(self, said: float) -> None:
        took = time.monotonic() - said
        if took > self.result.worst:
            self.result.worst, self.result.at = took, said - self._began


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Stay in echo and chat endpoints, talking; print a JSON result."
    )
    for kind in ("echo", "chat"):
        parser.add_argument(
            f"--{kind}", action="append", default=[], metavar="URL", help="tcp://HOST:PORT or unix://PATH"
        )
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--residents", type=int, default=200)
    parser.add_argument("--pace", type=float, default=0.5, help="seconds from one line of each to its next")
    parser.add_argument("--watch-input", action="store_true", help="end at the end of standard input")
    arguments = parser.parse_args()
    if not arguments.echo + arguments.chat:
        parser.error("at least one --echo or --chat")
    residents = Residents(arguments.echo, arguments.chat, arguments.residents, arguments.pace)
    if arguments.watch_input:
        watch_input(residents.over)
    residents.settle()
    say({"ready": len(residents.all)})
    say(asdict(residents.talk(arguments.seconds)))


if __name__ == "__main__":
    main()
