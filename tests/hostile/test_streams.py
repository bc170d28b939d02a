"""Connections that are opened, held, dribbled into, left unread and broken, many at a time."""

import contextlib
import socket
import struct
import time

from tests.hostile.ordeal import attacked
from tests.hostile.scene import FULL, Attackers, Scene, until

LINGER = struct.pack("ii", 1, 0)  # close sends RST (socket(7))


def test_connect_storm(scene: Scene) -> None:
    """Clients who connect and leave at once, as fast as one can."""

    def storm(attackers: Attackers, end: float) -> int:
        count = 0
        where = scene.where("target")
        while time.monotonic() < end:
            with socket.create_connection(where):
                count += 1
        return count

    attacked(scene, "connect storm", "connections", storm)


def test_reset_storm(scene: Scene) -> None:
    """Clients who connect, ask and reset the connection."""

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
    """Ten thousand who connect and say nothing: 6 KiB of memory each, and nobody else notices."""
    count = 9000 if FULL else 500

    def hold(attackers: Attackers, end: float) -> int:
        for _ in range(count):
            attackers.connect("target")
        until(lambda: scene.endpoint("target")["connections"] == count, "all of them accepted")
        time.sleep(max(0.0, end - time.monotonic()))
        return count

    attacked(scene, "idle connections", "connections", hold, memory=16 + count * 6 // 1024)


def test_slow_loris(scene: Scene) -> None:
    """Lines that never end, a byte at a time, to each protocol that waits for their ends, and the one that doesn't."""

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
    """Those who send all they can to an echo and read nothing of it: some hundred KiB each, no more."""
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
