"""What a program hands to the next one of the process itself."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from twisted.python.reflect import fullyQualifiedName

from sockd.log import TwistdOptions
from sockd.process.directories import Directories
from sockd.process.pid_file import PidFile
from sockd.upgrade.value import Handover, ProcessValues

# twistd's options with a value that the next program needs too. The user, the directory and the umask that
# twistd was given are the process's own by then.
_VALUE_OPTIONS = ("prefix", "reactor")


@dataclass(frozen=True)
class Carried:
    """The process's part of a Handover: twistd's options, the directories, the pid file and the name."""

    options: tuple[str, ...]  # of twistd
    directories: Directories
    pid_file: PidFile | None = None

    @classmethod
    def of(
        cls,
        parent: TwistdOptions,
        directories: Directories,
        handed: Handover | None,
        pid_file: PidFile | None = None,
    ) -> "Carried":
        """From twistd's options as they were parsed, or from what the program before had."""
        if handed is None:
            return cls(tuple(_options(parent)), directories, pid_file)
        if handed.pid_file is not None:
            pid_file = PidFile.inherited(Path(handed.pid_file), handed.pid_lock)
        return cls(handed.options, directories, pid_file)

    def values(self) -> ProcessValues:
        """As fields of a Handover."""
        return {
            "options": self.options,
            "runtime": str(self.directories.runtime),
            "logs": str(self.directories.logs),
            "pid_file": None if self.pid_file is None else str(self.pid_file.path),
            "pid_lock": None if self.pid_file is None else self.pid_file.fd,
            "comm": _name(),
        }


def _options(parent: TwistdOptions) -> Iterator[str]:
    logfile = parent.get("logfile")
    if not logfile and not parent.get("nodaemon"):
        logfile = "twistd.log"
    if logfile:
        yield f"--logfile={logfile if logfile == '-' else Path(logfile).absolute()}"
    if parent.get("syslog"):
        yield "--syslog"
    for name in _VALUE_OPTIONS:
        if parent.get(name):
            yield f"--{name}={parent[name]}"
    if parent.get("logger"):
        # twistd has put what the name stands for in its place.
        with suppress(AttributeError):  # an instance, which has no name
            yield f"--logger={fullyQualifiedName(parent['logger'])}"


_COMM = Path("/proc/self/comm")  # proc(5): the main thread's name, which exec makes python's


def _name() -> str:
    try:
        return _COMM.read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def take_name(name: str) -> None:
    """Have the name in ps and pgrep that the program before had."""
    if name:
        with suppress(OSError):
            _COMM.write_text(name, "utf-8")
