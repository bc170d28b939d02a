"""Files that can't be written: the disk is full, the FIFO has no reader, directory or permission are gone."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.ordeal import attacked
from tests.hostile.scene import MIB, Attackers, Scene, loudly_skip, until

pytestmark = pytest.mark.slow

ENDPOINTS = """
  full-log: {{listen: tcp://{host}:0, protocol: line-log, options: {{path: full/it.log, format: raw}},
              restart: {{delay: 100ms, max_delay: 500ms}}}}
  fifo-log: {{listen: tcp://{host}:0, protocol: line-log, options: {{path: fifo, format: raw}}}}
  gone-log: {{listen: tcp://{host}:0, protocol: line-log, options: {{path: gone/it.log, format: raw}},
              restart: {{delay: 100ms, max_delay: 500ms}}}}
"""
SMALL = 4 * MIB  # the disk


class Place:
    """Where their files are: a small disk, a FIFO, and a directory that will go."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="sockd-"))
        self.path.chmod(0o755)
        self.logs = self.path / "log"
        for name in ("full", "gone"):
            (self.logs / name).mkdir(parents=True)
        os.mkfifo(self.logs / "fifo")
        self.reader = os.open(self.logs / "fifo", os.O_RDONLY | os.O_NONBLOCK)
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", str(self.logs / "full")],
            capture_output=True, check=False,
        )  # fmt: skip
        self.mounted = mounted.returncode == 0

    def close(self) -> None:
        os.close(self.reader)
        if self.mounted:
            subprocess.run(["umount", str(self.logs / "full")], check=True)
        shutil.rmtree(self.path)


@pytest.fixture(scope="module")
def files() -> Iterator[Place]:
    one = Place()
    yield one
    one.close()


@pytest.fixture(scope="module")
def scene(files: Place) -> Iterator[Scene]:
    """A daemon that writes to them."""
    one = Scene(files.path, endpoints=ENDPOINTS)
    yield one
    one.close()


def lines(first: int) -> bytes:
    """A thousand numbered ones."""
    return b"".join(b"%08d %s\n" % (n, b"x" * 90) for n in range(first, first + 1000))


def expected(count: int) -> bytes:
    return b"".join(lines(first) for first in range(0, count + 1000, 1000))[: count * 100]


def test_disk_full(scene: Scene, files: Place) -> None:
    """Only the sender feels it; once there is room, all that was accepted is there, once."""
    if not files.mounted:
        loudly_skip("a small disk needs root and mount")
    log, filler = files.logs / "full" / "it.log", files.logs / "full" / "filler"

    def fill(attackers: Attackers, end: float) -> int:
        filler.write_bytes(bytes(SMALL - MIB))
        one = attackers.connect("full-log")
        before = log.stat().st_size
        one.setblocking(False)
        data = expected(100_000)
        sent = 0
        while time.monotonic() < end and sent < 2 * SMALL:
            try:
                sent += one.send(data[sent : sent + 65_536])
            except BlockingIOError:
                time.sleep(0.005)
        until(lambda: scene.endpoint("full-log")["state"] == "backing off", "the disk is full")
        filler.unlink()
        # What was accepted may be more than that disk holds.
        subprocess.run(["mount", "-o", f"remount,size={64 * MIB}", str(files.logs / "full")], check=True)
        one.settimeout(30)
        one.sendall(data[sent : -(-sent // 100) * 100])
        count = -(-sent // 100)
        one.shutdown(socket.SHUT_WR)
        until(lambda: log.stat().st_size - before == count * 100, "all lines are there")
        assert log.read_bytes()[before:] == data[: count * 100]
        until(lambda: scene.endpoint("full-log")["state"] == "running", "it runs again")
        return count

    attacked(scene, "disk full", "lines", fill)


def test_fifo_that_blocks(scene: Scene, files: Place) -> None:
    """A FIFO whose reader sleeps holds up its own endpoint only; when it reads, all lines come, once."""

    def block(attackers: Attackers, end: float) -> int:
        one = attackers.connect("fifo-log")
        one.setblocking(False)
        data = expected(400_000)  # more than the buffers of the kernel and the bound of the sink
        sent = 0
        while time.monotonic() < end:
            try:
                sent += one.send(data[sent : sent + 65_536])
            except BlockingIOError:
                time.sleep(0.005)
        assert sent < len(data), "it takes everything"
        came = bytearray()
        wanted = -(-sent // 100) * 100  # the line that was begun is to be a whole one
        while len(came) < wanted:
            with contextlib.suppress(BlockingIOError):
                sent += one.send(data[sent:wanted])
            try:
                came += os.read(files.reader, 65_536)
            except BlockingIOError:
                time.sleep(0.001)
        assert came == data[:wanted]
        return wanted // 100

    attacked(scene, "FIFO that blocks", "lines", block)


def test_log_directory_gone(scene: Scene, files: Place) -> None:
    """Without its directory it goes on writing to the file that is open, and says why at a reopening."""
    home, away = files.logs / "gone", files.logs / "away"

    def take_away(attackers: Attackers, end: float) -> int:
        one = attackers.connect("gone-log")
        one.sendall(expected(1000))
        until(lambda: (home / "it.log").stat().st_size == 100_000, "the first lines")
        home.rename(away)
        before = len(scene.daemon.events)
        scene.daemon.signal(signal.SIGUSR1)
        until(
            lambda: any("gone/it.log" in str(event) for event in scene.daemon.events[before:]), "it is told"
        )
        one.sendall(lines(1000))
        until(lambda: (away / "it.log").stat().st_size == 200_000, "the next ones")
        away.rename(home)
        scene.daemon.signal(signal.SIGUSR1)
        one.sendall(lines(2000))
        one.shutdown(socket.SHUT_WR)
        until(lambda: (home / "it.log").stat().st_size == 300_000, "the last ones")
        assert (home / "it.log").read_bytes() == expected(3000)
        time.sleep(max(0.0, end - time.monotonic()))
        return 3000

    attacked(scene, "log directory gone", "lines", take_away)


def test_permission_lost(place: Path) -> None:
    """A file that the daemon may no longer open is written on; what can't be opened again is reported."""
    if os.getuid() != 0:
        loudly_skip("to take a permission away from the daemon needs root")
    nobody = pwd.getpwnam("nobody")
    for name in ("run", "log"):
        (place / name).mkdir()
        os.chown(place / name, nobody.pw_uid, nobody.pw_gid)
    options = (f"--uid={nobody.pw_uid}", f"--gid={nobody.pw_gid}", "--umask=022")
    scene = Scene(place, options=options)
    log = place / "log" / "target.log"

    def take_away(attackers: Attackers, end: float) -> int:
        one = attackers.connect("target-log")
        log.chmod(0)
        os.chown(log, 0, 0)
        before = len(scene.daemon.events)
        scene.daemon.signal(signal.SIGUSR1)
        until(lambda: any("target.log" in str(event) for event in scene.daemon.events[before:]), "it is told")
        one.sendall(lines(0))
        one.shutdown(socket.SHUT_WR)
        until(lambda: log.read_bytes().count(b"\n") == 1000, "all lines are there")
        os.chown(log, nobody.pw_uid, nobody.pw_gid)
        log.chmod(0o640)
        scene.daemon.signal(signal.SIGUSR1)
        time.sleep(max(0.0, end - time.monotonic()))
        return 1000

    try:
        attacked(scene, "permission lost", "lines", take_away)
    finally:
        scene.close()
