"""Protocols that still work on what their peer has sent: drains, idle times and half-closes wait for them."""

import socket
from collections.abc import Callable
from typing import Any

import pytest
from twisted.web.http import HTTPFactory
from twisted.web.server import Site

from sockd.base.metrics import End
from sockd.tree.endpoint import Endpoint
from sockd.tree.sweep import DRAINED_QUIET_TIME
from tests.transports.loop import Probe, echo
from tests.tree.house import House, Probes, connected, ends
from tests.web import Page

TCP = "tcp://127.0.0.1:0"
WITHIN = 20.0
LONG = 10 * DRAINED_QUIET_TIME


class Later(Probe):
    """Answers later, when the test says so; `busy` says as much, or says nothing."""

    busy: Any = False


class Receiving(Probe):
    """Never answers, and says so."""

    only_receives = True


def served(house: House, build: Callable[[], Any], **limits: Any) -> tuple[Endpoint, socket.socket, Any]:
    """An endpoint, a client that has said something, and its protocol."""
    made = []

    def make() -> Any:
        made.append(build())
        return made[-1]

    endpoint = house.run(TCP, stream=Probes(make), **limits)
    client = house.connect(endpoint.listeners[0].address, b"request")
    house.until(lambda: made and made[0].data == b"request")
    return endpoint, client, made[0]


def test_an_answer_that_is_to_come(house: House) -> None:
    """The peer spoke last: a drain waits for the answer, however long that takes, then closes."""
    endpoint, client, probe = served(house, Later)
    drain = endpoint.connections.drain_some(endpoint.connections, WITHIN)
    house.loop.pump([0.1] * round(LONG * 10))
    assert not drain.done.called
    probe.transport.write(b"answer")
    assert house.receive(client, 6) == b"answer"
    client.close()
    assert house.run_clock(lambda: drain.done.called) < 4 * DRAINED_QUIET_TIME
    assert (drain.finished, drain.cut) == (1, 0)


def test_an_answer_that_never_comes(house: House) -> None:
    """At the deadline the request is truncated, and counted and logged as closed by sockd."""
    endpoint, _, _ = served(house, Later)
    drain = endpoint.connections.drain_some(endpoint.connections, WITHIN)
    assert house.run_clock(lambda: drain.done.called) == pytest.approx(WITHIN, abs=0.2)
    assert (drain.finished, drain.cut) == (0, 1)
    assert ends(house) == [End.CUT]


@pytest.mark.parametrize("build", [Receiving, lambda: Probe(echo)])
def test_nothing_is_to_come(house: House, build: Any) -> None:
    """A protocol that has answered, or never does, has finished as soon as its peer is silent."""
    endpoint, client, _ = served(house, build)
    drain = endpoint.connections.drain_some(endpoint.connections, WITHIN)
    client.shutdown(socket.SHUT_WR)
    assert house.run_clock(lambda: drain.done.called) < LONG
    assert (drain.finished, drain.cut) == (1, 0)


def test_busy(house: House) -> None:
    """A protocol that has sent something may say that more is to come; then its peer isn't idle either."""
    endpoint, client, probe = served(house, Later, idle=1.0)
    probe.transport.write(b"100 continue")
    assert house.receive(client, 12) == b"100 continue"
    probe.busy = True
    house.loop.pump([0.1] * 30)
    assert not ends(house)
    drain = endpoint.connections.drain_some(endpoint.connections, WITHIN)
    house.loop.pump([0.1] * 30)
    assert not drain.done.called
    probe.busy = False
    house.run_clock(lambda: probe.transport.disconnecting)
    assert probe.transport.end is End.DRAINED


@pytest.mark.parametrize("busy", [1, "yes", lambda: True])
def test_not_in_these_words(house: House, busy: Any) -> None:
    """Other protocols have attributes of this name, which mean something else."""
    _, _, probe = served(house, Later, idle=1.0)
    probe.busy = busy
    assert house.run_clock(lambda: ends(house)) < 2.0


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"])
@pytest.mark.parametrize("whole", [True, False])
def test_twisteds_web(house: House, begun: bytes, whole: bool) -> None:
    """It drains as it is: a request under way is answered, also one whose body is still to come."""
    slow = Page()
    site = Site(slow, reactor=house.loop)
    assert isinstance(site, HTTPFactory)
    endpoint = house.run(TCP, stream=site)
    client = house.connect(endpoint.listeners[0].address, begun)
    if begun:
        house.until(lambda: slow.requests)
        slow.requests.pop().finish()
        assert house.receive(client, 15) == b"HTTP/1.1 200 OK"
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4\r\n\r\n12")
    if whole:
        client.send(b"34")
        house.until(lambda: slow.requests)
    house.loop.settle()
    drain = endpoint.connections.drain_some(endpoint.connections, WITHIN)
    house.loop.pump([0.1] * round(LONG * 10))
    assert not drain.done.called
    if not whole:
        client.send(b"34")
        house.until(lambda: slow.requests)
    slow.requests.pop().finish()
    got = b""
    while not got.endswith(b"0\r\n\r\n"):
        got += house.receive(client, 1)
    client.close()
    house.run_clock(lambda: drain.done.called)
    assert (drain.finished, drain.cut) == (1, 0)


def test_a_half_closed_peer_and_much_work(house: House) -> None:
    """A protocol that has paused, and goes on sending or says that it is busy, outlasts `limits.stall`."""
    _, client, probe = served(house, Later, stall=1.0)
    probe.transport.pauseProducing()
    client.shutdown(socket.SHUT_WR)
    for _ in range(5):
        house.loop.pump([0.1] * 7)
        probe.transport.write(b"more")
        assert house.receive(client, 4) == b"more"
    probe.busy = True
    house.loop.pump([0.1] * 30)
    assert not ends(house)
    probe.busy = False
    house.run_clock(lambda: ends(house))
    assert ends(house) == [End.PEER]


def test_an_idle_client_is_not_waited_for(house: House) -> None:
    """A client that has said nothing has nothing to wait for."""
    endpoint = house.run(TCP, stream=Probes(lambda: Probe(echo)))
    client = connected(house, endpoint)
    house.connect(endpoint.listeners[0].address).shutdown(socket.SHUT_RD)
    house.until(lambda: len(endpoint.connections) == 2)
    drain = endpoint.connections.drain_some(endpoint.connections, WITHIN)
    client.close()
    house.run_clock(lambda: drain.done.called)
    assert drain.cut == 0
