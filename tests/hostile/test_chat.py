"""Chats with many members who all speak, or all ask, in the same moment."""

import itertools
import re
import socket
import time

import pytest

from tests.hostile.ordeal import attacked
from tests.hostile.scene import Attackers, Scene

pytestmark = pytest.mark.slow

MEMBERS = 300
ASKERS = 900
# Of a datagram chat: a full queue of the kernel's, and a challenge that is asked for too often.
NO_PLACE = {"crowd: dropped by the kernel": lambda n: n >= 0, "crowd: not a member": lambda n: n >= 0}
HOSTS = itertools.count()  # one source gets few challenges


def welcomed(member: socket.socket) -> socket.socket:
    """A member that is in, which reads nothing from here on."""
    came = b""
    while b"you are in" not in came:
        came += member.recv(65_536)
    return member


def joined(attackers: Attackers, endpoint: str, count: int, buffer: int) -> list[socket.socket]:
    """So many members that come together, as each is greeted only after a moment."""
    return [welcomed(one) for one in [attackers.connect(endpoint, buffer=buffer) for _ in range(count)]]


def datagram_member(attackers: Attackers) -> socket.socket:
    """A UDP member of the crowd, at an address of its own."""
    one = attackers.own(socket.socket(type=socket.SOCK_DGRAM))
    host = next(HOSTS)
    one.bind((f"127.1.{host // 250}.{host % 250 + 1}", 0))
    one.connect(attackers.scene.where("crowd", "udp"))
    one.settimeout(0.2)
    code = None
    while code is None:
        one.send(b"hello")
        try:
            code = re.search(rb"/prove ([0-9a-f-]+)", one.recv(1500))
        except TimeoutError:
            continue
    one.settimeout(30)
    one.send(b"/prove " + code[1].replace(b"-", b""))
    return welcomed(one)


def test_datagram_members_all_speak(scene: Scene) -> None:
    """300 members by UDP say a line each second, all in the same moment: 90,000 deliveries a second."""
    members: list[socket.socket] = []

    def join(attackers: Attackers) -> None:
        members[:] = [datagram_member(attackers) for _ in range(MEMBERS)]

    def speak(_attackers: Attackers, end: float) -> int:
        count = 0
        while time.monotonic() < end:
            began = time.monotonic()
            for one in members:
                one.send(b"what everybody says in the same moment")
            count += len(members)
            time.sleep(max(0.0, began + 1 - time.monotonic()))
        return count

    attacked(scene, "datagram chat", "lines", speak, prepare=join, refused=NO_PLACE)


def test_stream_members_all_speak(scene: Scene) -> None:
    """A room of 300 hears 1,000 lines a second of twenty members, each of whom sends fifty at a time."""
    members: list[socket.socket] = []

    def join(attackers: Attackers) -> None:
        members[:] = joined(attackers, "target-chat", MEMBERS, buffer=2**21)

    def speak(_attackers: Attackers, end: float) -> int:
        count = 0
        while time.monotonic() < end:
            began = time.monotonic()
            for one in members[:20]:
                one.sendall(b"what everybody says\n" * 50)
            count += 1000
            time.sleep(max(0.0, began + 1 - time.monotonic()))
        return count

    attacked(scene, "waiting lines", "lines", speak, prepare=join, memory=64)


def test_members_who_all_ask(scene: Scene) -> None:
    """900 members ask /who as often as they may, and all of their questions wait."""
    members: list[socket.socket] = []

    def join(attackers: Attackers) -> None:
        members[:] = joined(attackers, "askers", ASKERS, buffer=2**20)

    def ask(_attackers: Attackers, end: float) -> int:
        for one in members:
            one.sendall(b"/who\n" * 200)
        time.sleep(max(0.0, end - time.monotonic()))
        return 200 * len(members)

    attacked(scene, "questions that wait", "questions", ask, prepare=join, memory=64)
