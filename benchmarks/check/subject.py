"""The daemon that is counted: its file, how it is started, and how it is made to wait."""

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from benchmarks.check.errors import MisbehavedError
from tests.certificates import made
from tests.end_to_end.harness import SOCKD, Daemon, receive
from tests.end_to_end.programs import BOUND

STEADY = str(Path(__file__).with_name("steady.py"))
START_TIMEOUT = 120.0  # seconds; under valgrind it takes about six on an idle machine
REST_TIMEOUT = 30.0  # seconds until a daemon that doesn't come to rest is a failure

# The shipped kind of file. Rates are so high that they refuse nothing, but they are there, and looked at. The
# log is still: connections have as many lines as a rate allows, which isn't the same each time.
FILE = """\
daemon: {log: {level: warn, format: json}}
endpoints:
  echo:
    listen: ['tcp://127.0.0.1:0', 'udp://127.0.0.1:0', 'unix://echo.sock', 'tls://127.0.0.1:0']
    protocol: PROTOCOL
    tls: {certificate: server.pem, key: server.key}
    limits: {idle: 1h, datagrams: 1000000/s, datagrams_per_source: 1000000/s}
  lobby:
    listen: tcp://127.0.0.1:0
    protocol: chat
    options: {rate: 1000000/s}
  applog:
    listen: ['tcp://127.0.0.1:0', 'udp://127.0.0.1:0']
    protocol: line-log
    options: {path: app.log}
    limits: {datagrams: 1000000/s, datagrams_per_source: 1000000/s}
"""


class Subject(Daemon):
    """A daemon on FILE, serving, whose slices don't depend on time; `prefix` is a program to run it under."""

    def __init__(
        self,
        directory: Path,
        prefix: Sequence[str] = (),
        protocol: str = "echo",
        environment: Mapping[str, str | None] | None = None,
    ) -> None:
        made("localhost").write(directory)
        file = directory / "sockd.yaml"
        file.write_text(FILE.replace("PROTOCOL", protocol))
        # The order of sets and dicts of strings is the same each time.
        fixed = {"PYTHONHASHSEED": "0", "COVERAGE_PROCESS_CONFIG": None, **(environment or {})}
        super().__init__(directory, file, (*prefix, sys.executable, STEADY, *SOCKD[-2:]), environment=fixed)
        try:
            self._addresses = self._ask_addresses()
            self._ping = self._wait_for(self.runtime / "echo.sock")
        except BaseException:
            self.end()
            raise

    def _wait_for(self, path: Path) -> socket.socket:
        until = time.monotonic() + START_TIMEOUT
        while True:
            one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            one.settimeout(BOUND)
            try:
                one.connect(str(path))
            except OSError:
                one.close()
                if self.process.poll() is not None or time.monotonic() > until:
                    raise MisbehavedError(f"the daemon does not serve:\n{self.text}") from None
                time.sleep(0.01)
            else:
                return one

    def _ask_addresses(self) -> dict[tuple[str, str], str]:
        with self._wait_for(self.runtime / "control.sock") as control, control.makefile("rb") as lines:
            control.sendall(b'{"version": 1, "command": "status"}\n')
            endpoints = json.loads(lines.readline())["result"]["endpoints"]
        return {
            (endpoint["name"], scheme): rest
            for endpoint in endpoints
            for scheme, _, rest in (
                listener["address"].partition("://") for listener in endpoint["listeners"]
            )
        }

    def address(self, endpoint: str, kind: str) -> str:
        """Where that listener really is; the log doesn't say it."""
        return self._addresses[endpoint, kind]

    def ping(self) -> None:
        """Come back when the daemon has been through all that was sent before, and waits."""
        echo(self._ping, b"x")
        self._until_in("S")  # the end of its answer's system call is counted too

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ping.close()
        self.end()

    # -- so that it is known what meets it at once

    def stop_at_rest(self) -> None:
        """Have it stopped as it waits for something to do."""
        self._until_in("S")
        os.kill(self.pid, signal.SIGSTOP)
        self._until_in("Tt")  # the latter under strace

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def _until_in(self, states: str) -> None:
        """Until its main thread is in one of these states, letters of proc_pid_stat(5)."""
        until = time.monotonic() + REST_TIMEOUT
        while (
            state := Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        ) not in states:
            if time.monotonic() > until or state in "ZX":
                raise MisbehavedError(f"the daemon's state is {state}, not one of {states}:\n{self.text}")
            os.sched_yield()


def echo(one: socket.socket, data: bytes) -> None:
    """There and back, whole."""
    one.sendall(data)
    if receive(one, len(data)) != data:
        raise MisbehavedError("an echo ended, or came back wrong")
