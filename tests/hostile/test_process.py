"""What is done to the process: no descriptors, no buffers, a stop, a kill, a clock that is set back."""

import contextlib
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.hostile.ordeal import attacked
from tests.hostile.scene import FULL, SECONDS, Attackers, Scene, loudly_skip, until

pytestmark = pytest.mark.slow

# Where Debian's libfaketime is, or Fedora's.
FAKETIME = ("lib/*/faketime/libfaketime.so.1", "lib64/faketime/libfaketime.so.1")


def test_no_descriptors(scene: Scene) -> None:
    """Out of descriptors it neither spins nor ends: connections are served, newcomers wait, all recover."""
    pid = scene.daemon.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    spent: list[float] = []

    def exhaust(attackers: Attackers, end: float) -> int:
        there = attackers.connect("target")
        there.sendall(b"x")
        assert there.recv(1) == b"x"
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (scene.size().descriptors + 5, limits[1]))
        try:
            sockets = [attackers.connect("target") for _ in range(50)]
            until(lambda: scene.refused()["target: accepting failed"] > before, "descriptors have run out")
            began, used = time.monotonic(), processor(pid)
            while time.monotonic() < end:
                there.sendall(b"x")
                assert there.recv(1) == b"x"
                time.sleep(0.01)
            spent.append((processor(pid) - used) / max(time.monotonic() - began, 0.1))
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        for one in sockets:  # those that waited are served
            one.sendall(b"x")
            assert one.recv(1) == b"x"
        return len(sockets)

    before = scene.refused()["target: accepting failed"]
    refused = {"target: accepting failed": lambda n: 0 < n < 10 + 4 * SECONDS}
    attacked(scene, "no descriptors", "connections", exhaust, refused=refused)
    assert spent[-1] < 0.5, "it spins"


def processor(pid: int) -> float:
    """Seconds of processor that it has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_no_buffers(scene: Scene) -> None:
    """Where the kernel has no room for an answer (ENOBUFS) it is counted, and the next one goes out."""
    if shutil.which("strace") is None:
        loudly_skip("strace is not installed (see .ci/run)")
    link = f"socket:[{inode(scene.daemon.port('target', 'udp'))}]"
    command = [
        *("strace", "-qqq", "-f", "-p", str(scene.daemon.pid), "-P", link, "-o", "/dev/null"),
        *("-e", "trace=sendto,sendmsg", "-e", "inject=sendto,sendmsg:error=ENOBUFS:when=1+3"),
    ]

    def inject(attackers: Attackers, end: float) -> int:
        one = attackers.connect("target", "udp")
        one.setblocking(False)
        with subprocess.Popen(command, stderr=subprocess.PIPE) as strace:
            try:
                count = 0
                while time.monotonic() < end or scene.refused()["target: kernel: ENOBUFS"] == before:
                    assert strace.poll() is None, strace.stderr
                    one.send(b"x")
                    count += 1
                    time.sleep(0.001)
            finally:
                strace.terminate()
        time.sleep(0.05)
        with contextlib.suppress(BlockingIOError):
            while True:
                one.recv(10)
        one.settimeout(30)
        one.send(b"last")
        assert one.recv(10) == b"last"
        return count

    before = scene.refused()["target: kernel: ENOBUFS"]
    refused = {"target: kernel: ENOBUFS": lambda n: n > 0}
    attacked(scene, "no buffers", "datagrams", inject, refused=refused, insist=False)


def inode(port: int) -> str:
    """Of the UDP socket that is bound to this port."""
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].partition(":")[2], 16) == port:
            return fields[9]
    raise AssertionError(f"no UDP socket on {port}")


def test_stopped_for_a_while(scene: Scene) -> None:
    """SIGSTOP: clients that wait are served afterwards, and none is taken for idle or stalled."""

    def stop(attackers: Attackers, end: float) -> int:
        sockets = [attackers.connect("target") for _ in range(20)]
        until(lambda: scene.endpoint("target")["connections"] == 20, "all of them accepted")
        scene.daemon.signal(signal.SIGSTOP)
        try:
            for one in sockets:
                one.sendall(b"x")
            late = [attackers.connect("target") for _ in range(20)]
            for one in late:
                one.sendall(b"x")
            time.sleep(60 if FULL else SECONDS)
        finally:
            scene.daemon.signal(signal.SIGCONT)
        for one in (*sockets, *late):
            assert one.recv(1) == b"x"
        return 1

    attacked(scene, "SIGSTOP", "stop", stop, insist=False)


def test_killed(place: Path) -> None:
    """kill -9 under load: of each sender a beginning is there, in order; only the last line may be torn."""
    rounds = 20 if FULL else 3
    scene = Scene(place)
    log = place / "log" / "target.log"
    try:
        for number in range(rounds):
            attackers = Attackers(scene)
            sockets = [attackers.connect("target-log") for _ in range(4)]
            end = time.monotonic() + 0.3
            sent = 0
            while time.monotonic() < end:
                for which, one in enumerate(sockets):
                    text = f"{number} {which} {{}} {'x' * 500}\n"
                    one.sendall("".join(text.format(n) for n in range(sent, sent + 50)).encode())
                sent += 50
            scene.daemon.signal(signal.SIGKILL)
            scene.daemon.wait()
            scene.daemon.end()
            attackers.close()
            scene.start()
            check(log.read_bytes(), number)
    finally:
        scene.close()


def check(written: bytes, last: int) -> None:
    """Every line whole, in its sender's order, but at most one torn at the end of each round."""
    record = re.compile(rb"\S+Z target-log 127\.0\.0\.1:\d+ (\d+) (\d+) (\d+) x{500}")
    following: dict[tuple[int, int], int] = {}
    torn_in: set[int] = set()
    current = 0
    for line in written.split(b"\n")[:-1]:
        if line.endswith(rb" \{torn}"):
            assert current not in torn_in
            torn_in.add(current)
            continue
        found = record.fullmatch(line)
        assert found, line
        round_, which, number = map(int, found.groups())
        assert round_ >= current
        assert round_ not in torn_in, "a torn line, and more of its round behind it"
        current = round_
        assert following.get((round_, which), 0) == number
        following[round_, which] = number + 1
    assert current == last
    assert written.endswith(b"\n") or last > current


def test_clock_set_back(place: Path) -> None:
    """The wall clock steps back a day: no connection is closed or kept for it, records have the new time."""
    library = next((found for each in FAKETIME for found in Path("/usr").glob(each)), None)
    if library is None:
        loudly_skip("libfaketime is not installed (see .ci/run)")
    clock = place / "clock"
    set_clock(clock, "+0")
    scene = Scene(
        place,
        environment={
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",  # it looks into the file whenever the time is asked for
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # as later versions call it
            # Else it has Python's threads wait a third of a second for each other.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        },
    )
    log = place / "log" / "target.log"

    def step(attackers: Attackers, end: float) -> int:
        there, idle, sender = (attackers.connect(name) for name in ("target", "brief", "target-log"))
        sender.sendall(b"before\n")
        until(lambda: b"before" in log.read_bytes(), "a line")
        set_clock(clock, "-1d")
        sender.sendall(b"after\n")
        until(lambda: b"after" in log.read_bytes(), "another")
        days = [line[:10] for line in log.read_bytes().splitlines()]
        assert days[-1] < days[0]
        began = time.monotonic()
        assert idle.recv(1) == b""
        assert time.monotonic() - began < 10, "idle connections are kept for a day"
        there.sendall(b"x")
        assert there.recv(1) == b"x"
        time.sleep(max(0.0, end - time.monotonic()))
        set_clock(clock, "+0")
        return 1

    try:
        attacked(scene, "clock set back", "day", step)
    finally:
        scene.close()


def set_clock(file: Path, ahead: str) -> None:
    """The daemon's wall clock is so far ahead of ours, as faketime(1) writes it."""
    written = file.with_suffix(".new")
    written.write_text(ahead)
    written.replace(file)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_backlog_full(scene: Scene, kind: str) -> None:
    """More clients than the backlog holds, while nothing is accepted, are served once it goes on."""

    def crowd(attackers: Attackers, end: float) -> int:
        scene.ask("suspend", endpoint="target")
        count = 0
        waiting: list[socket.socket] = []
        while time.monotonic() < end and count < 2000:
            one = attackers.own(socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET))
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect(scene.where("target", kind))
                waiting.append(one)
            count += 1
        scene.ask("resume", endpoint="target")
        for one in waiting:
            one.settimeout(30)
            one.sendall(b"x")
            assert one.recv(1) == b"x"
        return count

    attacked(scene, f"backlog full, {kind}", "connections", crowd)
