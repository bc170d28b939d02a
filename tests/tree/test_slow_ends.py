"""Connections whose protocol has paused, or whose producers are slow: their ends are not hastened."""

import socket
import struct
from typing import Any

import pytest

from sockd.base.metrics import End
from sockd.tree.sweep import DRAINED_QUIET_TIME
from tests.transports.loop import Probe
from tests.tree.house import House, Probes, connected, ends

TCP = "tcp://127.0.0.1:0"


def test_protocol_that_paused_is_not_told_of_the_end(house: House) -> None:
    """It may have something of the peer's yet to work off, as a chat that slows a flood."""
    endpoint = house.run(TCP, stream=Probes(), idle=8.0)
    client = connected(house, endpoint)
    (server,) = endpoint.connections
    server.pauseProducing()
    server.hold(True)
    client.close()
    house.loop.pump([1.0] * 5)
    server.hold(False)
    house.loop.pump([1.0] * 5)
    assert not ends(house)
    server.resumeProducing()
    house.until(lambda: ends(house) == [End.PEER])


def test_protocol_that_paused_has_as_long_as_a_stall(house: House) -> None:
    """A peer that has left does not keep its place for ever, however long it would take to hear it all."""
    endpoint = house.run(TCP, stream=Probes(), stall=8.0)
    client = connected(house, endpoint)
    (server,) = endpoint.connections
    server.pauseProducing()
    client.close()
    began = house.loop.seconds()
    house.run_clock(lambda: ends(house) == [End.PEER])
    assert 8.0 <= house.loop.seconds() - began <= 9.1


def test_protocol_that_paused_loses_who_reset(house: House) -> None:
    """Nobody waits for an answer, and TCP says so: the place is free at once."""
    endpoint = house.run(TCP, stream=Probes(), stall=8.0)
    client = connected(house, endpoint)
    (server,) = endpoint.connections
    server.pauseProducing()
    client.send(b"never to be read")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    began = house.loop.seconds()
    house.run_clock(lambda: ends(house) == [End.RESET])
    assert house.loop.seconds() - began <= 1.1


class Slow:
    """A pull producer that gives its last piece when it is told to."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.stopped = False

    def resumeProducing(self) -> None: ...

    def stopProducing(self) -> None:
        self.stopped = True

    def finish(self) -> None:
        self.transport.write(b"the end")
        self.transport.unregisterProducer()


@pytest.mark.parametrize("when", ["in time", "never"])
def test_drain_of_a_connection_whose_producer_is_slow(when: str, house: House) -> None:
    """It closes already, so nothing but the deadline ends it before its producer has given everything."""
    producer = Slow()

    def lose(protocol: Probe, _: bytes) -> None:
        producer.transport = protocol.transport
        protocol.transport.registerProducer(producer, False)
        protocol.transport.loseConnection()

    endpoint = house.run(TCP, stream=Probes(lambda: Probe(lose)))
    client = house.connect(endpoint.listeners[0].address, b"x")
    house.until(lambda: producer.transport)
    draining = endpoint.connections.drain()
    house.loop.pump([DRAINED_QUIET_TIME] * 20)
    assert not draining.called
    if when == "in time":
        producer.finish()
        assert house.receive(client, 7) == b"the end"
    else:
        endpoint.cut()
    client.close()
    house.run_clock(lambda: draining.called)
    assert ends(house) == [End.DRAINED if when == "in time" else End.CUT]
    assert producer.stopped == (when == "never")
