"""From the command to READY, `sockd check`, and the memory at rest."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from benchmarks.measures import Sample
from benchmarks.programs import BOUND, SERVER_CORE, Failed, Server, Spent, environment, free_port, pinned
from benchmarks.sockds import Variant
from benchmarks.work import Case, Outcome, Settings, directories, take_turns
from tests.certificates import made

# The three protocols on all kinds of addresses, as config/sockd.yaml has them.
FILE = """endpoints:
  echo: {{listen: ['tcp://127.0.0.1:{0}', 'udp://127.0.0.1:{0}', 'unix://echo.sock'], protocol: echo}}
  lobby: {{listen: ['tcp://127.0.0.1:{1}', 'unix://lobby.sock'], protocol: chat}}
  applog:
    listen: ['tcp://127.0.0.1:{2}', 'unixgram://log.sock']
    protocol: line-log
    options: {{path: app.log}}
"""
TLS = """  web:
    listen: 'tls://127.0.0.1:{3}'
    protocol: echo
    tls: {{certificate: server.pem, key: server.key}}
"""
ROUNDS = 5  # they are short
REST = 0.3  # seconds after READY until the memory is looked at


@dataclass(frozen=True)
class Kind:
    """sockd as it may be started, and on which file."""

    name: str
    variant: Variant
    tls: bool

    def write(self, directory: Path) -> str:
        if self.tls:
            made("localhost").write(directory)
        return (FILE + (TLS if self.tls else "")).format(*(free_port() for _ in range(4)))


def start(make: Callable[[], Path]) -> Callable[[Kind], Sample]:
    """One unit is one start; `resident` is in bytes."""

    def measure(one: Kind) -> Sample:
        directory = make()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as news:
            news.bind(str(directory / "notify.sock"))
            news.settimeout(BOUND)
            file = one.write(directory)
            began = time.monotonic()
            server = one.variant.start(directory, file, {"NOTIFY_SOCKET": str(directory / "notify.sock")})
            try:
                return _until_ready(server, news, began)
            finally:
                server.end()

    return measure


def _until_ready(server: Server, news: socket.socket, began: float) -> Sample:
    try:
        while b"READY=1" not in news.recv(4096).split(b"\n"):
            continue
    except TimeoutError:
        raise Failed(f"it was never ready: {server.output[-300:]}") from None
    seconds = time.monotonic() - began
    user, system = server.spent().since(Spent(0, 0, 0))
    time.sleep(REST)
    return Sample(1, seconds, user, system, {"seconds": seconds, "resident": float(server.resident())})


def check(make: Callable[[], Path]) -> Callable[[Kind], Sample]:
    def measure(one: Kind) -> Sample:
        directory = make()
        (directory / "sockd.yaml").write_text(one.write(directory))
        changed = environment(one.variant.environment(directory))
        command = [
            *pinned(SERVER_CORE),
            str(Path(sys.executable).parent / "sockd"),
            "check",
            "-c",
            "sockd.yaml",
        ]
        before, began = os.times(), time.monotonic()
        done = subprocess.run(
            command, cwd=directory, env=changed, capture_output=True, text=True, check=False
        )
        seconds, after = time.monotonic() - began, os.times()
        if done.returncode:
            raise Failed(f"check: {done.stderr[-300:]}")
        user, system = (after[at] - before[at] for at in (2, 3))  # of children
        return Sample(1, seconds, user, system, {"seconds": seconds})

    return measure


def run(settings: Settings, outcome: Outcome) -> None:
    kinds = [Kind(one.name, one, tls=False) for one in settings.variants]
    kinds += [Kind(f"{one.name} with TLS", one, tls=True) for one in settings.variants]
    with directories("start") as make:
        cases = [Case("start to READY", "start", start(make)), Case("sockd check", "run", check(make))]
        for case, kind in product(cases, kinds):
            with contextlib.suppress(Failed):  # take_turns will say so
                case.measure(kind)  # which has all modules compiled, and isn't counted
        take_turns(cases, kinds, outcome, settings if settings.quick else replace(settings, rounds=ROUNDS))
