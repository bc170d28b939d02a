"""Datagrams whose sender is forged, and peers that vanish from the network, on a wire of their own."""

import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.harness import TWISTD, Daemon
from tests.hostile.network import OURS, THEIRS, Network, NoNetworkError, forged
from tests.hostile.ordeal import attacked
from tests.hostile.scene import FULL, Attackers, Scene, loudly_skip, until

pytestmark = pytest.mark.slow

LOOP = "  loop: {{listen: [udp://{host}:7007, udp://{host}:7009], protocol: echo}}\n"
ALONE = b"with nobody else so far"
RATE = 5_000  # datagrams a second that an echo answers of one source


def several(count: int) -> bool:
    return count >= 0


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    try:
        one = Network()
    except NoNetworkError as error:
        loudly_skip(str(error))
    yield one
    one.close()


@pytest.fixture(scope="module")
def scene(network: Network) -> Iterator[Scene]:
    """A daemon on this network."""
    path = Path(tempfile.mkdtemp(prefix="sockd-"))
    one = Scene(path, OURS, network.door, LOOP)
    yield one
    one.close()
    shutil.rmtree(path)


@pytest.fixture
def other(network: Network, place: Path) -> Iterator[Daemon]:
    """Another daemon, on the attacker's machine, with echoes on 7008 and 7009."""
    file = place / "sockd.yaml"
    file.write_text(
        "daemon: {log: {format: json}}\nendpoints:\n"
        f"  echo: {{listen: [udp://{THEIRS}:7008, udp://{THEIRS}:7009], protocol: echo}}\n"
    )
    one = Daemon(place, file, (*network.other_door, *TWISTD))
    one.serving()
    yield one
    one.stop()
    one.end()


def members(scene: Scene) -> bytes:
    """What the attacked chat answers to `/who`."""
    attackers = Attackers(scene)
    try:
        one = attackers.connect("target-chat")
        one.sendall(b"/who\n/quit\n")
        return one.makefile("rb").read()
    finally:
        attackers.close()


@pytest.fixture(autouse=True)
def on_the_wire(network: Network) -> Iterator[None]:
    """The test's own sockets are on the attacker's machine."""
    with network.attacking():
        yield


def test_forged_sources(scene: Scene, network: Network) -> None:
    """Each from another network: public ones get no answer, none makes the daemon's memory grow."""
    target = OURS, scene.daemon.port("target", "udp")
    generator = random.Random(1)
    packets = [
        forged((f"{first}.{generator.randrange(1, 224)}.{n % 250}.{n % 253 + 1}", 1024 + n), target, b"x")
        for n in range(50_000)
        for first in [10 if n % 2 else generator.choice([11, 100, 172, 198, 203])]
    ]

    def forge(attackers: Attackers, end: float) -> int:
        one = attackers.own(network.forger())
        count = 0
        while time.monotonic() < end:
            for _ in range(100):
                one.sendto(packets[count % len(packets)], (OURS, 0))
                count += 1
        return count

    reasons = {
        "target: source network": lambda n: n > 0,
        "target: datagrams": several,
        "target: source port of ours": several,
        "target: dropped by the kernel": several,
        "target: kernel: EHOSTUNREACH": several,
    }
    attacked(scene, "forged sources", "datagrams", forge, refused=reasons, memory=16)


def test_a_loop_on_one_port(scene: Scene, network: Network, other: Daemon) -> None:
    """Two sockd echoes that are forged at each other on the same port: not even one answer."""

    def forge(attackers: Attackers, end: float) -> int:
        before = scene.refused()["loop: source port of ours"]
        one = attackers.own(network.forger())
        count = 0
        while time.monotonic() < end:
            for port in (7007, 7009):
                one.sendto(forged((THEIRS, 7009), (OURS, port), b"x"), (OURS, 0))
                count += 1
            time.sleep(0.01)
        until(lambda: scene.refused()["loop: source port of ours"] - before == count, "each of them refused")
        return count

    attacked(
        scene, "loop on one port", "datagrams", forge, refused={"loop: source port of ours": lambda n: n > 0}
    )
    assert [one["datagrams_out"] for one in scene.endpoint("loop")["listeners"]] == [0, 0]


def test_a_loop_on_unlike_ports(scene: Scene, network: Network, other: Daemon) -> None:
    """Reflectors on unlike ports can't be distinguished from clients: the bucket bounds what goes round."""

    def listener() -> dict[str, Any]:
        return next(one for one in scene.endpoint("loop")["listeners"] if one["address"].endswith(":7007"))

    def forge(attackers: Attackers, end: float) -> int:
        one = attackers.own(network.forger())
        began = time.monotonic()
        before = listener()["datagrams_out"]
        for _ in range(200):
            one.sendto(forged((THEIRS, 7008), (OURS, 7007), b"x"), (OURS, 0))
        time.sleep(max(0.0, end - time.monotonic()))
        answered = listener()["datagrams_out"] - before
        assert answered <= RATE * (time.monotonic() - began + 1)
        return 200

    reasons = {"loop: datagrams_per_source": several, "loop: dropped by the kernel": several,
               "loop: kernel: ECONNREFUSED": several}  # fmt: skip
    attacked(scene, "loop on unlike ports", "datagrams", forge, refused=reasons)


def test_chat_join_from_a_forged_address(scene: Scene, network: Network) -> None:
    """Who can't hear the code can't join, however it guesses, and little is sent to whom it claims to be."""
    target = OURS, scene.daemon.port("target-chat", "udp")
    generator = random.Random(2)

    def sent() -> int:
        return int(scene.listener("target-chat", "udp")["datagrams_out"])

    def forge(attackers: Attackers, end: float) -> int:
        began, before = time.monotonic(), sent()
        one = attackers.own(network.forger())
        count = 0
        while time.monotonic() < end:
            source = f"192.168.{count // 250 % 250}.{count % 250 + 1}", 5000
            text = f"/prove {generator.randrange(2**48):012x}\n" if count % 2 else "hello\n"
            one.sendto(forged(source, target, text.encode()), (OURS, 0))
            count += 1
            if count % 20 == 0:
                time.sleep(0.001)
        assert sent() - before <= 100 * (time.monotonic() - began + 1)
        return count

    reasons = {"target-chat: not a member": lambda n: n > 0, "target-chat: dropped by the kernel": several,
               "target-chat: kernel: EHOSTUNREACH": several}  # fmt: skip
    attacked(scene, "forged chat joins", "datagrams", forge, refused=reasons, memory=16)
    assert ALONE in members(scene)


def test_chat_code_reflected(scene: Scene, network: Network, other: Daemon) -> None:
    """An echo that returns the chat's own message does not join by it, and few messages are sent to it."""
    target = OURS, scene.daemon.port("target-chat", "udp")

    def sent() -> int:
        return int(scene.listener("target-chat", "udp")["datagrams_out"])

    def forge(attackers: Attackers, end: float) -> int:
        before = sent()
        one = attackers.own(network.forger())
        count = 0
        while time.monotonic() < end:
            one.sendto(forged((THEIRS, 7008), target, b"hello\n"), (OURS, 0))
            count += 1
            time.sleep(0.002)
        assert sent() - before <= 20
        return count

    attacked(
        scene,
        "chat's code reflected",
        "datagrams",
        forge,
        refused={"target-chat: not a member": lambda n: n > 0},
    )
    assert ALONE in members(scene)


def test_half_open_peers(scene: Scene, network: Network) -> None:
    """Peers that vanish are found out: the idle ones by keepalive, the others as they stall."""
    count = 500 if FULL else 50

    def gone(endpoint: str) -> bool:
        return int(scene.endpoint(endpoint)["connections"]) == 0

    def vanish(attackers: Attackers, end: float) -> int:
        for n in range(count):
            one = attackers.connect("brief" if n % 2 else "target", buffer=4096)
            if n % 2:
                one.setblocking(False)
                try:
                    while True:
                        one.send(bytes(65_536))
                except BlockingIOError:
                    pass
        until(lambda: scene.endpoint("target")["connections"] == count // 2, "all of them accepted")
        network.cut()
        try:
            for each in ("target", "brief"):
                until(partial(gone, each), f"{each}: they are given up")
        finally:
            network.repair()
        return count

    attacked(scene, "half-open peers", "connections", vanish, memory=16 + count // 2)
