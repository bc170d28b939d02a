"""The connections of an endpoint: swept when idle or stalled, counted, and told of at their end."""

import socket
from typing import Any

import pytest

from sockd.limits.idle import LINGER
from sockd.metrics import End
from sockd.services.endpoint import Endpoint
from tests.services.house import House, Probes
from tests.transports.loop import Probe, echo

TCP = "tcp://127.0.0.1:0"


def ends(house: House) -> list[End]:
    return [event["end"] for event in house.log.named("connection ended")]


def connected(house: House, endpoint: Endpoint) -> socket.socket:
    """A client that is being served."""
    client = house.connect(endpoint.listeners[0].address, b"x")
    assert house.receive(client, 1) == b"x"
    return client


def test_idle_connections_are_closed(house: House) -> None:
    """After `idle` of silence, give or take a sweep; one that speaks stays."""
    endpoint = house.run(TCP, stream=Probes(), idle=8.0)
    silent, speaking = connected(house, endpoint), connected(house, endpoint)

    def silent_one_ended() -> bool:
        if round(house.loop.seconds() * 20) % 20 == 0:
            speaking.send(b".")
        return bool(house.log.named("connection ended"))

    assert house.run_clock(silent_one_ended) <= 8.0 + 1.0 + LINGER + 1.0  # two sweeps
    assert ends(house) == [End.IDLE]
    assert silent.recv(1) == b""
    assert len(endpoint.connections) == 1


def test_silent_connection_is_told_by_a_fin(house: House) -> None:
    """It gets a FIN, not a RST, and time to answer it."""
    endpoint = house.run(TCP, stream=Probes(), idle=1.0)
    client = connected(house, endpoint)
    (server,) = endpoint.connections._servers
    assert house.run_clock(lambda: server.lingering) == pytest.approx(1.0, abs=0.3)
    assert client.recv(1) == b""
    client.close()
    house.until(lambda: house.log.named("connection ended"))
    assert ends(house) == [End.IDLE]


def test_stalled_connections_are_cut(house: House) -> None:
    """One that takes nothing of what it is owed."""
    endpoint = house.run(TCP, stream=Probes(), stall=4.0)
    client = house.connect(endpoint.listeners[0].address)
    house.until(lambda: endpoint.connections._servers)
    (server,) = endpoint.connections._servers
    while not server.owed:
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
    second: Any = house.connect(endpoint.listeners[0].address)
    house.until(lambda: len(told) == 2)
    first.close()
    second.close()
    house.until(lambda: draining.called)


def test_close_with_a_sweep_to_come(house: House) -> None:
    """Closing leaves no timer behind."""
    endpoint = house.run(TCP, stream=Probes())
    connected(house, endpoint)
    assert house.loop.getDelayedCalls()
    endpoint.connections.close()
    assert not house.loop.getDelayedCalls()
