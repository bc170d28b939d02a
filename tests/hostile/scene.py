"""A daemon with endpoints that are attacked and endpoints that are used quietly, and what it costs."""

import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.certificates import made
from tests.end_to_end.harness import ROOT, TWISTD, Daemon
from tests.end_to_end.programs import BOUND, Process
from tests.hostile import quiet

MIB = 2**20
FULL = os.environ.get("HOSTILE") == "full"  # as `make hostile` has it
SECONDS = 5.0 if FULL else 1.0  # of an attack
BASELINE_SECONDS = 3.0 if FULL else 0.5  # before it
# What an attack may leave behind, bytes: pages that malloc and Python keep for the next one. Of one that
# may take more than twice of it, half of that.
KEPT = 24 * MIB
# Lines of log a second for one endpoint: twenty connections, twenty of the protocol, summaries.
LOGGED = 60
ENDPOINTS = """
  quiet: {{listen: [tcp://{host}:0, udp://{host}:0, unix://quiet.sock], protocol: echo}}
  quiet-chat: {{listen: tcp://{host}:0, protocol: chat, options: {{rate: 1000/s}}}}
  quiet-log: {{listen: tcp://{host}:0, protocol: line-log, options: {{path: quiet.log, format: raw}}}}
  target:
    listen: [tcp://{host}:0, udp://{host}:0, unix://target.sock, unixgram://target-dgram.sock]
    protocol: echo
    limits: {{connections: 12000}}
    socket: {{keepalive: {{idle: 1s, interval: 1s, count: 2}}}}
  brief: {{listen: tcp://{host}:0, protocol: echo, limits: {{idle: 1s, stall: 1s}}}}
  few: {{listen: tcp://{host}:0, protocol: echo, limits: {{connections: 10}}}}
  target-chat: {{listen: [tcp://{host}:0, udp://{host}:0], protocol: chat, options: {{rate: 1000/s}}}}
  crowd: {{listen: udp://{host}:0, protocol: chat}}
  askers: {{listen: tcp://{host}:0, protocol: chat}}
  target-log: {{listen: [tcp://{host}:0, udp://{host}:0], protocol: line-log, options: {{path: target.log}}}}
  void-log: {{listen: [tcp://{host}:0, udp://{host}:0], protocol: line-log, options: {{path: /dev/null}}}}
"""


@dataclass(frozen=True)
class Size:
    """What the daemon takes of the machine."""

    resident: int  # bytes
    descriptors: int
    states: tuple[tuple[str, str], ...]  # of endpoints and listeners


class Scene:
    """The daemon; `door` may lead into a network of its own, where its address is `host`."""

    def __init__(
        self,
        directory: Path,
        host: str = "127.0.0.1",
        door: Sequence[str] = (),
        endpoints: str = "",
        options: Sequence[str] = (),
        environment: Mapping[str, str | None] | None = None,
    ) -> None:
        self.directory = directory
        self.host = host
        self.door = tuple(door)
        self._options = tuple(options)
        self._environment = environment
        text = "daemon: {log: {format: json}, drain: 2s}\nendpoints:"
        text += ENDPOINTS.format(host=host) + endpoints.format(host=host)
        (directory / "sockd.yaml").write_text(text)
        self._core = core()
        self.start()

    def start(self) -> None:
        """The daemon, on a core of its own, once it serves."""
        door = (*self.door, *TWISTD)
        self._places: dict[tuple[str, str], Any] = {}
        file = self.directory / "sockd.yaml"
        self.daemon = Daemon(
            self.directory, file, door, self._options, self._environment, start_new_session=True
        )
        if self._core is not None:
            os.sched_setaffinity(self.daemon.pid, {self._core})
        with contextlib.suppress(OSError):  # what else this machine does is not to be measured (sched(7))
            os.setpriority(os.PRIO_PROCESS, self.daemon.pid, -20)
            Path(f"/proc/{self.daemon.pid}/autogroup").write_text("-20")
        self.daemon.serving()

    def close(self) -> None:
        if self.alive:
            self.daemon.signal(signal.SIGTERM)  # so that its coverage is written
            try:
                self.daemon.wait()
            finally:
                self.daemon.end()
        self.daemon.end()

    @property
    def alive(self) -> bool:
        return self.daemon.process.poll() is None

    # -- where

    def address(self, endpoint: str, kind: str = "tcp") -> str:
        return f"{kind}://{self.daemon.address(endpoint, kind)}"

    def where(self, endpoint: str, kind: str = "tcp") -> Any:
        """As a socket wants it; the log is read for it once."""
        if (endpoint, kind) not in self._places:
            inet = kind in ("tcp", "udp", "tls")
            place = (
                (self.host, self.daemon.port(endpoint, kind)) if inet else self.daemon.address(endpoint, kind)
            )
            self._places[endpoint, kind] = place
        return self._places[endpoint, kind]

    def quiet_urls(self) -> list[str]:
        echoes = [f"echo={self.address('quiet', kind)}" for kind in ("tcp", "udp", "unix")]
        return [*echoes, f"chat={self.address('quiet-chat')}", f"log={self.address('quiet-log')}"]

    # -- how it is

    def ask(self, command: str, **arguments: Any) -> Any:
        """What the control socket answers."""
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(BOUND)
            one.connect(str(self.daemon.runtime / "control.sock"))
            one.sendall(json.dumps({"version": 1, "command": command, **arguments}).encode() + b"\n")
            answer = json.loads(one.makefile("rb").readline())
        assert answer["ok"], answer
        return answer["result"]

    def endpoint(self, name: str) -> dict[str, Any]:
        """As `sockd status --json` has it."""
        return next(one for one in self.ask("status")["endpoints"] if one["name"] == name)

    def listener(self, endpoint: str, kind: str) -> dict[str, Any]:
        return next(
            one for one in self.endpoint(endpoint)["listeners"] if one["address"].startswith(f"{kind}://")
        )

    def refused(self, status: dict[str, Any] | None = None) -> Counter[str]:
        """All that was ever refused, as ENDPOINT REASON."""
        counts: Counter[str] = Counter()
        for endpoint in (status or self.ask("status"))["endpoints"]:
            for one in (endpoint, *endpoint["listeners"]):
                for reason, count in one["refused"].items():
                    counts[f"{endpoint['name']}: {reason}"] += count
        return counts

    def kib(self, field: str) -> int:
        """A size that /proc/PID/status has, in bytes."""
        return int(self.daemon.status(field).split()[0]) * 1024

    def size(self) -> Size:
        status = self.ask("status")
        states = [
            (f"{endpoint['name']} {one.get('address', '')}", " ".join([one["state"], *one["causes"]]))
            for endpoint in status["endpoints"]
            for one in (endpoint, *endpoint["listeners"])
        ]
        descriptors = len(os.listdir(f"/proc/{self.daemon.pid}/fd"))
        return Size(self.kib("VmRSS"), descriptors, tuple(states))

    def forget_peak(self) -> None:
        """VmHWM begins again (proc(5), clear_refs)."""
        Path(f"/proc/{self.daemon.pid}/clear_refs").write_text("5")


@contextmanager
def tls_scene(endpoints: str) -> Iterator[Scene]:
    """A scene of its own for endpoints that name server.pem, server.key, and authority.pem for clients."""
    path = Path(tempfile.mkdtemp(prefix="sockd-"))
    made("localhost").write(path)
    (path / "authority.pem").write_bytes(made("authority", authority=True).chain)
    one = Scene(path, endpoints=endpoints)
    yield one
    one.close()
    shutil.rmtree(path)


class Attackers:
    """Sockets of an attack, all of which are closed at its end."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._sockets: list[socket.socket] = []

    def connect(self, endpoint: str, kind: str = "tcp", *, buffer: int = 0) -> socket.socket:
        """One more connection, or datagram socket that sends there."""
        families = {"unix": socket.AF_UNIX, "unixgram": socket.AF_UNIX}
        stream = kind in ("tcp", "tls", "unix")
        one = socket.socket(
            families.get(kind, socket.AF_INET), socket.SOCK_STREAM if stream else socket.SOCK_DGRAM
        )
        self._sockets.append(one)
        one.settimeout(BOUND)
        if buffer:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        one.connect(self.scene.where(endpoint, kind))
        return one

    def own(self, one: socket.socket) -> socket.socket:
        """Sees to it that this one is closed too."""
        self._sockets.append(one)
        return one

    def close(self) -> None:
        while self._sockets:
            self._sockets.pop().close()


def core() -> int | None:
    """The one that the daemon has to itself, if this machine has two."""
    mine = sorted(os.sched_getaffinity(0))
    return mine[0] if len(mine) > 1 else None


@contextmanager
def elsewhere() -> Iterator[None]:
    """Meanwhile this thread is on another core than the daemon."""
    mine = os.sched_getaffinity(0)
    if len(mine) > 1:
        os.sched_setaffinity(0, mine - {core()})
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)


class Quiet(Process):
    """The clients of the endpoints that aren't attacked."""

    def __init__(self, scene: Scene) -> None:
        command = [sys.executable, "-m", quiet.__name__, *scene.quiet_urls()]
        super().__init__([*scene.door, *command], cwd=ROOT)
        self.expect('"ready"')

    def finish(self) -> dict[str, Any]:
        """What they waited, and sent."""
        self.close_input()
        assert self.wait() == 0, self.text
        result: dict[str, Any] = json.loads(self.output.splitlines()[-1])
        self.end()
        return result


def until(true: Callable[[], object], what: str, bound: float = BOUND) -> None:
    """Asks again and again; fails when it isn't true within the bound, in seconds."""
    end = time.monotonic() + bound
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def loudly_skip(what: str) -> NoReturn:
    """This can't be had here; in CI, as root, it must be."""
    if os.environ.get("CI") == "true" and os.getuid() == 0:
        pytest.fail(f"{what}, in CI")
    pytest.skip(what)
