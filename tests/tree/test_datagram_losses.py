"""Datagrams that nobody reads for a while: what is kept, what is lost, and that the loss is counted."""

import struct
from pathlib import Path

import pytest
from twisted.internet.defer import ensureDeferred

from sockd.base.errors import SockdError
from sockd.transports.datagrams import port
from sockd.transports.datagrams.port import DATAGRAMS_PER_EVENT
from sockd.transports.sockets.options import SocketOptions
from sockd.tree.endpoint import Endpoint
from tests.tree.house import Datagrams, House, Service

UDP = "udp://127.0.0.1:0"
DROPPED = "dropped by the kernel"


def held(house: House, datagrams: Datagrams) -> Endpoint:
    """An endpoint with a small buffer, its service down."""
    endpoint = house.run(
        UDP, datagram=datagrams, service=Service(), sockets=SocketOptions(receive_buffer=2048)
    )
    endpoint.host.fail(SockdError("the disk is full"))
    return endpoint


def test_drops_are_told_while_it_is_held(house: House) -> None:
    """Whoever waits for the disk reads in the log what is being lost meanwhile."""
    endpoint = held(house, Datagrams())
    (listener,) = endpoint.listeners
    client = house.connect(listener.address, b"x")
    for _ in range(99):
        client.send(b"x")
    endpoint.log_refusals()
    (event,) = house.log.named("refused")
    assert 0 < event["refused"][DROPPED] < 100


def test_drops_before_a_stop_are_counted(house: House) -> None:
    """An endpoint that is still held when it ends counts them too; once."""
    endpoint = held(house, Datagrams())
    (listener,) = endpoint.listeners
    client = house.connect(listener.address, b"x")
    for _ in range(99):
        client.send(b"x")
    house.finish(endpoint.drain())
    assert 0 < listener.counters.refused[DROPPED] < 100


def test_a_kernel_that_does_not_tell(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another length of the kernel's answer than we know is no answer."""
    monkeypatch.setattr(port, "MEMINFO", struct.Struct("20I"))
    endpoint = held(house, Datagrams())
    house.finish(endpoint.drain())
    assert not endpoint.listeners[0].counters.refused


@pytest.mark.parametrize("kind", ["udp", "unixgram"])
def test_what_has_arrived_is_delivered_before_the_close(kind: str, house: House, tmp_path: Path) -> None:
    """Also more than one batch of it."""
    datagrams = Datagrams()
    endpoint = house.run(UDP if kind == "udp" else f"unixgram://{tmp_path}/a.sock", datagram=datagrams)
    (listener,) = endpoint.listeners
    client = house.connect(listener.address, b"0")
    count = 1
    while count < DATAGRAMS_PER_EVENT + 10:
        try:
            client.send(str(count).encode())
        except BlockingIOError:  # a Unix socket's queue is short (net.unix.max_dgram_qlen)
            break
        count += 1
    house.finish(endpoint.drain())
    assert datagrams.data == [str(number).encode() for number in range(count)]
    assert datagrams.calls[-1] == "stop"


def test_what_arrives_for_a_held_endpoint_is_not_delivered_at_the_close(house: House) -> None:
    """Its service is down: nobody could do anything with it, so that it is counted."""
    datagrams = Datagrams()
    endpoint = held(house, datagrams)
    house.connect(endpoint.listeners[0].address, b"x")
    draining = ensureDeferred(endpoint.drain())
    assert draining.called
    assert not datagrams.data
    assert endpoint.listeners[0].counters.refused == {"unread at the close": 1}
