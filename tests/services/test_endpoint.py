"""An endpoint's life: its service first, failures contained, limits exact, stops that end."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import LogLevel
from twisted.python.failure import Failure

from sockd.addresses import Address, Kind
from sockd.errors import SockdError
from sockd.metrics import End
from sockd.services.states import Cause, State
from tests.services.house import DELAY, MOST, Datagrams, House, Probes, Service
from tests.transports.loop import Probe, broken, echo

TCP = "tcp://127.0.0.1:0"
UDP = "udp://127.0.0.1:0"


def raising(error: Exception) -> Callable[[], Any]:
    """What a faulty service does at its start."""

    def fail() -> Any:
        raise error

    return fail


# -- start


def test_binding_is_not_serving(house: House) -> None:
    """Ports are bound while we may; nobody is accepted before the protocol was started."""
    probes = Probes()
    endpoint = house.endpoint(TCP, stream=probes)
    endpoint.bind()
    (listener,) = endpoint.listeners
    assert listener.address.port
    client = house.connect(listener.address, b"early")
    house.loop.settle()
    assert not probes.made
    assert not endpoint.running
    tried = endpoint.start()
    assert tried.called
    assert endpoint.running
    assert house.receive(client, 5) == b"early"


def test_service_comes_first(house: House) -> None:
    """While it starts, newcomers wait and nothing is read; the start is tried when it has."""
    starting: Deferred[None] = Deferred()
    service, probes, datagrams = Service(lambda: starting), Probes(), Datagrams()
    endpoint = house.endpoint(TCP, UDP, stream=probes, datagram=datagrams, service=service)
    endpoint.bind()
    tried = endpoint.start()
    stream, udp = (house.connect(listener.address, b"x") for listener in endpoint.listeners)
    house.loop.settle()
    assert endpoint.causes == {Cause.SERVICE_DOWN}
    assert not probes.made
    assert not datagrams.calls
    assert not tried.called
    starting.callback(None)
    assert tried.called
    assert house.receive(stream, 1) == house.receive(udp, 1) == b"x"
    assert not endpoint.causes
    assert endpoint.host.service is service
    assert probes.noisy is False


def test_protocol_that_cannot_be_built(house: House) -> None:
    """A specification that raises is its endpoint's failure; what was built is not built again."""
    calls: list[str] = []

    def service(host: Any) -> Service:
        calls.append("service")
        return Service()

    def stream(host: Any) -> Probes:
        calls.append("stream")
        if len(calls) < 4:
            raise ZeroDivisionError("a bug")
        return Probes()

    endpoint = house.run(TCP, stream=stream, service=service)
    assert endpoint.service.state is State.BACKING_OFF
    assert endpoint.service.why.startswith("ZeroDivisionError: a bug (")
    client = house.connect(endpoint.listeners[0].address, b"x")
    house.run_clock(lambda: endpoint.running)
    assert calls == ["service", "stream", "stream", "stream"]
    assert house.receive(client, 1) == b"x"


# -- a service that fails


def test_service_that_fails_at_start(house: House) -> None:
    """It is tried again with growing delays; who came meanwhile is served then."""
    trouble = raising(SockdError("the disk is full"))
    service, probes = Service(trouble, trouble, trouble), Probes()
    endpoint = house.run(TCP, stream=probes, service=service)
    client = house.connect(endpoint.listeners[0].address, b"x")
    took = house.run_clock(lambda: endpoint.running)
    assert took == pytest.approx(DELAY + 2 * DELAY + MOST, abs=0.2)
    assert service.started == 4
    assert house.receive(client, 1) == b"x"
    assert house.log.messages(LogLevel.warn) == ["lobby: service: the disk is full; next try in 1.0s"]


@pytest.mark.parametrize("kind", [TCP, UDP])
def test_service_that_fails_later(kind: str, house: House) -> None:
    """Its listeners are held: nothing is accepted and nothing read; afterwards they go on, nothing lost."""
    service, probes = Service(), Probes()
    endpoint = house.run(kind, stream=probes, datagram=Datagrams(), service=service)
    (listener,) = endpoint.listeners
    client = house.connect(listener.address, b"one")
    assert house.receive(client, 3) == b"one"
    endpoint.host.fail(OSError("no space left"))
    client.send(b"two")
    late = house.connect(listener.address, b"three")
    house.loop.settle()
    assert endpoint.causes == {Cause.SERVICE_DOWN}
    assert not house.loop.readers
    assert not any(probe.lost or probe.data == b"onetwo" for probe in probes.made)
    house.run_clock(lambda: endpoint.running)
    assert house.receive(client, 3) == b"two"
    assert house.receive(late, 5) == b"three"


def test_newcomers_of_a_held_endpoint(house: House) -> None:
    """One that was accepted in the moment of the failure is held like the others."""
    service, probes = Service(), Probes()
    endpoint = house.run(TCP, stream=probes, service=service)
    (listener,) = endpoint.listeners
    endpoint.host.fail(SockdError("down"))
    house.connect(listener.address, b"x")
    house.until(lambda: listener._acceptor.take_queued(1) or probes.made)  # type: ignore[union-attr]
    house.loop.settle()
    assert not probes.made[0].data
    house.run_clock(lambda: probes.made[0].data)


def test_service_that_fails_again_and_again(house: House) -> None:
    """A failure report while it is down anyway changes nothing."""
    service = Service()
    endpoint = house.run(TCP, stream=Probes(), service=service)
    for _ in range(5):
        endpoint.host.fail(SockdError("down"))
    assert len(house.log.messages(LogLevel.warn)) == 1
    house.run_clock(lambda: endpoint.running)
    assert service.started == 2


# -- listeners


def test_a_listeners_failure_is_its_own(house: House) -> None:
    """A busy port is tried for ever, and taken within `max_delay` of being free; the other one serves."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        busy = Address(Kind.TCP, "127.0.0.1", other.getsockname()[1])
        endpoint = house.run(busy, TCP, stream=Probes())
        assert endpoint.running
        assert [supervisor.state for supervisor in endpoint.supervisors] == [State.BACKING_OFF, State.RUNNING]
        assert house.receive(house.connect(endpoint.listeners[1].address, b"x"), 1) == b"x"
        house.loop.pump([0.5] * 100)
    assert house.run_clock(lambda: endpoint.supervisors[0].state is State.RUNNING) <= MOST + 0.1
    assert house.receive(house.connect(busy, b"y"), 1) == b"y"


def test_the_limit_is_the_endpoints(house: House, tmp_path: Path) -> None:
    """Exact over all listeners; who comes later waits, and is let in when one leaves."""
    probes = Probes()
    endpoint = house.run(TCP, f"unix://{tmp_path}/a.sock", stream=probes, connections=3)
    tcp, unix = (listener.address for listener in endpoint.listeners)
    clients = [house.connect(address, b"x") for address in (tcp, unix, tcp)]
    for client in clients:
        assert house.receive(client, 1) == b"x"
    assert endpoint.causes == {Cause.AT_LIMIT}
    late = [house.connect(address, b"y") for address in (tcp, unix)]
    house.loop.settle()
    assert len(endpoint.connections) == 3
    clients[0].send(b"still read")
    assert house.receive(clients[0], 10) == b"still read"
    clients[1].close()
    house.until(lambda: len(probes.made) == 4)
    house.loop.settle()
    assert len(endpoint.connections) == 3
    clients[0].close()
    clients[2].close()
    for client in late:
        assert house.receive(client, 1) == b"y"
    assert not endpoint.causes


def test_out_of_descriptors(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told once and counted; newcomers wait."""
    endpoint = house.run(TCP, stream=Probes())
    (listener,) = endpoint.listeners
    for _ in range(3):
        listener._short(OSError(24, "Too many open files"))
    assert house.log.messages(LogLevel.error) == [
        f"lobby: {listener.address} can't accept: Too many open files; newcomers wait"
    ]
    assert listener.counters.refused == {"out of file descriptors or memory": 3}


# -- required


def test_required_endpoint_gives_up(house: House) -> None:
    """After so long without running, once."""
    trouble = [raising(SockdError("no"))] * 100
    endpoint = house.run(TCP, stream=Probes(), service=Service(*trouble), give_up_after=20.0)
    assert house.run_clock(lambda: house.gave_up) == pytest.approx(20.0, abs=0.1)
    assert house.gave_up == [endpoint]


def test_required_endpoint_that_recovers(house: House) -> None:
    """Each time without running is counted from its own beginning."""
    service = Service()
    endpoint = house.run(TCP, stream=Probes(), service=service, give_up_after=DELAY * 1.5)
    for _ in range(10):
        endpoint.host.fail(SockdError("no"))
        house.run_clock(lambda: endpoint.running)
        house.loop.advance(MOST)
    assert not house.gave_up


def test_required_endpoint_without_a_listener(house: House) -> None:
    """It runs only where it can be reached; one of several addresses is enough."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        busy = Address(Kind.TCP, "127.0.0.1", other.getsockname()[1])
        reached = house.run(busy, TCP, stream=Probes(), give_up_after=5.0)
        unreached = house.run(busy, stream=Probes(), give_up_after=5.0)
        house.run_clock(lambda: house.gave_up)
        assert house.gave_up == [unreached]
        assert reached.running


def test_stopping_is_no_giving_up(house: House) -> None:
    """An endpoint that is being drained doesn't count as one that can't run."""
    endpoint = house.run(TCP, stream=Probes(), give_up_after=0.5)
    client = house.connect(endpoint.listeners[0].address, b"x")
    assert house.receive(client, 1) == b"x"
    draining = ensureDeferred(endpoint.drain())
    for server in endpoint.connections._servers:
        server.pauseProducing()
    house.loop.pump([0.1] * 20)
    assert not draining.called
    assert not house.gave_up


# -- faults of the protocol, on streams


def served(house: House, endpoint: Any) -> bool:
    """Whether the endpoint's first listener still echoes."""
    return house.receive(house.connect(endpoint.listeners[0].address, b"still here"), 10) == b"still here"


@pytest.mark.parametrize(
    ("make", "where"),
    [
        (lambda: Probe(echo, on_made=broken), "connectionMade"),
        (lambda: Probe(broken), "dataReceived"),
        (lambda: Probe(echo, on_lost=broken), "connectionLost"),
        (broken, "buildProtocol"),
    ],
)
def test_faults_of_one_connection(make: Callable[[], Any], where: str, house: House) -> None:
    """They cost that connection; another that is open, and the next one, know nothing of it."""
    probes = Probes()
    endpoint = house.run(TCP, stream=probes)
    (listener,) = endpoint.listeners
    steady = house.connect(listener.address, b"a")
    assert house.receive(steady, 1) == b"a"
    probes.built = make
    faulty = house.connect(listener.address, b"x")
    faulty.shutdown(socket.SHUT_WR)
    house.until(lambda: house.log.named("protocol failed"))
    house.receive(faulty, 100)
    probes.built = None
    (event,) = house.log.named("protocol failed")
    assert event["log_level"] is LogLevel.error
    assert event["where"] == where
    assert event["why"].startswith("ZeroDivisionError: a bug of a protocol (")
    assert isinstance(event["log_failure"], Failure)
    steady.send(b"b")
    assert house.receive(steady, 1) == b"b"
    assert served(house, endpoint)
    assert listener.counters.refused["protocol failed"] == (where == "buildProtocol")


def test_protocol_that_declines(house: House) -> None:
    """buildProtocol may return None: the connection is closed and counted."""
    probes = Probes()
    endpoint = house.run(TCP, stream=probes)
    probes.built = lambda: None
    assert house.receive(house.connect(endpoint.listeners[0].address, b""), 1) == b""
    assert endpoint.listeners[0].counters.refused == {"by the protocol": 1}
    assert len(endpoint.connections) == 0


def test_faults_are_told_at_a_bounded_rate(house: House) -> None:
    """A protocol that always raises fills no disk: once a second in full, the rest summarised."""
    probes = Probes(broken)
    endpoint = house.run(TCP, stream=probes)
    for _ in range(50):
        house.receive(house.connect(endpoint.listeners[0].address), 1)
    assert len(house.log.named("protocol failed")) == 1
    house.loop.advance(1.0)
    assert house.log.messages()[-1] == "lobby: within a second also: 49 x exception in buildProtocol"


# -- faults of the protocol, on datagrams


def test_fault_in_datagrams(house: House) -> None:
    """It costs the batch, nothing else."""
    datagrams = Datagrams("datagrams")
    endpoint = house.run(UDP, datagram=datagrams)
    (listener,) = endpoint.listeners
    house.connect(listener.address, b"x")
    house.until(lambda: "datagrams" in datagrams.calls)
    datagrams.faults.clear()
    assert served(house, endpoint)
    assert [event["where"] for event in house.log.named("protocol failed")] == ["datagrams"]
    assert endpoint.supervisors[0].restarts == 0


@pytest.mark.parametrize("where", ["start", "factory"])
def test_datagram_protocol_that_cannot_start(where: str, house: House) -> None:
    """That listener is closed and opened again later, the others serve."""
    made: list[Datagrams] = []

    def make(host: Any) -> Datagrams:
        made.append(Datagrams("start") if where == "start" and len(made) == 1 else Datagrams())
        if where == "factory" and len(made) == 2:
            raise ZeroDivisionError("a bug in factory")
        return made[-1]

    endpoint = house.run(UDP, UDP, datagram=make)
    house.loop.settle()
    assert [supervisor.state for supervisor in endpoint.supervisors] == [State.RUNNING, State.BACKING_OFF]
    assert endpoint.supervisors[1].why.startswith(f"ZeroDivisionError: a bug in {where} (")
    assert house.ports == {endpoint.listeners[0].address.port}
    assert served(house, endpoint)
    house.run_clock(lambda: endpoint.supervisors[1].state is State.RUNNING)
    assert len(house.ports) == 2


@pytest.mark.parametrize("where", ["drain", "stop"])
def test_datagram_protocol_that_cannot_end(where: str, house: House) -> None:
    """A fault at the end keeps no socket open."""
    datagrams = Datagrams(where)
    endpoint = house.run(UDP, datagram=datagrams)
    house.finish(endpoint.drain())
    assert datagrams.calls == ["start", "drain", "stop"]
    assert [event["where"] for event in house.log.named("protocol failed")] == [where]
    assert not house.ports


# -- the end


def test_drain_lets_connections_finish(house: House) -> None:
    """Who is queued is taken in; what was sent comes back; then each is told our FIN."""
    endpoint = house.run(TCP, stream=Probes())
    (listener,) = endpoint.listeners
    served_one = house.connect(listener.address, b"one")
    assert house.receive(served_one, 3) == b"one"
    served_one.send(b"two")
    queued = house.connect(listener.address, b"three")
    draining = ensureDeferred(endpoint.drain())
    assert house.receive(served_one, 3) == b"two"
    assert house.receive(queued, 5) == b"three"
    with pytest.raises(ConnectionRefusedError):
        house.connect(listener.address)
    house.run_clock(lambda: draining.called)
    assert served_one.recv(1) == queued.recv(1) == b""
    assert {event["end"] for event in house.log.named("connection ended")} == {End.DRAINED}


def test_drain_of_a_protocol_that_says_goodbye(house: House) -> None:
    """A protocol with `drain` is told; one that raises then loses its connection."""

    class Polite(Probe):
        def drain(self) -> None:
            self.transport.write(b"bye")
            self.transport.loseConnection()

    class Rude(Probe):
        def drain(self) -> None:
            raise ZeroDivisionError("a bug in drain")

    protocols: list[Probe] = [Polite(), Rude()]
    probes = Probes(lambda: protocols[endpoint.listeners[0].counters.accepted - 1])
    endpoint = house.run(TCP, stream=probes)
    clients = [house.connect(endpoint.listeners[0].address) for _ in range(2)]
    house.until(lambda: len(endpoint.connections) == 2)
    draining = ensureDeferred(endpoint.drain())
    assert house.receive(clients[0], 10) == b"bye"
    assert house.receive(clients[1], 10) == b""
    clients[0].close()
    house.run_clock(lambda: draining.called)
    assert sorted(event["end"] for event in house.log.named("connection ended")) == [End.DONE, End.FAILED]


def test_drain_of_a_lingering_connection(house: House) -> None:
    """One that already waits for the peer's FIN isn't told again."""
    drained = []

    class Leaving(Probe):
        def drain(self) -> None:
            drained.append(self)

    endpoint = house.run(TCP, stream=Probes(lambda: Leaving(lambda p, _: p.transport.loseConnection())))
    client = house.connect(endpoint.listeners[0].address, b"x")
    assert house.receive(client, 1) == b""
    took = house.finish(endpoint.drain())
    assert took.called
    assert not drained


def test_cut_ends_what_did_not_finish(house: House) -> None:
    """At the deadline."""
    endpoint = house.run(TCP, stream=Probes())
    client = house.connect(endpoint.listeners[0].address, b"x")
    assert house.receive(client, 1) == b"x"
    draining = ensureDeferred(endpoint.drain())
    endpoint.cut()
    house.loop.settle()
    assert draining.called
    assert [event["end"] for event in house.log.named("connection ended")] == [End.CUT]


def test_client_that_never_answers_our_fin(house: House) -> None:
    """A drain ends without it; the service is stopped all the same."""
    service = Service()
    endpoint = house.run(TCP, stream=Probes(), service=service)
    client = house.connect(endpoint.listeners[0].address, b"x")
    assert house.receive(client, 1) == b"x"

    async def stop() -> None:
        await endpoint.drain()
        await endpoint.stop()

    stopping = house.finish(stop())
    assert stopping.result is None
    assert service.stopped == 1


def test_drain_before_start(house: House) -> None:
    """A daemon that is stopped at once has bound and nothing more."""
    probes = Probes()
    endpoint = house.endpoint(TCP, UDP, stream=probes, datagram=Datagrams())
    endpoint.bind()
    house.connect(endpoint.listeners[0].address, b"x")
    house.finish(endpoint.drain())
    house.finish(endpoint.stop())
    assert not probes.made


@pytest.mark.parametrize("fail", [raising(SockdError("no")), Deferred])
def test_service_that_does_not_stop(fail: Callable[[], Any], house: House) -> None:
    """One that raises is told; one that never ends is cancelled."""
    service = Service()
    service.on_stop = fail
    endpoint = house.run(TCP, stream=Probes(), service=service)
    house.finish(endpoint.drain())
    stopping = ensureDeferred(endpoint.stop())
    stopping.addErrback(lambda _: None)
    stopping.cancel()
    assert stopping.called
    assert endpoint.service.state is State.STOPPED
    assert service.stopped == 1


def test_reopening(house: House) -> None:
    """A service that has files is asked; one that raises, or has none, is no trouble."""
    asked = []

    class WithFiles(Service):
        def reopen(self) -> None:
            asked.append(self)
            if len(asked) == 2:
                raise OSError("no such directory")

    endpoint = house.run(TCP, stream=Probes(), service=WithFiles())
    endpoint.reopen()
    endpoint.reopen()
    house.run(TCP, stream=Probes(), service=Service()).reopen()
    house.run(TCP, stream=Probes()).reopen()
    assert len(asked) == 2
    assert [event["where"] for event in house.log.named("protocol failed")] == ["reopen"]
