"""Visitors of an echo that come, check and leave as fast as they can; a program that prints what they met.

    python3 -m tests.end_to_end.load --seconds 10 --workers 4 tcp://127.0.0.1:7007 unix:///run/sockd/echo.sock

needs nothing but Python. JSON lines come on standard output: how far it is, about four times a second, then
the Result. It ends when the time is over, when there were so many visits, or at the end of a standard input
that it watches.
"""

import argparse
import contextlib
import json
import os
import random
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

STEP_TIMEOUT = 20.0  # seconds that each step of a visit may take
PAUSE = 0.001  # seconds until a full backlog, or an address that refused, is tried again
TELL = 0.25  # seconds between two lines of progress
SMALL, LARGE = 1024, 65_536  # bytes that a visit sends, at most
OFTEN = 32  # one visit of so many is a large one
EXAMPLES = 10  # failures that are described

_MISS = {  # by the class of the error, whatever step it came in
    ConnectionRefusedError: "refused",
    FileNotFoundError: "refused",
    ConnectionResetError: "reset",
    BrokenPipeError: "reset",
    ConnectionAbortedError: "reset",
    TimeoutError: "timed out",
}


@dataclass
class Result:
    """What the visitors met. `busy` is no miss: the full backlog of a Unix socket says so, to try again."""

    ok: int = 0
    busy: int = 0
    # refused; reset; cut (ended before the whole echo came); wrong (other bytes); timed out; errors by name
    missed: dict[str, int] = field(default_factory=dict)
    worst: float = 0.0  # seconds of the longest visit that was ok, and
    at: float = 0.0  # seconds from the beginning until that visit's
    seconds: float = 0.0
    examples: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """One line for people."""
        missed = ", ".join(f"{count} {what}" for what, count in self.missed.items()) or "none missed"
        rate = self.ok / max(self.seconds, 1e-9)
        return (
            f"{self.ok} visits in {self.seconds:.1f} s ({rate:.0f}/s), {missed}, {self.busy} times busy, "
            f"the longest took {self.worst * 1000:.0f} ms at {self.at:.1f} s"
        )


def destination(url: str) -> tuple[socket.AddressFamily, Any]:
    """A stream address of sockd, as a socket wants it."""
    scheme, _, rest = url.partition("://")
    if scheme == "unix":
        return socket.AF_UNIX, "\0" + rest[1:] if rest.startswith("@") else rest
    if scheme != "tcp":
        raise ValueError(f"{url}: tcp:// and unix:// are what can be visited")
    host, _, port = rest.rpartition(":")
    return (socket.AF_INET6 if host.startswith("[") else socket.AF_INET), (host.strip("[]"), int(port))


class Visits:
    """All visitors, a thread each, of some addresses in turn; stops on request, or after `most` visits."""

    def __init__(self, urls: Sequence[str], workers: int, most: int | None = None) -> None:
        self.result = Result()
        self.over = threading.Event()
        self._most = most
        self._urls = [(url, *destination(url)) for url in urls]
        self._missed: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._threads = [threading.Thread(target=self._visit_all, args=(n,)) for n in range(workers)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def finish(self) -> Result:
        """What they met, once each has ended the visit that it is at."""
        self.over.set()
        for thread in self._threads:
            thread.join()
        self.result.seconds = time.monotonic() - self._began
        self.result.missed = dict(self._missed)
        return self.result

    def _visit_all(self, worker: int) -> None:
        generator = random.Random(worker)
        number = worker
        while not self.over.is_set():
            url, family, where = self._urls[number % len(self._urls)]
            number += 1
            most = LARGE if number % OFTEN == 0 else SMALL
            message = f"{worker}/{number} ".encode() + generator.randbytes(generator.randrange(most))
            started = time.monotonic()
            came = bytearray()
            try:
                self._visit(family, where, message, came)
            except OSError as error:
                what = _MISS.get(type(error), type(error).__name__ + f" {error.errno}")
                self._miss(what, f"{url}: {error!r} after {len(came)} of {len(message)} bytes", started)
                continue
            if came == message:
                self._succeed(started)
            else:
                what = "cut" if message.startswith(came) else "wrong"
                self._miss(what, f"{url}: {len(came)} bytes came back of {len(message)}", started)

    def _visit(self, family: socket.AddressFamily, where: Any, message: bytes, came: bytearray) -> None:
        with socket.socket(family, socket.SOCK_STREAM) as one:
            one.settimeout(STEP_TIMEOUT)
            self._connect(one, where)
            one.sendall(message)
            while len(came) < len(message) and (chunk := one.recv(65_536)):
                came += chunk
            one.shutdown(socket.SHUT_WR)
            came += one.recv(1)  # there must be nothing but the end

    def _connect(self, one: socket.socket, where: Any) -> None:
        until = time.monotonic() + STEP_TIMEOUT
        while True:
            try:
                one.connect(where)
                return
            except BlockingIOError:  # the backlog of a Unix socket is full
                if time.monotonic() > until:
                    raise TimeoutError("the backlog stayed full") from None
                with self._lock:
                    self.result.busy += 1
                time.sleep(PAUSE)

    def _succeed(self, started: float) -> None:
        took = time.monotonic() - started
        with self._lock:
            self.result.ok += 1
            if took > self.result.worst:
                self.result.worst, self.result.at = took, started - self._began
            if self._most is not None and self.result.ok >= self._most:
                self.over.set()

    def _miss(self, what: str, example: str, started: float) -> None:
        with self._lock:
            self._missed[what] += 1
            if len(self.result.examples) < EXAMPLES:
                self.result.examples.append(f"{what} at {started - self._began:.3f} s: {example}")
        time.sleep(PAUSE)


def watch_input(over: threading.Event) -> None:
    """Sets the event at the end of standard input."""

    def read() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        over.set()

    threading.Thread(target=read, daemon=True).start()


def say(value: dict[str, Any]) -> None:
    """One JSON line, at once; that nobody listens any more is no matter."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Visit echo endpoints as fast as possible; print a JSON result."
    )
    parser.add_argument("urls", nargs="+", metavar="URL", help="tcp://HOST:PORT, unix://PATH or unix://@NAME")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--visits", type=int, help="end after so many that were ok")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--watch-input", action="store_true", help="end at the end of standard input")
    arguments = parser.parse_args()
    visits = Visits(arguments.urls, arguments.workers, arguments.visits)
    if arguments.watch_input:
        watch_input(visits.over)
    visits.start()
    until = time.monotonic() + arguments.seconds
    while (left := until - time.monotonic()) > 0 and not visits.over.wait(min(TELL, left)):
        say({"visits": visits.result.ok})
    say(asdict(visits.finish()))


if __name__ == "__main__":
    main()
