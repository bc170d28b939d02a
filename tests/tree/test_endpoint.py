"""An endpoint's life: its service first, failures contained, limits exact, stops that end."""

import errno
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import LogLevel

from sockd.base.addresses import Address, Kind
from sockd.base.errors import SockdError
from sockd.base.metrics import End
from sockd.transports.acceptor import SHORTAGE_PAUSE
from sockd.tree.states import Cause, State
from tests.transports.loop import Probe, echo
from tests.tree.house import DELAY, MOST, Datagrams, House, Probes, Service, connected, in_turn, raising

TCP = "tcp://127.0.0.1:0"
UDP = "udp://127.0.0.1:0"


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
    acceptor: Any = listener.descriptor
    endpoint.host.fail(SockdError("down"))
    house.connect(listener.address, b"x")
    house.until(lambda: acceptor.take_queued(1) or probes.made)
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
    """It is counted, and told once a minute for as long as it lasts; newcomers wait, and are served then."""
    probes = Probes()
    endpoint = house.run(TCP, stream=probes)
    (listener,) = endpoint.listeners
    backlog = "new connections wait in the kernel's backlog"
    told = [f"lobby: {listener.address} can't accept: Too many open files; {backlog}"]
    client = house.connect(listener.address, b"x")
    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "accept", raising(OSError(errno.EMFILE, "Too many open files")))
        house.until(lambda: listener.counters.refused)
        assert house.log.messages(LogLevel.error) == told
        for _ in range(119):
            house.loop.advance(SHORTAGE_PAUSE)
            house.loop.turn()
        assert house.log.messages(LogLevel.error) == told
        for _ in range(2):
            house.loop.advance(SHORTAGE_PAUSE)
            house.loop.turn()
        assert house.log.messages(LogLevel.error) == told * 2
    assert listener.counters.refused == {"accepting failed": 122}
    assert not probes.made
    house.loop.advance(SHORTAGE_PAUSE)
    assert house.receive(client, 1) == b"x"


def test_the_limit_is_told(house: House) -> None:
    """That newcomers wait is news, but once a minute at most."""
    endpoint = house.run(TCP, stream=Probes(), connections=2)
    (listener,) = endpoint.listeners
    staying = house.connect(listener.address, b"x")
    assert house.receive(staying, 1) == b"x"
    assert not house.log.named("at limit")
    for told in (1, 2):
        for _ in range(10):
            client = house.connect(listener.address, b"x")
            assert house.receive(client, 1) == b"x"
            client.close()
            house.until(lambda: len(endpoint.connections) == 1)
        assert (
            house.log.messages(LogLevel.warn)
            == ["lobby: at its limit of 2 connections; new connections wait in the kernel's backlog"] * told
        )
        house.loop.advance(60.0)


# -- required


def test_required_endpoint_gives_up(house: House) -> None:
    """After so long without running, once."""
    trouble = [raising(SockdError("no"))] * 100
    endpoint = house.run(TCP, stream=Probes(), service=Service(*trouble), give_up_after=20.0)
    assert house.run_clock(lambda: house.gave_up) == pytest.approx(20.0, abs=0.1)
    assert house.gave_up == [endpoint]


def test_required_endpoint_that_recovers(house: House) -> None:
    """Once it stayed up, each time without running is counted from its own beginning."""
    service = Service()
    endpoint = house.run(TCP, stream=Probes(), service=service, give_up_after=DELAY * 1.5)
    for _ in range(10):
        endpoint.host.fail(SockdError("no"))
        house.run_clock(lambda: endpoint.running)
        house.loop.advance(MOST)
    assert not house.gave_up


def test_required_service_that_flaps(house: House) -> None:
    """One that starts each time, only to fail a little later, doesn't run."""

    def fall() -> None:
        house.loop.callLater(DELAY / 2, lambda: endpoint.host.fail(SockdError("no")))

    endpoint = house.run(TCP, stream=Probes(), service=Service(*[fall] * 100), give_up_after=20.0)
    took = house.run_clock(lambda: house.gave_up)
    assert 20.0 <= took <= 20.0 + DELAY
    assert house.gave_up == [endpoint]
    assert endpoint.service.restarts > 3
    house.run_clock(lambda: endpoint.service.state is State.BACKING_OFF)


def test_required_datagram_protocol_that_cannot_be_made(house: House) -> None:
    """An address that opens each time, only to find no protocol, can't be reached."""
    endpoint = house.run(UDP, datagram=raising(SockdError("no")), give_up_after=20.0)
    assert house.run_clock(lambda: house.gave_up) == pytest.approx(20.0, abs=0.1)
    assert house.gave_up == [endpoint]
    assert endpoint.supervisors[0].restarts > 3
    assert not house.log.named("recovered")


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
    for server in endpoint.connections:
        server.pauseProducing()
    house.loop.pump([0.1] * 20)
    assert not draining.called
    assert not house.gave_up


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
    assert sorted(event["end"] for event in house.log.named("connection ended")) == [
        End.DRAINED,
        End.FAILED,
    ]


def test_drain_of_a_protocol_that_takes_its_time(house: House) -> None:
    """One with `drain` says itself when it has finished; silence meanwhile is no sign of that."""

    class Slow(Probe):
        def drain(self) -> None:
            house.loop.callLater(5.0, self.finish)

        def finish(self) -> None:
            self.transport.write(b"the answer")
            self.transport.loseConnection()

    endpoint = house.run(TCP, stream=Probes(in_turn(Slow, lambda: Probe(echo))), idle=0.5)
    (listener,) = endpoint.listeners
    clients = [house.connect(listener.address), house.connect(listener.address, b"x")]
    assert house.receive(clients[1], 1) == b"x"
    draining = ensureDeferred(endpoint.drain())
    took = house.run_clock(lambda: len(endpoint.connections) == 1)
    assert took < 2.0  # the one without
    assert [event["end"] for event in house.log.named("connection ended")] == [End.DRAINED]
    assert house.run_clock(lambda: draining.called) == pytest.approx(5.0 - took + 1.0, abs=0.2)
    assert house.receive(clients[0], 100) == b"the answer"
    assert [event["end"] for event in house.log.named("connection ended")] == [End.DRAINED] * 2


def test_draining_is_a_cause(house: House) -> None:
    """From the first moment of a drain on no listener accepts, whatever happens meanwhile."""
    seen: list[tuple[frozenset[Cause], bool]] = []

    class Watching(Datagrams):
        def drain(self) -> None:
            seen.append((endpoint.causes, acceptor in house.loop.readers))
            endpoint.host.fail(SockdError("just now"))
            seen.append((endpoint.causes, acceptor in house.loop.readers))

    endpoint = house.run(TCP, UDP, stream=Probes(), datagram=Watching(), service=Service())
    acceptor = endpoint.listeners[0].descriptor
    assert acceptor in house.loop.readers
    client = house.connect(endpoint.listeners[0].address, b"x")
    assert house.receive(client, 1) == b"x"
    draining = ensureDeferred(endpoint.drain())
    draining_only = frozenset({Cause.DRAINING})
    assert seen == [(draining_only, False), (draining_only | {Cause.SERVICE_DOWN}, False)]
    house.run_clock(lambda: endpoint.service.state is State.RUNNING)
    assert endpoint.causes == {Cause.DRAINING}
    house.run_clock(lambda: draining.called)
    assert endpoint.causes == {Cause.DRAINING}


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


def test_service_hears_of_the_drain(house: House) -> None:
    """First of all, so that it can say what it still has to do."""
    heard: list[int] = []

    class Told(Service):
        def drain(self) -> None:
            heard.append(len(endpoint.connections))

    endpoint = house.run(TCP, stream=Probes(), service=Told())
    client = house.connect(endpoint.listeners[0].address, b"x")
    assert house.receive(client, 1) == b"x"
    house.finish(endpoint.drain())
    assert heard == [1]


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


def test_a_service_that_hangs_is_a_state_and_holds_nobody(house: House) -> None:
    """Its peers are served as far as the protocol takes them; `required` counts it as not running."""
    endpoint = house.run(
        TCP, UDP, stream=Probes(), datagram=Datagrams(), service=Service(), give_up_after=20.0
    )
    house.run_clock(lambda: house.loop.seconds() > 100.0)
    endpoint.host.hangs("the disk doesn't answer")
    assert (endpoint.service.state, endpoint.service.why) == (State.HANGING, "the disk doesn't answer")
    assert (endpoint.running, endpoint.causes) == (False, frozenset())
    connected(house, endpoint)
    endpoint.host.hangs("")
    assert endpoint.running
    endpoint.host.hangs("the disk doesn't answer")
    assert house.run_clock(lambda: house.gave_up) == pytest.approx(20.0, abs=0.1)
