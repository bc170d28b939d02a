"""Which endpoint an event belongs to, by the frames of a call that was made for it."""

import inspect
from types import FrameType
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol

from sockd.protocols.contract import DatagramProtocol
from sockd.tree.blame import Culprit, culprit
from tests.daemons import Daemons, Running
from tests.tree.house import House

TCP, UDP = "tcp://127.0.0.1:0", "udp://127.0.0.1:0"


class Seen:
    """What is blamed for the calls of a hosted protocol."""

    def __init__(self) -> None:
        self.found: list[Culprit] = []
        self.running: Running | None = None

    def look(self) -> None:
        assert self.running is not None
        frames: list[FrameType] = []
        frame: FrameType | None = inspect.currentframe()
        # Down to what stands for the reactor here.
        while frame is not None and not frame.f_code.co_filename.endswith(
            ("loop.py", "task.py", "daemons.py")
        ):
            frames.insert(0, frame)
            frame = frame.f_back
        self.found.append(culprit(frames, self.running.daemon.everywhere))


def hosted(seen: Seen) -> Any:
    """The factory of a protocol that holds the loop in several ways."""

    class Hosted(Protocol):
        def dataReceived(self, data: bytes) -> None:
            assert seen.running is not None
            clock = seen.running.house.loop
            if data == b"now":
                seen.look()
            elif data == b"later":
                clock.callLater(0, self.late)
            else:
                waiting: Deferred[None] = Deferred()
                waiting.addCallback(lambda _: seen.look())
                clock.callLater(0, waiting.callback, None)

        def late(self) -> None:
            seen.look()

    return lambda _host: Factory.forProtocol(Hosted)


@pytest.mark.parametrize(
    ("sent", "endpoint", "call"),
    [
        (b"now", "web", "Hosted.dataReceived"),
        (b"later", "web", "Hosted.late"),
        (b"deferred", "web or other", "Hosted.dataReceived.<locals>.<lambda>"),
    ],
)
def test_a_connection(house: House, run: Daemons, sent: bytes, endpoint: str, call: str) -> None:
    """Also where a timer has called the protocol, if that knows its transport; else its package is known."""
    seen = Seen()
    stream = hosted(seen)
    running = seen.running = run(
        house.plan(TCP, stream=stream, name="web"), house.plan(TCP, stream=stream, name="other")
    ).start()
    client = running.house.connect(running.address(0), sent)
    running.house.until(lambda: seen.found, client)
    (found,) = seen.found
    assert found.endpoint == endpoint
    assert call in found.call
    assert "test_blame.py:" in found.call


def test_a_datagram(house: House, run: Daemons) -> None:
    """The port that received it tells the endpoint."""
    seen = Seen()

    class Hosted(DatagramProtocol):
        def datagram(self, data: bytes, peer: object) -> None:
            seen.look()

    running = seen.running = run(house.plan(UDP, datagram=lambda _: Hosted(), name="syslog")).start()
    running.house.until(lambda: seen.found, running.house.connect(running.address(0), b"x"))
    assert seen.found[0].endpoint == "syslog"
    assert "Hosted.datagram" in seen.found[0].call


def test_a_service_that_starts(house: House, run: Daemons) -> None:
    """What a service does before it returns is its endpoint's."""
    seen = Seen()

    class Service:
        def startService(self) -> None:
            seen.look()

        def stopService(self) -> None:
            """Ends."""

    seen.running = run(house.plan(TCP, stream=hosted(seen), service=lambda _: Service(), name="web"))
    seen.running.start()
    assert seen.found[0].endpoint == "web"
    assert "startService" in seen.found[0].call
