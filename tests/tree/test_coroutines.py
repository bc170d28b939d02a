"""`async def` where a Deferred may be returned, and where nobody would await it."""

import gc
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol

from sockd.protocols.contract import DatagramProtocol
from sockd.tree.states import State
from sockd.upgrade.freezing import freeze_service
from tests.tree.house import House, Service, raising

TCP, UDP = "tcp://127.0.0.1:0", "udp://127.0.0.1:0"


@pytest.fixture(autouse=True)
def never_awaited() -> Iterator[None]:
    """No coroutine is dropped without a word: Python would warn of it, and that is an error here."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        gc.collect()


class Slow:
    """A service whose methods are coroutines that wait for what the test lets happen."""

    def __init__(self) -> None:
        self.waits: dict[str, Deferred[Any]] = {}
        self.ended: list[str] = []

    async def _wait(self, name: str) -> Any:
        self.waits[name] = Deferred()
        try:
            return await self.waits[name]
        except CancelledError:
            self.ended.append(f"{name} cancelled")
            raise
        finally:
            self.ended.append(name)

    async def startService(self) -> None:
        await self._wait("start")

    async def stopService(self) -> None:
        await self._wait("stop")

    async def freeze(self) -> Any:
        return await self._wait("freeze")

    async def drain(self) -> None:
        await self._wait("drain")

    async def reopen(self) -> None:
        await self._wait("reopen")


def test_a_service(house: House) -> None:
    """Start, freeze and stop are waited for; drain and reopen are called, and report what they raise."""
    service = Slow()
    endpoint = house.run(TCP, stream=Factory.forProtocol(Protocol), service=lambda _: service)
    states = [endpoint.service.state]
    service.waits["start"].callback(None)
    states.append(endpoint.service.state)
    assert states == [State.STARTING, State.RUNNING]
    frozen = freeze_service(endpoint)
    found: list[Any] = []
    frozen.addCallback(found.append)
    service.waits["freeze"].callback({"a": 1})
    assert found == [{"a": 1}]
    endpoint.reopen()
    service.waits["reopen"].errback(ZeroDivisionError())
    assert [event["where"] for event in house.log.named("protocol failed")] == ["reopen"]
    assert endpoint.host.counters.refused["exception in reopen"] == 1


def test_they_are_cancelled(house: House) -> None:
    """Where a Deferred is: a start by a stop, and a stop by the end of its time."""
    service = Slow()
    endpoint = house.run(TCP, stream=Factory.forProtocol(Protocol), service=lambda _: service)
    stopping = Deferred.fromCoroutine(endpoint.stop())
    assert "start cancelled" in service.ended
    stopping.addErrback(lambda _: None)
    stopping.cancel()
    assert "stop cancelled" in service.ended


@pytest.mark.parametrize("name", ["dataReceived", "connectionMade", "connectionLost", "last_word"])
def test_a_connection(house: House, name: str) -> None:
    """A method of a connection's protocol that nobody awaits: it is refused, in words."""

    async def method(*_: object) -> None:
        raise AssertionError

    kind: Any = type("Hosted", (Protocol,), {name: method})
    endpoint = house.run(TCP, stream=Factory.forProtocol(kind))
    client = house.connect(endpoint.listeners[0].address, b"x")
    house.until(lambda: house.log.named("protocol failed"), client)
    (event,) = house.log.named("protocol failed")
    assert event["where"] == "buildProtocol"
    assert event["why"].startswith(f"Hosted.{name} is `async def`, and nobody awaits what it returns")


def test_a_factory(house: House) -> None:
    """Its buildProtocol, or a callable of the specification: the endpoint is held, with the reason."""

    class Building(Factory):
        async def buildProtocol(self, addr: object) -> None:  # type: ignore[override]
            raise AssertionError

    async def stream(_: object) -> None:
        raise AssertionError

    endpoint = house.run(TCP, stream=lambda _: Building())
    assert endpoint.service.why.startswith("test_a_factory.<locals>.Building.buildProtocol is `async def`")
    assert house.run(TCP, stream=stream).service.why.startswith("stream is `async def`")
    assert house.run(TCP, stream=Protocol, service=stream).service.why.startswith("service is `async def`")


def test_datagrams(house: House) -> None:
    """A datagram protocol: its address isn't served, with the reason."""

    class Hosted(DatagramProtocol):
        async def datagram(self, data: bytes, peer: object) -> None:  # type: ignore[override]
            raise AssertionError

    endpoint = house.run(UDP, datagram=lambda _: Hosted())
    house.run_clock(lambda: endpoint.supervisors[0].why)
    assert "Hosted.datagram is `async def`" in endpoint.supervisors[0].why


def test_reopen_that_raises(house: House) -> None:
    """A plain method's exception is reported as before."""
    service: Any = Service()
    service.reopen = raising(SystemExit("a bug"))
    endpoint = house.run(TCP, stream=Factory.forProtocol(Protocol), service=lambda _: service)
    endpoint.reopen()
    assert [event["where"] for event in house.log.named("protocol failed")] == ["reopen"]
