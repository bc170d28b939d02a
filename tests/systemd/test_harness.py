"""The machine that these tests run in: alone, next to another, and gone however its session ended."""

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.end_to_end.programs import BOUND
from tests.systemd.harness import GROUP, ROOT, CannotBootError, Machine, require_means

SESSION = """
import sys
from tests.systemd.harness import Machine
machine = Machine()
print(machine.pid, machine.place, flush=True)
sys.stdin.read()
"""


@contextmanager
def session() -> Iterator[tuple[subprocess.Popen[str], int, Path]]:
    """Another Python with a machine of its own: the process, its machine's PID 1, and its directory."""
    with subprocess.Popen(
        [sys.executable, "-c", SESSION], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            pid, place = process.stdout.readline().split()
            yield process, int(pid), Path(place)
        finally:
            process.kill()


def groups() -> set[str]:
    """The control groups of all machines that there are or were."""
    script = "mount -t cgroup2 cgroup2 /mnt && ls /mnt"
    listed = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=True
    )
    return {name for name in listed.stdout.split() if name.startswith(GROUP)}


def ended(descriptor: int) -> bool:
    """Whether the process of this pidfd ends."""
    return bool(select.select([descriptor], [], [], BOUND)[0])


def test_a_killed_session_leaves_nothing(machine: Machine) -> None:
    """SIGKILL: its machine ends with it; the next session removes its directory and control group."""
    with session() as (process, pid, place):
        init = os.pidfd_open(pid)
        assert place.name in groups()
        process.kill()
        assert ended(init)
        os.close(init)
    Machine().close()
    assert place.name not in groups()
    assert not place.exists()
    assert machine.group in groups()
    assert machine.run("systemctl", "is-system-running").stdout == "running\n"


def test_two_side_by_side(machine: Machine) -> None:
    """Each has its own files and network."""
    with session() as (_, pid, _):
        machine.write("/etc/only-here", "")
        assert not Path(f"/proc/{pid}/root/etc/only-here").exists()
        networks = {os.readlink(f"/proc/{one}/ns/net") for one in (pid, machine.pid, "self")}
        assert len(networks) == 3


def test_close_leaves_nothing(machine: Machine) -> None:
    """No process, no directory, no control group."""
    other = Machine()
    init = os.pidfd_open(other.pid)
    assert other.group in groups()
    other.close()
    assert ended(init)
    os.close(init)
    assert not other.place.exists()
    assert other.group not in groups()
    assert machine.group in groups()


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skipping says why."""
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    with pytest.raises(CannotBootError, match="not root"):
        require_means()
