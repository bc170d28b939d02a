"""A unit of sockd's on a booted machine, as an administrator has it: its file, its state, its connections."""

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any

from tests.end_to_end.programs import BOUND
from tests.systemd.harness import CHECKOUT, COVERAGE, ROOT, Machine
from tests.systemd.journal import Journal

UNITS = ROOT / "systemd"
MEASURED = f"""[Service]
Environment=COVERAGE_PROCESS_START={CHECKOUT}/pyproject.toml COVERAGE_FILE={COVERAGE}/.coverage
ReadWritePaths={COVERAGE}
"""


def install_units(machine: Machine) -> None:
    """The shipped units, word for word; a drop-in where coverage is measured."""
    for path in (*UNITS.glob("*.service"), *UNITS.glob("*.socket")):
        machine.write(f"/etc/systemd/system/{path.name}", path.read_text())
    if machine.measured:
        for name in ("sockd", "sockd@"):
            machine.write(f"/etc/systemd/system/{name}.service.d/measured.conf", MEASURED)
    machine.systemctl("daemon-reload")


class Service:
    """sockd.service, or `sockd@web.service` where `name` is sockd-web."""

    def __init__(self, machine: Machine, name: str = "sockd") -> None:
        self.machine = machine
        self.name = name
        instance = name.partition("-")[2]
        self.unit = f"sockd@{instance}.service" if instance else "sockd.service"
        self.file = f"/etc/sockd/{instance or 'sockd'}.yaml"
        self.journal = Journal(machine)
        self._dropped: list[str] = []

    # -- as files

    def write(self, text: str) -> None:
        self.machine.write(self.file, text)

    def drop_in(self, text: str, unit: str = "") -> None:
        """Settings that go for this test only."""
        directory = f"/run/systemd/system/{unit or self.unit}.d"
        self.machine.write(f"{directory}/test.conf", text)
        self._dropped.append(f"{directory}/test.conf")
        self.machine.systemctl("daemon-reload")

    # -- as a unit

    def start(self, text: str = "") -> None:
        if text:
            self.write(text)
        self.machine.systemctl("start", self.unit)

    def stop(self) -> None:
        self.machine.systemctl("stop", self.unit)

    def show(self, name: str, unit: str = "") -> str:
        return self.machine.systemctl("show", "--value", "-p", name, unit or self.unit).stdout.strip()

    @property
    def pid(self) -> int:
        """Of the daemon, as the machine counts."""
        return int(self.show("MainPID"))

    def status(self, field: str) -> str:
        """A line of the daemon's /proc/PID/status, such as CapEff."""
        for line in self.machine.run("cat", f"/proc/{self.pid}/status").stdout.splitlines():
            key, _, value = line.partition(":")
            if key == field:
                return value.strip()
        raise AssertionError(f"no {field} in /proc")

    def says(self, text: str, count: int = 1) -> int:
        """Waits until the journal has this text of it so many times, and gives the last one's priority."""
        return self.journal.says(self.unit, text, count)

    def logged(self, most: int = 7) -> list[str]:
        """The messages so far of this priority and all more urgent ones; `says` waits for the last."""
        return self.journal.messages(self.unit, most)

    def sockd(self, *arguments: str, check: bool = True) -> Any:
        """The sockd command, by root, on this service's control socket."""
        control = {"SOCKD_CONTROL": f"/run/{self.name}/control.sock"}
        return self.machine.run("/opt/sockd/bin/sockd", *arguments, environment=control, check=check)

    # -- as its clients see it

    def connect(self, address: str) -> socket.socket:
        """A socket connected to `tcp://127.0.0.1:7`, `udp://…`, `unix:///run/sockd/echo.sock`, `unixgram://…`."""
        kind, _, place = address.partition("://")
        stream = socket.SOCK_STREAM if kind in {"tcp", "unix"} else socket.SOCK_DGRAM
        with self.machine.network():
            if kind in {"tcp", "udp"}:
                host, _, port = place.rpartition(":")
                where: Any = (host.strip("[]"), int(port))
                one = socket.socket(socket.AF_INET6 if "[" in host else socket.AF_INET, stream)
            else:
                where = str(self.machine.path(place))
                one = socket.socket(socket.AF_UNIX, stream)
        one.settimeout(BOUND)
        try:
            if kind == "unixgram":
                one.bind("")  # an abstract name, which means the same on both sides
            one.connect(where)
        except OSError:
            one.close()
            raise
        return one

    @contextlib.contextmanager
    def taken(self, port: int) -> Iterator[None]:
        """Another program listens on this TCP port of 127.0.0.1 within the block."""
        with self.machine.network(), socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("127.0.0.1", port))
            one.listen()
            yield

    def echoes(self, address: str) -> bool:
        """Whether what is sent there comes back."""
        with self.connect(address) as one:
            one.sendall(b"hello")
            received = b""
            while len(received) < 5 and (chunk := one.recv(100)):
                received += chunk
        return received == b"hello"

    def attempt(self, address: str, code: str) -> Any:
        """What this Python gives in the daemon's own process, through the protocol `attempt`."""
        with self.connect(address) as one:
            one.sendall(f"{code}\n#end\n".encode())
            received = b""
            while chunk := one.recv(65536):
                received += chunk
        return json.loads(received)

    def close(self) -> None:
        """Stop it, and forget everything about it."""
        self.machine.systemctl("stop", self.unit, check=False)
        for path in self._dropped:
            self.machine.path(path).unlink()
        if self._dropped:
            self.machine.systemctl("daemon-reload")
        self.machine.systemctl("reset-failed", self.unit, check=False)
        self.machine.path(self.file).unlink(missing_ok=True)
        self.journal.close()


def install_protocol(machine: Machine, name: str, module: str) -> None:
    """As if a distribution were installed whose protocol `name` is the module's `specification`."""
    (site,) = machine.path("/opt/sockd/lib").glob("python*/site-packages")
    metadata = site / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (site / f"{name}.py").write_text(module)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[sockd.protocols]\n{name} = {name}:specification\n")
