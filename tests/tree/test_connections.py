"""The connections of an endpoint: swept when idle or stalled, counted, and told of at their end."""

import socket
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sockd.base.errors import SockdError
from sockd.base.metrics import End
from sockd.tree.endpoint import Endpoint
from sockd.tree.states import Cause, State
from tests.transports.loop import HalfProbe, Probe, echo
from tests.tree.house import DELAY, STEP, House, Probes, Service, connected, ends, raising

TCP = "tcp://127.0.0.1:0"


@pytest.mark.parametrize("before", [0.0, STEP, 0.3, 0.9])
@pytest.mark.parametrize("idle", [1.0, 8.0, 60.5])
def test_idle_connections_are_closed(idle: float, before: float, house: House) -> None:
    """After `idle` of silence, at most an eighth of it and two seconds late; one that speaks stays."""
    endpoint = house.run(TCP, stream=Probes(), idle=idle)
    speaking = connected(house, endpoint)
    house.loop.pump([STEP] * round(before / STEP))  # so that its time begins between two sweeps
    silent = connected(house, endpoint)

    def silent_one_ended() -> bool:
        if round(house.loop.seconds() / STEP) % round(idle / 8 / STEP) == 0:
            speaking.send(b".")
        return bool(house.log.named("connection ended"))

    took = house.run_clock(silent_one_ended)
    assert idle <= took + STEP / 2
    assert took <= idle + min(idle / 8, 2.0) + STEP
    assert ends(house) == [End.IDLE]
    assert silent.recv(1) == b""
    assert len(endpoint.connections) == 1


def test_a_stopped_process_does_not_take_its_peers_for_silent(house: House) -> None:
    """What came while it was stopped (SIGSTOP, a suspended machine) is read before anybody is called idle."""
    endpoint = house.run(TCP, stream=Probes(), idle=4.0)
    client = connected(house, endpoint)
    client.send(b"y")
    house.loop.advance(60)
    assert house.receive(client, 1) == b"y"
    house.loop.settle()
    assert len(endpoint.connections) == 1
    house.run_clock(lambda: not len(endpoint.connections))
    assert ends(house) == [End.IDLE]


def test_silent_connection_is_told_by_a_fin(house: House) -> None:
    """It gets what it is owed and a FIN, not a RST; nobody waits for its answer."""
    endpoint = house.run(TCP, stream=Probes(), idle=1.0)
    client = connected(house, endpoint)
    ended = house.run_clock(lambda: not len(endpoint.connections))
    assert ended == pytest.approx(1.0, abs=0.3)
    assert client.recv(1) == b""
    assert ends(house) == [End.IDLE]


def test_stalled_connections_are_cut(house: House) -> None:
    """One that takes nothing of what it is owed."""
    endpoint = house.run(TCP, stream=Probes(), stall=4.0)
    client = house.connect(endpoint.listeners[0].address)
    house.until(lambda: endpoint.connections)
    (server,) = endpoint.connections
    while not server.unsent:
        server.write(bytes(1 << 20))
        house.loop.turn()
    assert house.run_clock(lambda: house.log.named("connection ended")) == pytest.approx(4.0, abs=1.0)
    assert ends(house) == [End.STALLED]
    assert len(house.receive(client, 1)) == 1


def test_without_limits_nothing_is_closed(house: House) -> None:
    """`off` is for ever."""
    endpoint = house.run(TCP, stream=Probes(), idle=None, stall=None)
    client = connected(house, endpoint)
    house.loop.pump([2.0] * 1000)
    client.send(b"y")
    assert house.receive(client, 1) == b"y"


def test_sweeping_stops_with_the_last_connection(house: House) -> None:
    """An endpoint that nobody uses costs nothing."""
    endpoint = house.run(TCP, stream=Probes(), idle=1.0)
    assert not house.loop.getDelayedCalls()
    connected(house, endpoint).close()
    assert house.loop.getDelayedCalls()
    house.run_clock(lambda: not house.loop.getDelayedCalls())
    connected(house, endpoint)
    assert house.loop.getDelayedCalls()


def test_closing_that_a_producer_holds_up_is_cut(house: House) -> None:
    """A protocol that closes but never unregisters its producer doesn't keep its connection for ever."""

    class Pull:
        def resumeProducing(self) -> None: ...
        def stopProducing(self) -> None: ...

    def lose(protocol: Probe, data: bytes) -> None:
        protocol.transport.registerProducer(Pull(), False)
        protocol.transport.loseConnection()

    endpoint = house.run(TCP, stream=Probes(lambda: Probe(lose)), idle=1.0)
    house.connect(endpoint.listeners[0].address, b"x")
    house.until(lambda: len(endpoint.connections))
    house.run_clock(lambda: not len(endpoint.connections))
    assert ends(house) == [End.IDLE]


def test_half_closed_connection_is_idle_too(house: House) -> None:
    """One whose peer has finished sending, and whose protocol then does nothing, isn't kept for ever."""
    endpoint = house.run(TCP, stream=Probes(HalfProbe), idle=4.0)
    client = house.connect(endpoint.listeners[0].address, b"x")
    client.shutdown(socket.SHUT_WR)
    house.until(lambda: len(endpoint.connections))
    assert house.run_clock(lambda: not len(endpoint.connections)) == pytest.approx(4.0, abs=1.1)
    assert ends(house) == [End.IDLE]
    assert client.recv(1) == b""


# -- held


def down(house: House, kind: str, **plan: Any) -> tuple[Endpoint, socket.socket]:
    """An endpoint whose service went down after a client had been served, and that client."""
    service = Service()
    endpoint = house.run(kind, stream=Probes(), service=service, **plan)
    client = connected(house, endpoint)
    service.then = [raising(SockdError("the disk is full"))] * 3
    endpoint.host.fail(SockdError("the disk is full"))
    return endpoint, client


def kinds(tmp_path: Path) -> tuple[str, str]:
    return TCP, f"unix://{tmp_path}/a.sock"


@pytest.mark.parametrize("kind", [0, 1], ids=["tcp", "unix"])
def test_who_leaves_while_held_gives_its_place_free(kind: int, house: House, tmp_path: Path) -> None:
    """Nothing is read from it, and yet its end is noticed."""
    endpoint, client = down(house, kinds(tmp_path)[kind], connections=1)
    house.loop.pump([0.5] * 4)
    assert len(endpoint.connections) == 1
    client.close()
    house.run_clock(lambda: not len(endpoint.connections))
    assert ends(house) == [End.PEER]
    assert endpoint.causes == {Cause.SERVICE_DOWN}


def test_who_resets_while_held_gives_its_place_free(house: House) -> None:
    """The same of a connection that broke."""
    endpoint, client = down(house, TCP)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    house.run_clock(lambda: not len(endpoint.connections))
    assert ends(house) == [End.RESET]
    assert endpoint.service.state is State.BACKING_OFF


@pytest.mark.parametrize("kind", [0, 1], ids=["tcp", "unix"])
def test_who_leaves_something_while_held(kind: int, house: House, tmp_path: Path) -> None:
    """What it left is read when the service is back; its place is kept until then."""
    endpoint, client = down(house, kinds(tmp_path)[kind])
    (server,) = endpoint.connections
    protocol = server.protocol
    client.send(b"last words")
    client.close()
    house.run_clock(lambda: endpoint.service.state is State.RUNNING)
    assert house.loop.seconds() > DELAY * 3
    assert len(endpoint.connections) == 1
    house.until(lambda: not len(endpoint.connections))
    assert protocol.data == b"xlast words"
    assert ends(house) == [End.PEER]


# -- the log


def test_end_is_told_once_with_everything(house: House) -> None:
    """Endpoint, listener, peer, how long, bytes each way, and why."""
    endpoint = house.run(TCP, stream=Probes())
    client = connected(house, endpoint)
    peer = "{}:{}".format(*client.getsockname())
    house.loop.advance(1.5)
    client.close()
    house.until(lambda: house.log.named("connection ended"))
    address = endpoint.listeners[0].address
    assert house.log.messages() == [f"lobby: {peer} on {address}: peer closed after 1.500s, 1 in, 1 out"]
    (event,) = house.log.named("connection ended")
    assert (event["bytes_in"], event["bytes_out"], event["seconds"]) == (1, 1, 1.5)


def test_bytes_that_the_protocol_did_not_get_are_logged(house: House) -> None:
    """What came after the end was certain, with the connection and for the listener."""
    endpoint = house.run(TCP, stream=Probes())
    client = connected(house, endpoint)
    (server,) = endpoint.connections
    server.close(End.DONE)
    house.until(lambda: server.lingering)
    client.send(b"too late")
    house.until(lambda: server.dropped)
    client.close()
    house.until(lambda: house.log.named("connection ended"))
    (event,) = house.log.named("connection ended")
    assert event["dropped"] == 8
    assert house.log.messages()[0].endswith("1 in, 1 out, 8 bytes dropped")
    assert endpoint.listeners[0].counters.dropped == {"done": 8}


def test_many_ends_are_summarised(house: House) -> None:
    """Above a rate by reason, a second's worth in one line; what was held back is told at the stop too."""
    endpoint = house.run(TCP, stream=Probes())
    for _ in range(50):
        connected(house, endpoint).close()
        house.until(lambda: not len(endpoint.connections))
    assert len(house.log.named("connection ended")) == 20
    house.loop.advance(1.0)
    (summary,) = house.log.named("connections ended")
    assert summary["ends"] == {"peer closed": 30}
    assert house.log.messages()[-1] == "lobby: within a second also: 30 x peer closed"
    for _ in range(30):
        connected(house, endpoint).close()
        house.until(lambda: not len(endpoint.connections))
    assert len(house.log.named("connections ended")) == 1
    house.finish(endpoint.drain())
    house.finish(endpoint.stop())
    assert len(house.log.named("connections ended")) == 2


def test_newcomer_of_a_draining_endpoint(house: House) -> None:
    """Should one come in after the drain began, it is told so at once."""
    told = []

    class Polite(Probe):
        def drain(self) -> None:
            told.append(self)
            self.transport.loseConnection()

    endpoint = house.run(TCP, stream=Probes(lambda: Polite(echo)))
    first = connected(house, endpoint)
    house.until(lambda: len(endpoint.connections) == 1)
    draining = endpoint.connections.drain()
    assert len(told) == 1
    second = house.connect(endpoint.listeners[0].address)
    house.until(lambda: len(told) == 2)
    assert told[0] is not told[1]
    for client in (first, second):
        assert house.receive(client, 1) == b""
    assert not draining.called
    first.close()
    second.close()
    house.until(lambda: draining.called)
    assert ends(house) == [End.DRAINED, End.DRAINED]


def test_close_with_a_sweep_to_come(house: House) -> None:
    """Closing leaves no timer behind."""
    endpoint = house.run(TCP, stream=Probes())
    connected(house, endpoint)
    assert house.loop.getDelayedCalls()
    endpoint.connections.close()
    assert not house.loop.getDelayedCalls()


@pytest.mark.parametrize("reloaded", [True, False])
def test_bound_of_unsent_bytes(house: House, reloaded: bool) -> None:
    """`limits.unsent` holds for new connections, and after a reload for those that are open."""
    endpoint = house.run(TCP, stream=Probes(), unsent=4096 if not reloaded else 1 << 30)
    connected(house, endpoint)
    (connection,) = endpoint.connections
    if reloaded:
        endpoint.connections.limit(replace(endpoint.connections.limits, unsent=4096))
    for _ in range(2):
        connection.write(bytes(10_000_000))
        house.loop.turn()
    house.run_clock(lambda: ends(house))
    assert ends(house) == [End.SLOW]
