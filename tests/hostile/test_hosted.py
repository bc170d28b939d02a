"""Protocols of other packages at their worst: other endpoints don't notice, or the log says whose it was."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.harness import distribution
from tests.hostile.ordeal import attacked
from tests.hostile.scene import Attackers, Scene, until

pytestmark = pytest.mark.slow

MODULE = '''
"""Does what it is sent."""

import sys
import time

from twisted.internet.protocol import Factory, Protocol

from sockd.api import Options, Specification


class Poor:
    """Lacks every method that is looked for, and raises while it is."""

    def __getattr__(self, name):
        raise RuntimeError(name)


class Hosted(Protocol):
    def dataReceived(self, data):
        getattr(self, data.decode())()

    def connectionLost(self, reason):
        raise RuntimeError("connectionLost")

    def raises(self):
        raise RuntimeError("dataReceived")

    def lacks(self):
        self.transport.registerProducer(Poor(), True)
        self.transport.write(bytes(100_000))

    def blocks(self):
        time.sleep(0.3)

    def stops(self):
        from twisted.internet import reactor

        reactor.stop()

    def replaces(self):
        from twisted.internet import main

        del sys.modules["twisted.internet.reactor"]
        main.installReactor(object())

    def asks(self):
        """Has work that never ends, as it always asks for more."""
        self.factory.host.later(self.asks)


class HostedFactory(Factory):
    protocol = Hosted

    def __init__(self, host):
        self.host = host


specification = Specification(summary="does what it is sent", options=Options, stream=HostedFactory)
'''
ENDPOINTS = "  hosted: {{listen: tcp://{host}:0, protocol: hosted}}\n"
RAISED = {"hosted: exception in *": lambda n: n > 0}


@pytest.fixture(scope="module")
def hosting() -> Iterator[Scene]:
    """A daemon that hosts it next to the quiet endpoints."""
    path = Path(tempfile.mkdtemp(prefix="sockd-"))
    environment = distribution(path, "hosted", "hosted_protocol:specification", MODULE)
    scene = Scene(path, endpoints=ENDPOINTS, environment=environment)
    yield scene
    scene.close()
    shutil.rmtree(path)


def sent(attackers: Attackers, what: bytes, end: float) -> int:
    """Have connections do this, one after the other; each ends, or is left."""
    count = 0
    while time.monotonic() < end:
        one = attackers.connect("hosted")
        with contextlib.suppress(ConnectionError):
            one.sendall(what)
            one.settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                one.recv(65_536)
        one.close()
        count += 1
    return count


@pytest.mark.parametrize("what", ["raises", "lacks", "stops", "replaces"])
def test_what_costs_its_own_connection(hosting: Scene, what: str) -> None:
    """It raises in every method, hands over an object that lacks all of them, or takes the reactor."""
    attacked(
        hosting,
        f"hosted: {what}",
        "connections",
        lambda attackers, end: sent(attackers, what.encode(), end),
        refused=RAISED,
    )


def test_work_that_never_ends(hosting: Scene) -> None:
    """A protocol that has something to do in each turn has its slice of it, and no more."""

    def ask(attackers: Attackers, end: float) -> int:
        for _ in range(100):
            attackers.connect("hosted").sendall(b"asks")
        time.sleep(max(0.0, end - time.monotonic()))
        return 100

    attacked(hosting, "hosted: asks", "connections", ask, refused={"hosted: *": lambda n: n >= 0}, memory=64)


def test_a_protocol_that_blocks_is_named(hosting: Scene) -> None:
    """Everybody waits for it, which can't be helped; the log says for whom, how long and in which call."""

    def block(attackers: Attackers, end: float) -> int:
        count = 0
        while time.monotonic() < end or not count:
            attackers.connect("hosted").sendall(b"blocks")
            time.sleep(0.5)
            count += 1
        return count

    attacked(hosting, "hosted: blocks", "times", block, insist=False, refused={"hosted: *": lambda n: n >= 0})
    until(lambda: b"hosted: held the loop for 0.3" in hosting.daemon.output, "it is named")
    hold = hosting.ask("status")["longest_hold"]
    assert hold["endpoint"] == "hosted"
    assert "Hosted.blocks" in hold["call"]
