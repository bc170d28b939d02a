"""Connections that are opened, held, dribbled into, left unread and broken, many at a time."""

import contextlib
import resource
import socket
import struct
import time

import pytest

from tests.hostile.ordeal import attacked
from tests.hostile.scene import FULL, Attackers, Scene, loudly_skip, until

pytestmark = pytest.mark.slow

OTHERS = 500  # descriptors of a process that are no connections of an attack
LINGER = struct.pack("ii", 1, 0)  # close sends RST (socket(7))


def test_connect_storm(scene: Scene) -> None:
    """Clients that connect and leave immediately, as fast as they can."""

    def storm(attackers: Attackers, end: float) -> int:
        count = 0
        where = scene.where("target")
        while time.monotonic() < end:
            # Closed ones keep their ports for a minute: of one address there wouldn't be enough.
            with socket.create_connection(where, source_address=(f"127.0.0.{2 + count % 200}", 0)):
                count += 1
        return count

    attacked(scene, "connect storm", "connections", storm)


def test_reset_storm(scene: Scene) -> None:
    """Clients that connect, ask and reset the connection."""

    def storm(attackers: Attackers, end: float) -> int:
        count = 0
        where = scene.where("target")
        while time.monotonic() < end:
            with socket.create_connection(where) as one:
                one.sendall(b"x" * 1000)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
                count += 1
        return count

    attacked(scene, "reset storm", "connections", storm)


def test_idle_connections(scene: Scene) -> None:
    """Ten thousand clients that connect and say nothing: 6 KiB of memory each, and no other notices."""
    count = 10_000 if FULL else 500
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count + OTHERS:
        loudly_skip(f"{count + OTHERS} descriptors are needed on each side, and ulimit -Hn is {hard}")

    def hold(attackers: Attackers, end: float) -> int:
        for _ in range(count):
            attackers.connect("target")
        until(lambda: scene.endpoint("target")["connections"] == count, "all of them accepted")
        time.sleep(max(0.0, end - time.monotonic()))
        return count

    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + OTHERS), hard))
    try:
        attacked(scene, "idle connections", "connections", hold, memory=16 + count * 6 // 1024)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_slow_loris(scene: Scene) -> None:
    """Lines that never end, a byte at a time, to each protocol."""

    def dribble(attackers: Attackers, end: float) -> int:
        names = ("target", "target-chat", "void-log")
        sockets = [attackers.connect(names[n % 3]) for n in range(1200 if FULL else 150)]
        count = 0
        while time.monotonic() < end:
            for one in sockets:
                one.sendall(b"x")
                count += 1
            time.sleep(0.1)
        return count

    attacked(scene, "slow loris", "bytes", dribble)


def test_never_read(scene: Scene) -> None:
    """Clients that send all they can to an echo and read nothing of it: some hundred KiB each, no more."""
    readers = 20

    def send(attackers: Attackers, end: float) -> int:
        sockets = [attackers.connect("target", "tcp" if n % 2 else "unix") for n in range(readers)]
        data = bytes(65536)
        count = 0
        for one in sockets:
            one.setblocking(False)
        while time.monotonic() < end:
            for one in sockets:
                with contextlib.suppress(BlockingIOError):
                    count += one.send(data)
            time.sleep(0.001)
        return count

    attacked(scene, "never read", "bytes", send, memory=16 + readers * 512 // 1024)


def test_never_send(scene: Scene) -> None:
    """Clients that only sit there are closed after the idle time, and others take their places."""

    def sit(attackers: Attackers, end: float) -> int:
        count = 0
        while time.monotonic() < end:
            sockets = [attackers.connect("brief") for _ in range(100)]
            count += len(sockets)
            for one in sockets:
                assert one.recv(1) == b""
        return count

    attacked(scene, "never send", "connections", sit)


def test_fin_while_paused(scene: Scene) -> None:
    """Clients that fill all buffers and send FIN: those that then read get every byte, others are closed."""

    def fill(one: socket.socket) -> int:
        one.setblocking(False)
        taken, full = 0, 0
        while full < 20:
            try:
                taken += one.send(bytes(65536))
                full = 0
            except BlockingIOError:
                full += 1
                time.sleep(0.005)
        one.settimeout(30)
        one.shutdown(socket.SHUT_WR)
        return taken

    def pause(attackers: Attackers, end: float) -> int:
        reader = attackers.connect("brief", buffer=4096)
        taken = fill(reader)
        came = 0
        while chunk := reader.recv(65536):
            came += len(chunk)
        assert came == taken
        for _ in range(20 if FULL else 3):
            fill(attackers.connect("brief", buffer=4096))
        until(lambda: scene.endpoint("brief")["connections"] == 0, "they stall, and are cut")
        return 21 if FULL else 4

    attacked(scene, "FIN while paused", "connections", pause)


def test_reset_in_a_drain(scene: Scene) -> None:
    """Clients that reset the connection while it is being drained don't keep the drain from its end."""
    count = 100

    def reset(attackers: Attackers, end: float) -> int:
        sockets = [attackers.connect("target", buffer=4096) for _ in range(count)]
        for one in sockets:
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.send(bytes(1_000_000))
        until(lambda: scene.endpoint("target")["connections"] == count, "all of them accepted")
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(30)
            control.connect(str(scene.daemon.runtime / "control.sock"))
            control.sendall(b'{"version": 1, "command": "drain", "endpoint": "target"}\n')
            until(lambda: "suspended" in scene.endpoint("target")["causes"], "it drains")
            for one in sockets[: count // 2]:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
                one.close()
            answer = control.recv(1000).decode()
        assert '"ok":true' in answer
        scene.ask("resume", endpoint="target")
        return count

    attacked(scene, "RST in a drain", "connections", reset, memory=64)


def test_more_than_may_be(scene: Scene) -> None:
    """Beyond the limit newcomers wait in the backlog, and each is served once those before it have gone."""

    def crowd(attackers: Attackers, end: float) -> int:
        count = 0
        while count < 10 or time.monotonic() < end:
            sockets = [attackers.connect("few") for _ in range(50)]
            until(lambda: scene.endpoint("few")["causes"] == ["at its limit"], "the limit is reached")
            assert scene.endpoint("few")["connections"] == 10
            for one in sockets:  # the first ten are in, and each that leaves lets another one in
                one.sendall(b"x")
                assert one.recv(1) == b"x"
                one.close()
                count += 1
        return count

    attacked(scene, "more than may be", "connections", crowd)


def test_control_socket(scene: Scene) -> None:
    """Who floods the control socket with what is no request doesn't close it to others."""

    def flood(attackers: Attackers, end: float) -> int:
        count = 0
        where = str(scene.daemon.runtime / "control.sock")
        for _ in range(20):  # of the 32 that it takes at a time
            attackers.own(socket.socket(socket.AF_UNIX)).connect(where)
        while time.monotonic() < end:
            with socket.socket(socket.AF_UNIX) as one:
                one.settimeout(30)
                one.connect(where)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    one.sendall((b"\0\xff{[" * 64 + b"\n") * 8 if count % 2 else b"x" * 200_000)
                    one.recv(1_000)
                count += 1
        return count

    attacked(scene, "control socket", "connections", flood)
