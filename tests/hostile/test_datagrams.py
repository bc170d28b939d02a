"""Datagrams by the hundred thousand, empty and huge, and from where no client asks."""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.hostile.ordeal import Outcome, attacked
from tests.hostile.scene import Attackers, Scene, until

pytestmark = pytest.mark.slow

SIZES = (0, 1, 65_507)


def several(count: int) -> bool:
    return count >= 0


def lost_on_the_way() -> int:
    """Packets that no socket has seen, as a core's queue was full (/proc/net/softnet_stat, second column)."""
    return sum(int(line.split()[1], 16) for line in Path("/proc/net/softnet_stat").read_text().splitlines())


def flood(
    scene: Scene,
    name: str,
    endpoint: str,
    kind: str,
    data: bytes,
    reasons: Mapping[str, Callable[[int], bool]],
) -> Outcome:
    """As many datagrams as one sender can; each of them is answered, accepted or counted."""

    def arrived() -> int:
        status = scene.listener(endpoint, kind)
        return int(status["datagrams_in"]) + int(status["refused"].get("dropped by the kernel", 0))

    def send(attackers: Attackers, end: float) -> int:
        before, lost = arrived(), lost_on_the_way()
        one = attackers.connect(endpoint, kind)
        one.setblocking(False)
        count = 0
        while time.monotonic() < end:
            for _ in range(100):
                try:
                    one.send(data)
                    count += 1
                except (BlockingIOError, ConnectionRefusedError):
                    time.sleep(0.0002)
        until(
            lambda: 0 <= count - (arrived() - before) <= lost_on_the_way() - lost, f"each of {count} counted"
        )
        return count

    return attacked(scene, name, "datagrams", send, refused=reasons)


@pytest.mark.parametrize("size", SIZES)
def test_echo(scene: Scene, size: int) -> None:
    """An echo answers no more of one source than its rate, and never counts one twice."""
    reasons = {
        "target: datagrams_per_source": several,
        "target: dropped by the kernel": several,
        "target: kernel: EAGAIN": several,
    }
    flood(scene, f"UDP flood of {size} B, echo", "target", "udp", bytes(size), reasons)


@pytest.mark.parametrize("size", SIZES)
def test_line_log(scene: Scene, size: int) -> None:
    """A line-log takes what it can write, and counts the rest."""
    reasons = {"void-log: dropped by the kernel": several, "void-log: sink full": several}
    flood(scene, f"UDP flood of {size} B, line-log", "void-log", "udp", b"x" * size, reasons)


@pytest.mark.parametrize("size", SIZES)
def test_chat(scene: Scene, size: int) -> None:
    """Who is no member is not heard by anybody, however much it sends."""
    reasons = {"target-chat: dropped by the kernel": several, "target-chat: not a member": several}
    flood(scene, f"UDP flood of {size} B, chat", "target-chat", "udp", b"x" * size, reasons)


def test_unix(scene: Scene) -> None:
    """Local senders wait for the daemon; those without a name get no answer."""
    reasons = {
        "target: no return address": several,
        "target: datagrams_per_source": several,
        "target: datagrams": several,
    }
    flood(scene, "Unix datagrams, echo", "target", "unixgram", b"x", reasons)


def test_low_source_ports(scene: Scene) -> None:
    """No client asks from a port of a service: not one answer goes there."""
    if os.getuid() != 0:
        pytest.skip("ports below 1024 need root")
    ports = (7, 13, 17, 19, 37, 53, 69, 123, 161, 514, 1023)

    def send(attackers: Attackers, end: float) -> int:
        before = scene.refused()["target: source port below 1024"]
        sockets = []
        for port in ports:
            one = attackers.own(socket.socket(type=socket.SOCK_DGRAM))
            with contextlib.suppress(OSError):  # somebody has it
                one.bind(("127.0.0.1", port))
                one.setblocking(False)
                sockets.append(one)
        assert sockets
        where = scene.where("target", "udp")
        count = 0
        while time.monotonic() < end:
            for one in sockets:
                one.sendto(b"x", where)
                count += 1
            time.sleep(0.005)  # no more than are answered
        until(lambda: scene.refused()["target: source port below 1024"] - before == count, "all are counted")
        for one in sockets:
            with pytest.raises(BlockingIOError):
                one.recv(1)
        return count

    refused = {"target: source port below 1024": lambda n: n > 0}
    attacked(scene, "low source ports", "datagrams", send, refused=refused)


def test_many_sources(scene: Scene) -> None:
    """Each datagram from another address: the table of sources doesn't grow, and the rate for all holds."""

    def send(attackers: Attackers, end: float) -> int:
        where = scene.where("target", "udp")
        count = 0
        while time.monotonic() < end:
            with socket.socket(type=socket.SOCK_DGRAM) as one:
                one.bind((f"127.{1 + count // 62500 % 250}.{count // 250 % 250}.{1 + count % 250}", 0))
                one.sendto(b"x", where)
                count += 1
        return count

    reasons = {
        "target: datagrams": several,
        "target: source port of ours": several,  # one that the kernel chose by chance
        "target: dropped by the kernel": several,
        "target: kernel: ECONNREFUSED": several,
    }
    attacked(scene, "many sources", "datagrams", send, refused=reasons, memory=16)
