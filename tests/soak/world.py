"""The daemon of a soak: its file, its directories, and what it is asked."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.end_to_end.harness import ROOT, Daemon, distribution
from tests.end_to_end.programs import BOUND
from tests.end_to_end.traffic import free_port
from tests.soak.secure import certify
from tests.soak.victims import TLS, WITH_TLS, victims

DISK = 96  # MiB that line-log's files may take
ANSWER_TIMEOUT = 60.0  # seconds for what the daemon is asked


class World:
    """A daemon on ports of its own; `text` is its file, `base` what is changed of it for a while."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.runtime, self.logs = directory / "run", directory / "log"
        for each in (self.runtime, self.logs):
            each.mkdir()
        self.disk = _mounted(self.logs)
        self.ports = {
            name: free_port()
            for name in (
                "echo",
                "echo-tls",
                "other",
                "lobby",
                "log",
                "log-tls",
                "victim",
                "victim-tls",
                "proxied",
                "spare",
            )
        }
        self.environment: dict[str, str | None] = dict(
            distribution(directory, "probe", "tests.soak.probe:specification")
        )
        self.environment["PYTHONPATH"] = f"{self.environment['PYTHONPATH']}{os.pathsep}{ROOT}"
        self.daemon: Daemon

    # -- the file

    def addresses(self, name: str, kinds: Sequence[str] = ("tcp", "udp", "unix", "unixgram")) -> list[str]:
        where = {
            "tls": f"tls://127.0.0.1:{self.ports.get(f'{name}-tls', 0)}",
            "tcp": f"tcp://127.0.0.1:{self.ports[name]}",
            "udp": f"udp://127.0.0.1:{self.ports[name]}",
            "unix": f"unix://{self.runtime}/{name}.sock",
            "unixgram": f"unixgram://{self.runtime}/{name}-dgram.sock",
        }
        return [where[kind] for kind in kinds]

    def address(self, name: str, kind: str) -> str:
        return self.addresses(name, [kind])[0].partition("://")[2]

    def text(
        self,
        *,
        most: int = 1000,
        history: int = 20,
        other: str = "other",
        more: Sequence[str] = (),
        path: str = "app.log",
        form: str = "text",
    ) -> str:
        """The file as it is at rest, with what a deed changes of it."""
        endpoints: dict[str, Any] = {
            "echo": {
                "listen": [*self.addresses("echo", WITH_TLS), *more],
                "protocol": "echo",
                "tls": TLS,
                "limits": {"connections": most},
            },
            other: {"listen": self.addresses("other", ["tcp", "unix"]), "protocol": "echo"},
            "lobby": {
                "listen": self.addresses("lobby"),
                "protocol": "chat",
                "options": {"history": history},
            },
            "applog": {
                "listen": self.addresses("log", WITH_TLS),
                "protocol": "line-log",
                "tls": TLS,
                "options": {"path": path, "format": form},
                "restart": {"delay": "50ms", "max_delay": "1s"},
            },
            **victims(self.addresses),
            "probe": {"listen": "unix://probe.sock", "protocol": "probe"},
        }
        return json.dumps(
            {"daemon": {"drain": "5s", "log": {"level": "warn", "format": "json"}}, "endpoints": endpoints}
        )

    def write(self, text: str) -> None:
        """Whole or not at all."""
        new = self.daemon.file.with_suffix(".new")
        new.write_text(text)
        new.replace(self.daemon.file)

    # -- the daemon

    def __enter__(self) -> Self:
        certify(self.directory, 0)
        file = self.directory / "sockd.yaml"
        file.write_text(self.text())
        self.daemon = Daemon(self.directory, file, environment=self.environment)
        try:
            self._answers()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        """Nothing is left of it."""
        self.daemon.end()
        if self.disk:
            subprocess.run(["umount", "--lazy", str(self.logs)], check=False)

    def _answers(self) -> None:
        for _ in _tries():
            assert self.daemon.process.poll() is None, self.daemon.text
            with contextlib.suppress(OSError):
                if self.ask("status")["state"] == "running":
                    return

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """What came of it; RefusedError where the daemon refused."""
        for _ in _tries():
            try:
                line = self._answer(command, arguments)
            except ConnectionResetError:
                line = b""
            if line.endswith(b"\n") or command != "status":  # else it was replaced before all was said
                break
        answer = json.loads(line)
        if not answer["ok"]:
            raise RefusedError(answer["status"], answer["problems"])
        result: dict[str, Any] = answer["result"]
        return result

    def _answer(self, command: str, arguments: dict[str, Any]) -> bytes:
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(ANSWER_TIMEOUT)
            one.connect(str(self.runtime / "control.sock"))
            one.sendall(json.dumps({"version": 1, "command": command, **arguments}).encode() + b"\n")
            with one.makefile("rb") as lines:
                return lines.readline()

    def endpoint(self, name: str) -> dict[str, Any]:
        """Its part of the status."""
        found: dict[str, Any] = next(each for each in self.ask("status")["endpoints"] if each["name"] == name)
        return found

    def until(self, name: str, state: str) -> None:
        """That endpoint's protocol is in this state."""
        for _ in _tries():
            if self.endpoint(name)["state"] == state:
                return

    def refused(self, name: str) -> Counter[str]:
        """What an endpoint and its listeners refused, by kind of address and reason."""
        endpoint = self.endpoint(name)
        told = Counter({f"{name} {reason}": count for reason, count in endpoint["refused"].items()})
        for listener in endpoint["listeners"]:
            kind = listener["address"].partition("://")[0]
            for reason, count in listener["refused"].items():
                told[f"{kind} {reason}"] += count
        return told

    def probe(self) -> dict[str, int]:
        """How many there are of what may leak."""
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(ANSWER_TIMEOUT)
            one.connect(str(self.runtime / "probe.sock"))
            with one.makefile("rb") as lines:
                counts: dict[str, int] = json.loads(lines.readline())
        return counts

    @property
    def resident(self) -> float:
        """MiB."""
        return int(self.daemon.status("VmRSS").split()[0]) / 1024

    @property
    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.daemon.pid}/fd"))


class RefusedError(Exception):
    def __init__(self, status: int, problems: list[str]) -> None:
        super().__init__(f"{status}: {problems}")
        self.status = status


def _tries() -> Iterator[None]:
    """So many tries as the bound allows, and then a failure."""
    end = time.monotonic() + BOUND
    while time.monotonic() < end:
        yield
        time.sleep(0.02)
    raise AssertionError("it did not come about within the bound")


def _mounted(directory: Path) -> bool:
    """Whether a small disk could be had there, as root."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}m,mode=0755", "sockd-soak", str(directory)]
    return (
        shutil.which("mount") is not None
        and not subprocess.run(command, check=False, capture_output=True).returncode
    )


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """An own directory, with a path short enough for Unix sockets."""
    path = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
