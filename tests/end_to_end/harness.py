"""Starts a real sockd on a file, reads its log, and talks to it over plain sockets."""

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.end_to_end.programs import BOUND, Process

FULL_ROUND_TRIPS = 50  # round trips of another connection in which a full one stays full
ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(sys.executable).parent
TWISTD: tuple[str, ...] = (str(SCRIPTS / "twistd"), "-n", "--pidfile=")
SOCKD: tuple[str, ...] = (sys.executable, "-m", "sockd")
JSON_LOG = "daemon: {log: {format: json}}\n"


class Daemon(Process):
    """A sockd serving one file; its log is read as JSON lines."""

    def __init__(
        self,
        directory: Path,
        file: Path,
        door: Sequence[str] = TWISTD,
        options: Sequence[str] = (),
        environment: Mapping[str, str | None] | None = None,
        **more: Any,
    ) -> None:
        self.directory = directory
        self.file = file
        self.runtime = directory / "run"
        self.logs = directory / "log"
        for one in (self.runtime, self.logs):
            one.mkdir(exist_ok=True)
        command = "run" if tuple(door)[-2:] == SOCKD[-2:] else "sockd"
        super().__init__(
            [*door, *options, command, "-c", file],
            {
                "RUNTIME_DIRECTORY": str(self.runtime),
                "LOGS_DIRECTORY": str(self.logs),
                **(environment or {}),
            },
            cwd=directory,
            **more,
        )

    @property
    def events(self) -> list[dict[str, Any]]:
        """Every whole line of its log so far that is JSON."""
        return events(self.output)

    def event(self, name: str, /, count: int = 1, **fields: Any) -> dict[str, Any]:
        """The `count`th event of this name with these fields, as soon as it is logged."""

        def found(output: bytes) -> dict[str, Any] | None:
            matching = [
                one
                for one in events(output)
                if one.get("event") == name and all(one.get(key) == value for key, value in fields.items())
            ]
            return matching[count - 1] if len(matching) >= count else None

        event: dict[str, Any] = self.until(found, f"event {name!r} with {fields}")
        return event

    def serving(self) -> "Daemon":
        """Itself, once every listener was tried."""
        self.event("serving")
        return self

    def address(self, endpoint: str, kind: str) -> str:
        """Where that endpoint's newest listener of this kind really is: `127.0.0.1:40213`, or a path."""

        def found(output: bytes) -> str | None:
            for one in reversed(events(output)):
                if one.get("event") == "listening" and one.get("endpoint") == endpoint:
                    scheme, _, rest = one["address"].partition("://")
                    if scheme == kind:
                        return str(rest)
            return None

        text = self.until(found, f"a listener {kind} of {endpoint}")
        assert isinstance(text, str)
        return text

    def port(self, endpoint: str, kind: str = "tcp") -> int:
        return int(self.address(endpoint, kind).rpartition(":")[2])

    def connect(self, endpoint: str, kind: str = "tcp", source: str = "") -> socket.socket:
        """A plain socket, connected; every wait on it is bounded. Datagram ones of Unix have an own path."""
        address = self.address(endpoint, kind)
        if kind in ("tcp", "udp"):
            host, _, port = address.rpartition(":")
            host = host.strip("[]").replace("*", "127.0.0.1")
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            one = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
            where: Any = (host, int(port))
        else:
            one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM if kind == "unix" else socket.SOCK_DGRAM)
            where = "\0" + address[1:] if address.startswith("@") else address
        one.settimeout(BOUND)
        try:
            if source:
                one.bind(source)
            one.connect(where)
        except OSError:
            one.close()
            raise
        return one

    def status(self, field: str, pid: int | None = None) -> str:
        """A line of /proc/PID/status, such as VmRSS or Uid."""
        for line in Path(f"/proc/{pid or self.pid}/status").read_text().splitlines():
            key, _, value = line.partition(":")
            if key == field:
                return value.strip()
        raise AssertionError(f"no {field} in /proc")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit status after it was asked to stop."""
        self.signal(number)
        return self.wait()


def distribution(directory: Path, name: str, target: str, module: str = "") -> dict[str, str]:
    """As if a distribution `name` 1.0 were installed whose protocol `name` is `target`: its environment.

    `module` is the text of the module that the target names.
    """
    site = directory / "site"
    metadata = site / f"{name}-1.0.dist-info"
    metadata.mkdir(parents=True)
    if module:
        (site / f"{target.partition(':')[0]}.py").write_text(module)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[sockd.protocols]\n{name} = {target}\n")
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))}


def events(output: bytes) -> list[dict[str, Any]]:
    """The JSON objects among the whole lines of an output."""
    return [json.loads(line) for line in output.split(b"\n")[:-1] if line.startswith(b"{")]


def receive(one: socket.socket, count: int) -> bytes:
    """Exactly so many bytes, or what came before the end."""
    data = bytearray()
    while len(data) < count and (chunk := one.recv(min(65536, count - len(data)))):
        data += chunk
    return bytes(data)


def fill(one: socket.socket, other: socket.socket, data: bytes = bytes(100_000_000)) -> int:
    """Sends until the daemon takes no more; how many bytes it took. `other` is an echo's idle connection.

    The echo shows that nothing more is taken: it went to and fro many times in between.
    """
    one.setblocking(False)
    taken = quiet = 0
    while quiet < FULL_ROUND_TRIPS:
        assert taken < len(data), "it takes everything"
        try:
            taken += one.send(data[taken : taken + 65536])
            quiet = 0
        except BlockingIOError:
            quiet += 1
            other.sendall(b"x")
            if receive(other, 1) != b"x":
                raise AssertionError("the echo ended") from None
    one.settimeout(BOUND)
    return taken


def receive_all(one: socket.socket) -> bytes:
    """Everything until the end."""
    data = bytearray()
    while chunk := one.recv(65536):
        data += chunk
    return bytes(data)
