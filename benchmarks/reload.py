"""How a reload of a file with 1,000 endpoints of which one changed disturbs everybody else.

    .venv/bin/python -m benchmarks.reload

from the top of the checkout. For each kind of change, made and undone: how long the reload took; the longest
time between two calls that the daemon asked for each millisecond, which is the longest turn of its reactor;
the longest echo of a client that sends one each millisecond; the longest garbage collection. `(none)` is
a second without a reload, `unchanged` the reload of a file that is the same.
"""

import argparse
import json
import shutil
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from benchmarks.machine import machine, milliseconds, table
from tests.end_to_end.harness import ROOT, SOCKD, Daemon, distribution, receive
from tests.end_to_end.programs import BOUND

PING_INTERVAL = 0.001  # seconds between two pings
AROUND = 0.1  # seconds of pings before and after what is measured
PING = b"0123456789abcdef"
HEAD = "daemon: {log: {level: warn, format: json}, control: control.sock}\nendpoints:\n"


def endpoint(number: int) -> str:
    """One of the many: of ten endpoints one is a chat, one a line-log, one an echo on TCP and UDP."""
    name = f"e{number:04}"
    match number % 10:
        case 0:
            listen, rest = f"unix://{name}.sock", "protocol: chat, options: {room: hall}"
        case 1:
            listen, rest = f"unix://{name}.sock", f"protocol: line-log, options: {{path: {name}.log}}"
        case 2:
            listen, rest = "['tcp://127.0.0.1:0', 'udp://127.0.0.1:0']", "protocol: echo"
        case _:
            listen, rest = f"unix://{name}.sock", "protocol: echo, limits: {connections: 100}"
    return f"  {name}: {{listen: {listen}, {rest}}}\n"


def file(count: int, changed: str = "") -> str:
    """This many endpoints, of which the last one may differ, and the two that measure."""
    many = "".join(map(endpoint, range(count - 3)))
    last = changed or "  last: {listen: 'unix://last.sock', protocol: echo}\n"
    return (
        f"{HEAD}  ping: {{listen: 'unix://ping.sock', protocol: echo}}\n"
        f"  ticker: {{listen: 'unix://ticker.sock', protocol: ticker}}\n{many}{last}"
    )


CHANGES = {
    "unchanged": "",
    "limits": "  last: {listen: 'unix://last.sock', protocol: echo, limits: {connections: 7}}\n",
    "address": "  last: {listen: 'unix://moved.sock', protocol: echo}\n",
    "protocol": "  last: {listen: 'unix://last.sock', protocol: chat}\n",
    "name": "  tail: {listen: 'unix://last.sock', protocol: echo}\n",
}


@dataclass(frozen=True)
class Measured:
    """One action; times in seconds."""

    took: float
    turn: float  # the longest between two turns of the reactor
    ping: float  # the longest echo
    usual: float  # the 99th of a hundred echoes
    collection: float  # the longest garbage collection

    def row(self, name: str) -> tuple[str, ...]:
        return (name, *map(milliseconds, (self.took, self.turn, self.ping, self.usual, self.collection)))


COLUMNS = ("reload", "took", "longest turn", "longest echo", "99 % of echoes", "longest collection")


class Pings:
    """Echoes on one connection, each millisecond, in a thread of their own."""

    def __init__(self, path: Path) -> None:
        self._socket = connect(path)
        self._over = threading.Event()
        self._times: list[float] = []
        self._thread = threading.Thread(target=self._ping)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()

    def _ping(self) -> None:
        while not self._over.wait(PING_INTERVAL):
            began = time.monotonic()
            self._socket.sendall(PING)
            if receive(self._socket, len(PING)) != PING:
                raise SystemExit("the echo's connection ended, or came back wrong")
            self._times.append(time.monotonic() - began)

    def longest_and_usual(self) -> tuple[float, float]:
        return max(self._times), statistics.quantiles(self._times, n=100)[98]


class Benchmark:
    """A daemon with so many endpoints, and what asks it."""

    def __init__(self, directory: Path, count: int) -> None:
        environment = distribution(directory, "ticker", "benchmarks.ticker:specification")
        environment["PYTHONPATH"] += f":{ROOT}"
        self._count = count
        self._file = directory / "sockd.yaml"
        self._file.write_text(file(count))
        began = time.monotonic()
        self.daemon = Daemon(directory, self._file, SOCKD, environment=environment)
        self._ticker = self._wait_for(self.daemon.runtime / "ticker.sock")
        self.ask_ticker()  # answered when the services were started
        self.start = time.monotonic() - began

    def _wait_for(self, path: Path) -> socket.socket:
        until = time.monotonic() + BOUND
        while True:
            try:
                return connect(path)
            except OSError:
                if self.daemon.process.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"the daemon does not serve:\n{self.daemon.text}") from None
                time.sleep(PING_INTERVAL)

    def ask_ticker(self) -> dict[str, Any]:
        return ask(self._ticker, b"\n")

    def reload(self, change: str) -> dict[str, Any]:
        """Give the daemon a file with this change and have it reloaded; its answer."""
        self._file.write_text(file(self._count, CHANGES[change]))
        with connect(self.daemon.runtime / "control.sock") as control:
            answer = ask(control, b'{"version": 1, "command": "reload"}\n')
        if not answer.get("ok"):
            raise SystemExit(f"the reload was refused: {answer}")
        return answer

    def measure(self, action: Callable[[], object]) -> Measured:
        with Pings(self.daemon.runtime / "ping.sock") as pings:
            time.sleep(AROUND)  # the connection's own beginning is no matter
            self.ask_ticker()
            began = time.monotonic()
            action()
            took = time.monotonic() - began
            time.sleep(AROUND)  # what the reload left to be done
            seen = self.ask_ticker()
        ping, usual = pings.longest_and_usual()
        return Measured(took, seen["longest"], ping, usual, seen["longest_collection"])

    def close(self) -> None:
        self._ticker.close()
        self.daemon.end()

    def memory(self) -> str:
        return f"{int(self.daemon.status('VmRSS').split()[0]) / 1024:.1f} MiB"


def connect(path: Path) -> socket.socket:
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    one.settimeout(BOUND)
    try:
        one.connect(str(path))
    except OSError:
        one.close()
        raise
    return one


def ask(one: socket.socket, line: bytes) -> dict[str, Any]:
    """The JSON line that answers."""
    one.sendall(line)
    with one.makefile("rb") as lines:
        answer: dict[str, Any] = json.loads(lines.readline() or b"{}")
    return answer


def worst(seen: list[Measured]) -> Measured:
    """The largest of each."""
    return Measured(*(max(values) for values in zip(*map(astuple, seen), strict=True)))


def reloads(benchmark: Benchmark, change: str, rounds: int) -> list[Measured]:
    """Makes a change and undoes it, so many times."""
    return [
        benchmark.measure(partial(benchmark.reload, one))
        for _ in range(rounds)
        for one in (change, "unchanged")
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what a reload of a large file does to its daemon.")
    parser.add_argument("--endpoints", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3, help="how often each change is made, and undone")
    arguments = parser.parse_args()
    print(machine())
    directory = Path(tempfile.mkdtemp(prefix="sockd-"))
    try:
        with closing(Benchmark(directory, arguments.endpoints)) as benchmark:
            start, before = milliseconds(benchmark.start), benchmark.memory()
            print(f"{arguments.endpoints} endpoints: {start} until they serve, then {before} resident\n")
            rows = [benchmark.measure(lambda: time.sleep(1.0)).row("(none)")]
            rows += [worst(reloads(benchmark, one, arguments.rounds)).row(one) for one in CHANGES]
            print(table(COLUMNS, rows))
            count = 2 * arguments.rounds
            print(f"\nThe worst of {count} reloads a line; afterwards {benchmark.memory()} resident")
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
