"""Whatever a third party's protocol raises, wherever it does: it stays there, is told, and is counted."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred, fail
from twisted.logger import LogLevel
from twisted.python.failure import Failure

from sockd.base.errors import SockdError
from sockd.base.metrics import End
from sockd.base.peers import Peer
from sockd.protocols.contract import DatagramProtocol
from sockd.transports.connection import Connection
from sockd.tree.endpoint import Endpoint
from sockd.tree.states import State
from tests.transports.datagrams.receivers import receivers
from tests.transports.loop import HalfProbe, Probe, broken, echo
from tests.tree.house import Datagrams, House, Probes, Service, ends, in_turn, raising

TCP = "tcp://127.0.0.1:0"
UDP = "udp://127.0.0.1:0"

# A library's cancellation and a call of sys.exit() are no Exceptions, but end nobody else either.
ERRORS = pytest.mark.parametrize(
    "error", [ZeroDivisionError, SystemExit, KeyboardInterrupt, asyncio.CancelledError]
)


def served(house: House, endpoint: Endpoint) -> bool:
    """Whether the endpoint's first listener still echoes."""
    return house.receive(house.connect(endpoint.listeners[0].address, b"still here"), 10) == b"still here"


def places(house: House) -> list[str]:
    """Where the log says that the protocol raised."""
    return [event["where"] for event in house.log.named("protocol failed")]


# -- streams


def faulty(where: str, error: type[BaseException]) -> Callable[[], Any]:
    """What builds protocols of which this method raises."""

    def build() -> Probe:
        probe = HalfProbe(on_data=echo) if where == "readConnectionLost" else Probe(echo)
        setattr(probe, where, raising(error("a bug of a protocol")))
        return probe

    return raising(error("a bug of a protocol")) if where == "buildProtocol" else build


@ERRORS
@pytest.mark.parametrize(
    ("where", "end"),
    [
        ("buildProtocol", End.FAILED),
        ("connectionMade", End.FAILED),
        ("dataReceived", End.FAILED),
        ("readConnectionLost", End.FAILED),
        ("connectionLost", End.PEER),
    ],
)
def test_faults_of_one_connection(where: str, end: End, error: type[BaseException], house: House) -> None:
    """They cost that connection; another that is open, and the next one, know nothing of it."""
    probes = Probes()
    endpoint = house.run(TCP, stream=probes)
    (listener,) = endpoint.listeners
    steady = house.connect(listener.address, b"a")
    assert house.receive(steady, 1) == b"a"
    probes.built = faulty(where, error)
    client = house.connect(listener.address, b"x")
    client.shutdown(socket.SHUT_WR)
    house.until(lambda: house.log.named("connection ended"))
    house.receive(client, 100)
    probes.built = None
    (event,) = house.log.named("protocol failed")
    assert event["log_level"] is LogLevel.error
    assert event["where"] == where
    assert "a bug of a protocol (" in event["why"]
    assert isinstance(event["log_failure"], Failure)
    assert ends(house) == [end]
    steady.send(b"b")
    assert house.receive(steady, 1) == b"b"
    assert served(house, endpoint)
    assert endpoint.host.counters.refused == {f"exception in {where}": 1}
    assert endpoint.supervisors[0].restarts == 0


@ERRORS
def test_fault_in_drain(error: type[BaseException], house: House) -> None:
    """A protocol that raises when it is told of the stop loses its connection; the drain completes."""
    built = in_turn(faulty("drain", error), lambda: Probe(echo))
    endpoint = house.run(TCP, stream=Probes(built))
    clients = [house.connect(endpoint.listeners[0].address, b"x") for _ in range(2)]
    for client in clients:
        assert house.receive(client, 1) == b"x"
    house.finish(endpoint.drain())
    assert places(house) == ["drain"]
    assert sorted(ends(house)) == [End.DRAINED, End.FAILED]
    assert endpoint.host.counters.refused == {"exception in drain": 1}


def test_protocol_that_declines(house: House) -> None:
    """buildProtocol may return None: the connection is closed, counted, and told like any other."""
    probes = Probes()
    endpoint = house.run(TCP, stream=probes)
    (listener,) = endpoint.listeners
    probes.built = lambda: None
    client = house.connect(listener.address)
    assert house.receive(client, 1) == b""
    assert listener.counters.refused == {"by the protocol": 1}
    assert len(endpoint.connections) == 0
    assert house.log.messages() == [
        "lobby: {}:{} on {}: refused by the protocol after 0.000s, 0 in, 0 out".format(
            *client.getsockname(), listener.address
        )
    ]


def test_each_connection_has_its_end(house: House) -> None:
    """As many ends are told as connections were accepted, whatever became of them."""
    builds: list[Callable[[], Any]] = [
        faulty("buildProtocol", SystemExit),
        lambda: None,
        faulty("connectionMade", ZeroDivisionError),
        lambda: Probe(on_made=lambda probe: probe.transport.loseConnection()),
        lambda: Probe(on_made=lambda probe: probe.transport.abortConnection()),
    ]
    endpoint = house.run(TCP, stream=Probes(in_turn(*builds)))
    (listener,) = endpoint.listeners
    for _ in builds:
        client = house.connect(listener.address)
        house.receive(client, 1)
        client.close()
        house.until(lambda: len(ends(house)) == listener.counters.accepted)
    assert ends(house) == [End.FAILED, End.REFUSED, End.FAILED, End.DONE, End.DONE]


def test_faults_are_told_at_a_bounded_rate(house: House) -> None:
    """A protocol that always raises fills no disk: once a second in full, the rest summarised."""
    endpoint = house.run(TCP, stream=Probes(broken))
    for _ in range(50):
        house.receive(house.connect(endpoint.listeners[0].address), 1)
    assert len(house.log.named("protocol failed")) == 1
    assert len(house.log.named("connection ended")) == 20
    house.loop.advance(1.0)
    assert house.log.messages()[-1] == (
        "lobby: within a second also: 49 x exception in buildProtocol, 30 x protocol failed"
    )
    assert endpoint.host.counters.refused == {"exception in buildProtocol": 50}


# -- datagrams


@ERRORS
def test_fault_in_datagrams(error: type[BaseException], house: House) -> None:
    """It costs the batch, nothing else."""
    datagrams = Datagrams("datagrams", error=error)
    endpoint = house.run(UDP, datagram=datagrams)
    house.connect(endpoint.listeners[0].address, b"x")
    house.until(lambda: "datagrams" in datagrams.calls)
    datagrams.faults.clear()
    assert served(house, endpoint)
    assert places(house) == ["datagrams"]
    assert endpoint.host.counters.refused == {"exception in datagrams": 1}
    assert endpoint.supervisors[0].restarts == 0


@ERRORS
def test_fault_in_one_datagram(error: type[BaseException], house: House) -> None:
    """It costs that datagram; what came with it is answered."""

    class OneByOne(DatagramProtocol):
        def datagram(self, data: bytes, peer: Peer) -> None:
            if data == b"bad":
                raise error("a bug in datagram")
            self.transport.send(data, peer)

    endpoint = house.run(UDP, datagram=OneByOne())
    client = house.connect(endpoint.listeners[0].address, b"one")
    for data in (b"bad", b"bad", b"two"):
        client.send(data)
    assert house.receive(client, 3) + house.receive(client, 3) == b"onetwo"
    assert places(house) == ["datagram"]
    assert endpoint.host.counters.refused == {"exception in datagram": 2}
    assert endpoint.supervisors[0].restarts == 0


@ERRORS
@pytest.mark.parametrize("again", [False, True], ids=["when it serves", "when it is opened"])
@pytest.mark.parametrize("where", ["start", "factory"])
def test_datagram_protocol_that_cannot_start(
    where: str, again: bool, error: type[BaseException], house: House
) -> None:
    """That listener is closed and opened again later, the others serve."""
    made: list[Datagrams] = []
    faults = 1 + again

    def make(host: Any) -> Datagrams:
        bad = 2 <= len(made) + 1 <= 1 + faults
        made.append(Datagrams("start", error=error) if bad and where == "start" else Datagrams())
        if bad and where == "factory":
            raise error("a bug in factory")
        return made[-1]

    endpoint = house.run(UDP, UDP, datagram=make)
    house.loop.settle()
    for tries in range(faults):
        seen = 2 + tries
        house.run_clock(lambda seen=seen: len(made) == seen)  # type: ignore[misc]
        house.loop.settle()
        assert [supervisor.state for supervisor in endpoint.supervisors] == [State.RUNNING, State.BACKING_OFF]
        assert endpoint.supervisors[1].why.split(" (")[0].endswith(f"{error.__name__}: a bug in {where}")
        assert set(house.ports) == {endpoint.listeners[0].address.port}
        assert served(house, endpoint)
    house.run_clock(lambda: endpoint.supervisors[1].state is State.RUNNING)
    assert len(house.ports) == 2
    assert made[-1].calls == ["start"]


@ERRORS
@pytest.mark.parametrize("where", ["drain", "stop"])
def test_datagram_protocol_that_cannot_end(where: str, error: type[BaseException], house: House) -> None:
    """A fault at the end keeps no socket open."""
    datagrams = Datagrams(where, error=error)
    endpoint = house.run(UDP, datagram=datagrams)
    house.finish(endpoint.drain())
    assert datagrams.calls == ["start", "drain", "stop"]
    assert places(house) == [where]
    assert endpoint.host.counters.refused == {f"exception in {where}": 1}
    assert not house.ports


# -- the service


@ERRORS
@pytest.mark.parametrize("how", [raising, fail], ids=["raises", "fires"])
def test_fault_in_the_start_of_a_service(how: Any, error: type[BaseException], house: House) -> None:
    """It is started again; who came meanwhile is served then."""
    trouble = error("a bug in startService")
    start = raising(trouble) if how is raising else lambda: fail(trouble)
    endpoint = house.run(TCP, stream=Probes(), service=Service(start))
    client = house.connect(endpoint.listeners[0].address, b"x")
    house.loop.settle()
    assert endpoint.service.state is State.BACKING_OFF
    assert f"{error.__name__}: a bug in startService" in endpoint.service.why
    house.run_clock(lambda: endpoint.running)
    assert house.receive(client, 1) == b"x"


@ERRORS
@pytest.mark.parametrize("how", [raising, fail], ids=["raises", "fires"])
def test_fault_in_the_stop_of_a_service(how: Any, error: type[BaseException], house: House) -> None:
    """It is told, and the stop is over."""
    trouble = error("a bug in stopService")
    service = Service()
    service.on_stop = raising(trouble) if how is raising else lambda: fail(trouble)
    endpoint = house.run(TCP, stream=Probes(), service=service)
    house.finish(endpoint.drain())
    stopping = house.finish(endpoint.stop())
    assert stopping.result is None
    assert endpoint.service.state is State.STOPPED
    (message,) = house.log.messages(LogLevel.error)
    assert message.startswith("lobby: service failed to stop: ")
    assert f"{error.__name__}: a bug in stopService" in message


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_factory_whose_stop_raises(error: type[BaseException], house: House) -> None:
    """The service's own stop is awaited all the same; then the fault is told."""

    class Rude(Probes):
        def stopFactory(self) -> None:
            raise error("a bug in stopFactory")

    ending: Deferred[None] = Deferred()
    service = Service()
    service.on_stop = lambda: ending
    endpoint = house.run(TCP, stream=Rude(), service=service)
    house.finish(endpoint.drain())
    stopping = ensureDeferred(endpoint.stop())
    house.loop.settle()
    assert service.stopped == 1
    assert not stopping.called
    ending.callback(None)
    assert stopping.called
    (message,) = house.log.messages(LogLevel.error)
    assert message.startswith(f"lobby: service failed to stop: {error.__name__}: a bug in stopFactory (")


def test_factory_is_stopped_though_its_service_fails(house: House) -> None:
    """A service that can't stop keeps the factory from nothing."""
    probes, service = Probes(), Service()
    service.on_stop = raising(SockdError("no"))
    endpoint = house.run(TCP, stream=probes, service=service)
    assert probes.numPorts == 1
    house.finish(endpoint.drain())
    house.finish(endpoint.stop())
    assert probes.numPorts == 0


@ERRORS
def test_fault_in_reopening(error: type[BaseException], house: House) -> None:
    """Files that can't be opened anew are that service's trouble."""

    class WithFiles(Service):
        reopen = staticmethod(raising(error("a bug in reopen")))

    endpoint = house.run(TCP, stream=Probes(), service=WithFiles())
    endpoint.reopen()
    assert places(house) == ["reopen"]
    assert served(house, endpoint)


# -- what escapes


def test_what_escapes_from_an_acceptor(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours or not: the reactor lets go of the listener then, which is opened again."""
    house.loop.forgiving = True
    endpoint = house.run(TCP, stream=Probes())
    (listener,), (supervisor,) = endpoint.listeners, endpoint.supervisors
    steady = house.connect(listener.address, b"a")
    assert house.receive(steady, 1) == b"a"

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "__init__", raising(ZeroDivisionError("a bug of ours")))
        for _ in range(3):
            house.connect(listener.address)
        house.until(lambda: supervisor.state is State.BACKING_OFF)
    assert supervisor.why.startswith("ZeroDivisionError: a bug of ours (")
    house.run_clock(lambda: endpoint.running)
    steady.send(b"b")
    assert house.receive(steady, 1) == b"b"
    assert served(house, endpoint)
    assert supervisor.restarts == 1


def test_what_escapes_from_a_datagram_port(house: House) -> None:
    """The same; the protocol is told that its socket is closed, and a new one gets the new socket."""
    house.loop.forgiving = True
    made: list[Datagrams] = []

    def make(host: Any) -> Datagrams:
        made.append(Datagrams())
        return made[-1]

    with receivers() as sources:
        endpoint = house.run(UDP, datagram=make)
    (listener,), (supervisor,) = endpoint.listeners, endpoint.supervisors
    sources[0].receive = raising(ZeroDivisionError("a bug of ours"))
    house.connect(listener.address, b"x")
    house.until(lambda: supervisor.state is State.BACKING_OFF)
    assert supervisor.why.startswith("ZeroDivisionError: a bug of ours (")
    assert [one.calls for one in made] == [["start", "stop"]]
    assert not house.ports
    house.run_clock(lambda: endpoint.running)
    assert served(house, endpoint)
    assert made[1].calls == ["start", "datagrams"]


# -- what is missing


class Bare:
    """A datagram protocol that is not derived from ours, and has only what it needs."""

    def start(self, transport: Any) -> None:
        self.transport = transport

    def datagrams(self, batch: Any) -> None:
        for data, peer in batch:
            self.transport.send(data, peer)


def test_a_datagram_protocol_without_an_end(house: House) -> None:
    """It is neither told of a drain nor of the end, and nothing is wrong with that."""
    endpoint = house.run(UDP, datagram=lambda _: Bare())
    assert served(house, endpoint)
    house.finish(endpoint.drain())
    house.finish(endpoint.stop())
    assert not places(house)


@pytest.mark.parametrize("what", ["startService", "stopService"])
def test_a_service_without_a_method(house: House, what: str) -> None:
    """It can't be started, or not be stopped: its endpoint says so, and ends."""
    methods = {"startService": lambda _: None, "stopService": lambda _: None}
    del methods[what]
    endpoint = house.run(TCP, stream=Probes(), service=lambda _: type("Half", (), methods)())
    house.finish(endpoint.drain())
    house.finish(endpoint.stop())
    assert f"no attribute '{what}'" in endpoint.service.why


@ERRORS
@pytest.mark.parametrize("later", [True, False])
def test_fault_in_a_drain_that_takes_time(later: bool, error: type[BaseException], house: House) -> None:
    """A `drain` that is a coroutine, or returns a Deferred, may fail later: that costs its connection."""
    begun: Deferred[None] = Deferred()

    class Slow(Probe):
        async def drain(self) -> None:
            await begun
            raise error("a bug of a protocol")

    class Failing(Probe):
        def drain(self) -> Deferred[None]:
            return begun

    endpoint = house.run(TCP, stream=Probes(Slow if later else Failing))
    house.connect(endpoint.listeners[0].address)
    house.until(lambda: len(endpoint.connections))
    draining = ensureDeferred(endpoint.drain())
    house.loop.pump([0.1] * 20)
    assert not draining.called
    if later:
        begun.callback(None)
    else:
        begun.errback(error("a bug of a protocol"))
    house.run_clock(lambda: draining.called)
    assert ends(house) == [End.FAILED]
    assert places(house) == ["drain"]
