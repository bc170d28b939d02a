"""Well-behaved clients of endpoints that aren't attacked; a program that prints how long they waited.

    python3 -m tests.hostile.quiet echo=tcp://… echo=unix://… echo=udp://… chat=tcp://… log=tcp://…

Each line of its standard input begins a phase of that name; at the end of the input a JSON line comes with
the waits of every phase. They ping an echo each millisecond, each of its addresses in turn, and now and then
one of them says a line to the other in the chat, and sends one to the log.
"""

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

ANSWER_TIMEOUT = 100.0  # seconds until an answer counts as lost, and over a stream ends the program
DATAGRAM_BOUND = 2.0  # the same, of a datagram
TICK = 0.001  # seconds between two pings
TICKS_BETWEEN_LINES = 20  # ticks between two lines to the chat, and two to the log
FIRST = 50  # pings before it is ready: caches warm up

Phase = dict[str, list[float]]  # what waited -> seconds


def percentile(waits: list[float], share: float) -> float:
    """The wait that this share of them did not exceed."""
    ordered = sorted(waits)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def connect(url: str) -> socket.socket:
    """A socket that is connected to an address of sockd's."""
    scheme, _, rest = url.partition("://")
    if scheme == "unix":
        one = socket.socket(socket.AF_UNIX)
        where: Any = rest
    else:
        one = socket.socket(type=socket.SOCK_DGRAM if scheme == "udp" else socket.SOCK_STREAM)
        host, _, port = rest.rpartition(":")
        where = (host, int(port))
    one.settimeout(ANSWER_TIMEOUT)
    one.connect(where)
    if scheme == "tcp":
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one


def exactly(one: socket.socket, wanted: bytes) -> None:
    """Waits for just these bytes."""
    came = b""
    while len(came) < len(wanted):
        chunk = one.recv(len(wanted) - len(came))
        if not chunk:
            raise ConnectionError(f"closed after {came!r} of {wanted!r}")
        came += chunk
    if came != wanted:
        raise AssertionError(f"{came!r} came, not {wanted!r}")


class Member:
    """One in the chat."""

    def __init__(self, url: str, name: str) -> None:
        self._socket = connect(url)
        self._came = self._socket.makefile("rb")
        self.say(f"/nick {name}")
        self.hear(f"-- you are now {name}")

    def say(self, text: str) -> None:
        self._socket.sendall(text.encode() + b"\n")

    def hear(self, wanted: str) -> None:
        """Waits for this line, whatever comes before it."""
        while line := self._came.readline():
            if line == wanted.encode() + b"\n":
                return
        raise ConnectionError(f"the chat ended before {wanted!r}")


class Clients:
    """All of them, one after the other in one thread."""

    def __init__(self, urls: list[tuple[str, str]]) -> None:
        self.phase: Phase = {}
        self.lost = 0  # pings in datagrams
        self.lines = 0  # sent to the log
        self.number = 0
        self._pings: list[tuple[str, Callable[[], bool]]] = []
        for use, url in urls:
            kind = url.partition(":")[0]
            if use == "echo":
                ping = self._ping_datagram if kind == "udp" else self._ping_stream
                self._pings.append((f"echo {kind}", self._bound(ping, connect(url))))
            elif use == "chat":
                self._alice, self._bob = Member(url, "alice"), Member(url, "bob")
            else:
                self._log = connect(url)

    @staticmethod
    def _bound(ping: Callable[[socket.socket], bool], one: socket.socket) -> Callable[[], bool]:
        return lambda: ping(one)

    def _ping_stream(self, one: socket.socket) -> bool:
        text = f"ping {self.number}\n".encode()
        one.sendall(text)
        exactly(one, text)
        return True

    def _ping_datagram(self, one: socket.socket) -> bool:
        """Whether an answer came: the network may lose a datagram."""
        text = f"ping {self.number}".encode()
        one.settimeout(DATAGRAM_BOUND)
        one.send(text)
        try:
            while one.recv(100) != text:  # one that was thought lost
                pass
        except TimeoutError:
            self.lost += 1
            return False
        return True

    def _gossip(self) -> bool:
        self._alice.say(f"{self.number}")
        self._bob.hear(f"<alice> {self.number}")
        return True

    def go_on(self, over: Callable[[], bool]) -> None:
        """A ping each tick, until it is over.

        A client that waited beyond its next ping stands for those that would have come in that time.
        """
        interval = TICK * len(self._pings)
        while not over():
            self.number += 1
            time.sleep(TICK)
            kind, ping = self._pings[self.number % len(self._pings)]
            if self.number % TICKS_BETWEEN_LINES == 0:
                kind, ping = "chat", self._gossip
                self.lines += 1
                self._log.sendall(f"line {self.lines}\n".encode())
            began = time.monotonic()
            answered = ping()
            wait = time.monotonic() - began
            if answered:
                waits = self.phase.setdefault(kind, [])
                while wait > 0:
                    waits.append(wait)
                    wait -= interval


def summary(phase: Phase) -> dict[str, dict[str, float]]:
    """Milliseconds of each kind, and how many they were."""
    return {
        kind: {
            "count": len(waits),
            "p50": percentile(waits, 0.5) * 1000,
            "p99": percentile(waits, 0.99) * 1000,
            "worst": max(waits) * 1000,
        }
        for kind, waits in phase.items()
    }


def main() -> None:
    with contextlib.suppress(PermissionError):  # the scheduler's delays are not the daemon's
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    urls = [(use, url) for use, _, url in (one.partition("=") for one in sys.argv[1:])]
    clients = Clients(urls)
    phases: dict[str, Phase] = {}
    ended = threading.Event()

    def listen() -> None:
        for line in sys.stdin:
            clients.phase = phases.setdefault(line.strip(), {})
        ended.set()

    clients.go_on(lambda: clients.number >= FIRST)
    threading.Thread(target=listen, daemon=True).start()
    print(json.dumps({"ready": True}), flush=True)  # noqa: T201
    clients.go_on(ended.is_set)
    result = {
        "phases": {name: summary(phase) for name, phase in phases.items()},
        "lost": clients.lost,
        "lines": clients.lines,
    }
    print(json.dumps(result), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
