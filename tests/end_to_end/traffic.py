"""Starts the clients that load a daemon, as processes of their own, and reads what they met."""

import contextlib
import json
import random
import socket
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from tests.end_to_end import load, residents
from tests.end_to_end.harness import ROOT
from tests.end_to_end.programs import BOUND, Process

CLIENT_LIFETIME = 90.0  # seconds until a client ends whose test forgot it


class Client(Process):
    """One of them; it goes on until `finish`."""

    def __init__(self, module: str, *arguments: str) -> None:
        command = [
            sys.executable,
            "-m",
            module,
            "--watch-input",
            "--seconds",
            str(CLIENT_LIFETIME),
            *arguments,
        ]
        super().__init__(command, cwd=ROOT)

    def lines(self, output: bytes) -> list[dict[str, Any]]:
        """Every whole JSON line so far."""
        return [json.loads(one) for one in output.split(b"\n")[:-1] if one.startswith(b"{")]

    def under_way(self, steps: int = 1) -> None:
        """Waits until it has reported its progress this many more times: a quarter of a second each."""
        wanted = len(self.lines(self.output)) + steps
        self.until(lambda output: len(self.lines(output)) >= wanted, f"{wanted} lines of progress")

    def _last(self) -> dict[str, Any]:
        self.close_input()
        status = self.wait()
        assert status == 0, self.text
        return self.lines(self.output)[-1]


class Visitors(Client):
    """Clients that come and leave; each address is a URL."""

    def __init__(self, urls: Iterable[str], workers: int = 4) -> None:
        super().__init__(load.__name__, "--workers", str(workers), *urls)

    def finish(self) -> load.Result:
        return load.Result(**self._last())


class Residents(Client):
    """Clients that stay, half of them in each where both are given; all are there when this returns."""

    def __init__(self, echo: Iterable[str] = (), chat: Iterable[str] = (), count: int = 200) -> None:
        urls = [*(f"--echo={url}" for url in echo), *(f"--chat={url}" for url in chat)]
        super().__init__(residents.__name__, "--residents", str(count), *urls)
        self.expect(r'"ready"')

    def finish(self) -> residents.Result:
        return residents.Result(**self._last())


def free_port() -> int:
    """One that nothing gets as a client's: a daemon that is being restarted finds it free."""
    while True:
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", random.randrange(20_000, 32_000)))
            port: int = one.getsockname()[1]
            return port


def until(true: Callable[[], object]) -> None:
    """Asks again and again; fails when it isn't true within the bound."""
    end = time.monotonic() + BOUND
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)
