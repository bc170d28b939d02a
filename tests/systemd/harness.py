"""Boots a private systemd over an overlay of this machine's root, runs commands in it, and powers it off."""

import contextlib
import ctypes
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.end_to_end.programs import BOUND

ROOT = Path(__file__).resolve().parents[2]
BOOT = Path(__file__).with_name("boot.sh")
SYSTEMD = Path("/lib/systemd/systemd")
PROGRAMS = ("bash", "mount", "nsenter", "pivot_root", "setpriv", "systemctl", "unshare")
GROUP = "sockd-tests-"  # then our pid: what a killed session left behind isn't what another one uses
POWER_OFF_TIMEOUT = 15.0  # seconds that a clean power-off may take; what `command` runs there holds it up
POWER_OFF = signal.SIGRTMIN + 4  # systemd(1): starts poweroff.target
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "SYSTEMD_COLORS": "0",
    "SYSTEMD_PAGER": "",
}
CLONE_NEWNET = 0x40000000

# Where the machine has what this session runs: its user may not enter the homes that they may lie in.
CHECKOUT = "/opt/checkout"
PACKAGES = "/opt/packages"
PYTHON = "/opt/python"
COVERAGE = "/opt/coverage"


class CannotBootError(Exception):
    """No systemd can be booted here; the text says why."""


def require_means() -> None:
    """Raises CannotBootError, naming what is missing."""
    if os.getuid() != 0:
        raise CannotBootError("not root")
    if "\toverlay\n" not in Path("/proc/filesystems").read_text():
        subprocess.run(["modprobe", "overlay"], capture_output=True, check=False)
        if "\toverlay\n" not in Path("/proc/filesystems").read_text():
            raise CannotBootError("the kernel has no overlayfs")
    missing = [name for name in PROGRAMS if shutil.which(name, path=ENVIRONMENT["PATH"]) is None]
    if not SYSTEMD.exists():
        missing.append(str(SYSTEMD))
    if missing:
        raise CannotBootError(f"not installed: {', '.join(missing)}")


class Machine:
    """A running systemd with namespaces of its own, and sockd of this checkout installed in /opt/sockd.

    It ends with `close`, and with this process however that ends. `coverage_data` is a directory for
    coverage's data, or None.
    """

    def __init__(self, coverage_data: Path | None = None) -> None:
        require_means()
        self.group = f"{GROUP}{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.place = Path(tempfile.gettempdir(), self.group)
        self.place.mkdir(mode=0o700)
        self._log = self.place / "log"
        self.measured = coverage_data is not None
        shown = [(ROOT, CHECKOUT, "ro"), (Path(sysconfig.get_path("purelib")), PACKAGES, "ro")]
        if not _is_public(Path(sys.base_prefix)):
            shown.append((Path(sys.base_prefix), PYTHON, "ro"))
        if coverage_data is not None:
            shown.append((coverage_data, COVERAGE, "rw"))
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify,
            self._log.open("wb") as log,
        ):
            notify.bind(str(self.place / "notify"))
            # With us ends unshare, with unshare its child, and with that PID 1 everything else.
            self._unshare = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child",
                 "--uts", "--ipc", "--net", "--", str(BOOT), str(self.place), self.group,
                 *(str(word) for one in shown for word in one)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
            try:
                self._await_boot(notify)
                (child,) = (
                    Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children").read_text().split()
                )
                self.pid = int(child)
                self._install()
            except BaseException:
                self.close()
                raise

    def _await_boot(self, notify: socket.socket) -> None:
        """PID 1 says READY=1 like any service, once its first target is reached."""
        ended = os.pidfd_open(self._unshare.pid)
        try:
            while True:
                readable, _, _ = select.select([notify.fileno(), ended], [], [], BOUND)
                if notify.fileno() in readable:
                    if "READY=1" in notify.recv(4096).decode().split("\n"):
                        return
                elif ended in readable:
                    raise CannotBootError(f"it does not boot: {self._log.read_text().strip()}")
                else:
                    raise CannotBootError(f"not booted within {BOUND} s: {self._log.read_text().strip()}")
        finally:
            os.close(ended)

    def _install(self) -> None:
        """An environment in /opt/sockd, as venv makes it, of this session's Python, packages and checkout."""
        base = Path(sys.base_prefix)
        home = base if _is_public(base) else Path(PYTHON)
        if home != base:
            # Python's own library, where it has one, is looked for where the user may not enter; another
            # version that the system has would be taken, and not fit the modules.
            self.write("/etc/ld.so.conf.d/00-sockd-tests.conf", f"{home}/lib\n")
            self.run("ldconfig")
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        site = f"/opt/sockd/lib/{version}/site-packages"
        self.write("/opt/sockd/pyvenv.cfg", f"home = {home}/bin\ninclude-system-site-packages = false\n")
        measured = "import coverage; coverage.process_startup()\n" if self.measured else ""
        self.write(f"{site}/sockd.pth", f"{CHECKOUT}\n{PACKAGES}\n{measured}")
        self.path("/opt/sockd/bin").mkdir()
        for name in ("python", "python3", version):
            self.path(f"/opt/sockd/bin/{name}").symlink_to(home / "bin" / version)
        for name, module in (("sockd", "sockd.cli.main:main"), ("twistd", "twisted.scripts.twistd:run")):
            package, _, function = module.partition(":")
            text = f"import sys\nfrom {package} import {function}\nsys.exit({function}())\n"
            self.write(f"/opt/sockd/bin/{name}", f"#!/opt/sockd/bin/python\n{text}", 0o755)

    @staticmethod
    def end(process: subprocess.Popen[bytes]) -> None:
        """Ends what `command` started: by its child, which nobody but nsenter would wait for."""
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
        process.wait(BOUND)

    def path(self, inside: str) -> Path:
        """A path of the machine's as this process sees it; absolute symbolic links lead astray."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def write(self, inside: str, text: str, mode: int = 0o644) -> None:
        """A file of root's; the directories that it needs are made."""
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def command(self, *arguments: str, environment: Mapping[str, str] | None = None) -> list[str]:
        """What to run here in order to run this there, as root in all its namespaces."""
        variables = [f"{name}={value}" for name, value in {**ENVIRONMENT, **(environment or {})}.items()]
        return ["nsenter", "--target", str(self.pid), "--all", "--", "env", "-i", *variables, *arguments]

    def run(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        check: bool = True,
        bound: float = BOUND,
    ) -> subprocess.CompletedProcess[str]:
        """A command there, from start to end; AssertionError with its output where `check` and it fails."""
        one = subprocess.run(
            self.command(*arguments, environment=environment),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=bound, check=False,
        )  # fmt: skip
        assert not check or one.returncode == 0, f"{arguments}: {one.returncode}\n{one.stdout}{one.stderr}"
        return one

    def systemctl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("systemctl", *arguments, check=check)

    @contextlib.contextmanager
    def network(self) -> Iterator[None]:
        """Sockets that this thread makes in here are of the machine's network, for as long as they live."""
        setns = ctypes.CDLL(None, use_errno=True).setns
        with (
            Path("/proc/thread-self/ns/net").open() as ours,
            Path(f"/proc/{self.pid}/ns/net").open() as theirs,
        ):
            if setns(theirs.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            try:
                yield
            finally:
                if setns(ours.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")

    def close(self) -> None:
        """Power off, and leave nothing behind."""
        if hasattr(self, "pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, POWER_OFF)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._unshare.wait(POWER_OFF_TIMEOUT)
        self._unshare.kill()
        self._unshare.wait(BOUND)
        _remove_groups(self.place / "groups", self.group)
        for place in self.place.parent.glob(f"{GROUP}*"):
            if place == self.place or _is_of_the_dead(place.name):
                shutil.rmtree(place)


def _is_public(path: Path) -> bool:
    """Whether every user may enter it and all that is above it."""
    return all(one.stat().st_mode & 0o005 == 0o005 for one in (path, *path.parents))


def _is_of_the_dead(group: str) -> bool:
    """Whether the session whose name this is was killed."""
    owner = group.removeprefix(GROUP).partition("-")[0]
    return not Path(f"/proc/{owner}").exists()


def _remove_groups(place: Path, ours: str) -> None:
    """Control groups can be removed where they are mounted; also those of sessions that were killed."""
    place.mkdir(exist_ok=True)
    mounted = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        'mount -t cgroup2 cgroup2 "$1" && shift && "$@"',
        "sh",
        str(place),
    ]
    listed = subprocess.run([*mounted, "ls", str(place)], capture_output=True, text=True, check=False)
    groups = [one for one in listed.stdout.split() if one.startswith(GROUP)]
    gone = [str(place / one) for one in groups if one == ours or _is_of_the_dead(one)]
    if gone:
        remove = [*mounted, "find", *gone, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+"]
        subprocess.run(remove, capture_output=True, check=False)
