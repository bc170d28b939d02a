"""Builds programs in C and Go, runs servers on one core and load on another, and reads what they spend."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks.measures import Sample

HERE = Path(__file__).parent
BUILD = HERE / ".build"
COMPILED = BUILD / "python"  # modules, by servers in Python
SERVER_CORE, LOAD_CORE = "0", "1"
CORES = os.cpu_count() or 1
BOUND = 30.0  # seconds until a wait is a failure
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
LIBRARIES = {"-DTLS": ("-lssl", "-lcrypto")}


class Missing(Exception):  # noqa: N818
    """Something that isn't installed: what it is for is left out, with a line that says so."""


class Failed(Exception):  # noqa: N818
    """A server or a load generator did not do its work."""


def pinned(core: str) -> tuple[str, ...]:
    """What is put before a command so that it has one core; nothing on a machine with one."""
    return ("taskset", "-c", core) if CORES > 1 else ()


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """A server's. What is written in Python finds its modules compiled from its second start on, as when pip
    has installed it, whether the measuring program writes its own down or not.
    """
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, "PYTHONPYCACHEPREFIX": str(COMPILED), **(changes or {})}


def built(source: str, *flags: str) -> str:
    """The program made of a file in C or Go, newer than all of them."""
    path = HERE / source
    program = BUILD / (f"{path.parent.name}-{path.stem}-{path.suffix[1:]}" + "".join(flags).lower())
    newest = max(one.stat().st_mtime for one in (path, HERE / "load/load.h"))
    if program.exists() and program.stat().st_mtime > newest:
        return str(program)
    BUILD.mkdir(exist_ok=True)
    compiler = "go" if path.suffix == ".go" else "cc"
    if not shutil.which(compiler):
        raise Missing(f"no {compiler}")
    command: list[str | Path] = ["cc", "-O2", "-Wall", "-Wextra", *flags, "-o", program, path]
    command += [library for flag in flags for library in LIBRARIES.get(flag, ())]
    if compiler == "go":
        command = ["go", "build", "-o", program, path]
    changes = {"GOCACHE": str(BUILD / "go"), "GO111MODULE": "off"}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | changes, check=False)
    if done.returncode:
        raise Missing(f"{source} could not be built: {(done.stderr.strip() or '?').splitlines()[0]}")
    return str(program)


def installed(name: str) -> str:
    """The path of a program, those in sbin included."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if not found:
        raise Missing(f"no {name}")
    return found


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass(frozen=True)
class Spent:
    """Seconds of CPU: the sum exact to the nanosecond, its parts in ticks of 10 ms."""

    total: float
    user: float
    system: float

    def since(self, before: "Spent") -> tuple[float, float]:
        """User and system; the ticks only say how the sum is split."""
        total, user, system = self.total - before.total, self.user - before.user, self.system - before.system
        share = user / (user + system) if user + system > 0 else 1.0
        return total * share, total * (1 - share)


class Server:
    """A program that serves, on the servers' core."""

    def __init__(
        self, name: str, command: Sequence[str], directory: Path, changes: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.behind: list[Server] = []  # what it needs; ends with it, and its CPU isn't counted
        self._log = (directory / "output").open("w+b")
        self._process = subprocess.Popen(
            [*pinned(SERVER_CORE), *command],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=environment(changes),
            start_new_session=True,
        )
        self.pid = self._process.pid

    def wait_for(self, address: str) -> None:
        """Until somebody answers there: a connection is accepted, or a datagram's port isn't refused."""
        kind, _, where = address.partition(":")
        end = time.monotonic() + BOUND
        while not _served(kind, where):
            if self._process.poll() is not None or time.monotonic() > end:
                raise Failed(f"it does not serve: {(self.output.strip().splitlines() or ['no word'])[-1]}")
            time.sleep(0.01)

    @property
    def output(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def family(self) -> list[int]:
        """Its process and those that come from it."""
        found = [self.pid]
        for pid in found:
            with contextlib.suppress(OSError):
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    found += map(int, (thread / "children").read_text().split())
        return found

    def spent(self) -> "Spent":
        """CPU until now, of all threads, and of children that live or have been waited for."""
        total = user = system = 0.0
        for pid in self.family():
            with contextlib.suppress(OSError):
                total += time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid(3)
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                own_user, own_system, ended_user, ended_system = (
                    int(one) / CLOCK_TICKS for one in fields[11:15]
                )
                user += own_user + ended_user
                system += own_system + ended_system
                total += ended_user + ended_system
        return Spent(total, user, system)

    def resident(self) -> int:
        """Bytes of memory, shared pages counted once for each process."""
        pages = 0
        for pid in self.family():
            with contextlib.suppress(OSError):
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def end(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
        self._log.close()
        for one in self.behind:
            one.end()


def _served(kind: str, where: str) -> bool:
    family = socket.AF_UNIX if kind.startswith("unix") else socket.AF_INET
    datagrams = kind in ("udp", "unixgram")
    with socket.socket(family, socket.SOCK_DGRAM if datagrams else socket.SOCK_STREAM) as one:
        one.settimeout(BOUND)
        try:
            one.connect(where if family == socket.AF_UNIX else ("127.0.0.1", int(where)))
            if kind == "udp":
                one.send(b"")
                time.sleep(0.01)
                one.send(b"")  # refused, if the one before was
        except OSError:
            return False
    return True


class Load:
    """A load generator, on the other core; see load.h."""

    def __init__(self, program: str, *arguments: Any) -> None:
        self._process: subprocess.Popen[str] = subprocess.Popen(
            [*pinned(LOAD_CORE), program, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._line("ready")

    def _line(self, what: str) -> str:
        output: IO[str] | None = self._process.stdout
        line = output.readline() if output else ""
        if not line:
            errors = self._process.stderr.read() if self._process.stderr else ""
            raise Failed(f"{what}: {errors.strip() or 'the load generator ended'}")
        return line

    def run(self, line: str = "go") -> dict[str, float]:
        """What it reports of a round; returns when nothing is left for it to read."""
        if self._process.stdin:
            with contextlib.suppress(BrokenPipeError):  # it has ended, and left word
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()
        found: dict[str, float] = json.loads(self._line("report"))
        return found

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


@contextlib.contextmanager
def loading(program: str, *arguments: Any) -> Iterator[Load]:
    """A load that is ready, and ends with the block."""
    load = Load(program, *arguments)
    try:
        yield load
    finally:
        load.end()


def measured(server: Server, load: Load, line: str = "go") -> Sample:
    """A round: what the server spends while the load runs."""
    before = server.spent()
    found = load.run(line)
    user, system = server.spent().since(before)
    return Sample(found.pop("units"), found.pop("seconds"), user, system, found)
