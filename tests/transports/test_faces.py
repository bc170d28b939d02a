"""Wrappers and twisted.web, of which sockd knows when they are busy, and how they drain and move."""

import socket
from typing import Any

import pytest
from twisted.internet.protocol import Factory
from twisted.protocols.policies import ProtocolWrapper, TimeoutFactory, WrappingFactory
from twisted.web.server import Site

from sockd.base.metrics import End
from sockd.transports.connection import Connection
from sockd.transports.faces import LAYERS_LIMIT, face
from sockd.transports.listening import Listening
from tests.transports.loop import Connect, Exchange, Loop, Probe
from tests.tree.house import House, ends
from tests.web import Page

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
WITHIN = 20.0


class Lines(Probe):
    """Answers each line; what it is frozen to is the line's beginning. `busy` until a line has ended."""

    begun = b""

    @property
    def busy(self) -> bool:
        return bool(self.begun)

    def dataReceived(self, data: bytes) -> None:
        *lines, self.begun = (self.begun + data).split(b"\n")
        for line in lines:
            self.transport.write(line + b"\n")

    def freeze(self) -> Any:
        return {"begun": self.begun}

    def thaw(self, state: Any) -> None:
        self.begun = state["begun"]


def moved(exchange: Exchange, protocol: Any) -> Connection:
    """The connection in another program, with this new protocol."""
    state = face(exchange.protocol).freeze()
    old = exchange.connection
    frozen = old.hand_over()
    old.pauseProducing()  # as of a program that is gone
    new = Connection.take_over(frozen, old.sock.dup(), exchange.turn, exchange.owner, Listening("test"))
    new.resume(protocol, state)
    return new


def factory(made: type[Probe]) -> Any:
    one: Any = Factory.forProtocol(made)
    one.noisy = False
    return one


@pytest.mark.parametrize("wrapping", [WrappingFactory, TimeoutFactory], ids=["wrapper", "time-out"])
def test_a_wrapper_moves(wrapping: Any, connect: Connect) -> None:
    """What it wraps goes on in the middle of a line, behind a wrapper that knows its connection."""
    build = [wrapping(factory(Lines)) for _ in range(2)]
    protocols: list[ProtocolWrapper] = [one.buildProtocol(None) for one in build]
    exchange = connect(protocols[0])
    exchange.client.send(b"hal")
    exchange.loop.until(lambda: face(protocols[0]).begun)
    connection = moved(exchange, protocols[1])
    inner: Any = protocols[1].wrappedProtocol
    assert (inner.made, inner.transport, inner.begun) == (0, protocols[1], b"hal")
    assert protocols[1].transport is connection
    assert protocols[1] in build[1].protocols
    exchange.client.send(b"f\n")
    assert exchange.received() == b"half\n"
    connection.abortConnection()
    for one in protocols:
        if isinstance(build[0], TimeoutFactory):
            one.setTimeout(None)


def test_a_wrapper_is_busy(connect: Connect) -> None:
    """As what it wraps is."""
    exchange = connect(WrappingFactory(WrappingFactory(factory(Lines))).buildProtocol(None))
    assert not exchange.connection.at_work
    exchange.client.send(b"hal")
    exchange.loop.until(lambda: exchange.connection.received)
    assert exchange.connection.at_work


def served(house: House, wrap: Any = lambda site: site) -> tuple[Page, Any, socket.socket]:
    """twisted.web on an endpoint, and a client of it."""
    page = Page()
    endpoint = house.run("tcp://127.0.0.1:0", stream=wrap(Site(page, reactor=house.loop)))
    return page, endpoint, house.connect(endpoint.listeners[0].address)


def asked(house: House, page: Page, client: socket.socket) -> Any:
    """A request that is under way."""
    client.send(REQUEST)
    house.until(lambda: page.requests)
    return page.requests.pop()


def answer(house: House, client: socket.socket) -> bytes:
    got = b""
    while not got.endswith(b"0\r\n\r\n"):
        got += house.receive(client, 1)
    return got


@pytest.mark.parametrize("wrap", [lambda site: site, WrappingFactory], ids=["bare", "wrapped"])
def test_the_last_request(wrap: Any, house: House) -> None:
    """A drain lets it be answered, says that it was the last, and takes no other one of the connection."""
    page, endpoint, client = served(house, wrap)
    request = asked(house, page, client)
    drain = endpoint.connections.drain_some(endpoint.connections, WITHIN)
    client.send(REQUEST)
    request.finish()
    got = answer(house, client)
    assert b"\r\nConnection: close\r\n" in got
    client.close()
    house.run_clock(lambda: drain.done.called)
    assert (drain.finished, drain.cut, page.requests) == (1, 0, [])


def test_a_request_that_had_begun(house: House) -> None:
    """It is the last one too."""
    page, endpoint, client = served(house)
    client.send(REQUEST[:10])
    house.until(lambda: endpoint.connections and next(iter(endpoint.connections)).received)
    drain = endpoint.connections.drain_some(endpoint.connections, WITHIN)
    house.loop.pump([0.1] * 20)
    client.send(REQUEST[10:])
    house.until(lambda: page.requests)
    page.requests.pop().finish()
    assert b"\r\nConnection: close\r\n" in answer(house, client)
    client.close()
    house.run_clock(lambda: drain.done.called)
    assert (drain.finished, drain.cut) == (1, 0)


def test_an_answer_that_is_cut_off(house: House) -> None:
    """At the deadline it is logged as closed by sockd."""
    page, endpoint, client = served(house)
    request = asked(house, page, client)
    request.write(b"half of it")
    endpoint.connections.drain_some(endpoint.connections, WITHIN)
    assert house.run_clock(lambda: ends(house)) == pytest.approx(WITHIN, abs=0.2)
    assert ends(house) == [End.CUT]


def test_between_two_requests_it_moves(connect: Connect) -> None:
    """An idle keep-alive connection goes on in another program; with a request under way it can't."""
    loop = Loop()
    page = Page()
    sites: list[Any] = [Site(page, reactor=loop) for _ in range(2)]
    exchange = connect(sites[0].buildProtocol(None))
    for data in (REQUEST[:10], REQUEST[10:]):
        exchange.client.send(data)
        exchange.loop.settle()
        with pytest.raises(ValueError, match="a request is under way"):
            face(exchange.protocol).freeze()
    page.requests.pop().finish()
    assert exchange.received().startswith(b"HTTP/1.1 200 OK\r\n")
    connection = moved(exchange, sites[1].buildProtocol(None))
    exchange.client.send(REQUEST)
    exchange.loop.settle()
    page.requests.pop().finish()
    assert exchange.received().startswith(b"HTTP/1.1 200 OK\r\n")
    connection.abortConnection()


def test_a_wrapper_that_wraps_itself() -> None:
    """It is looked into so far and no further."""
    looks: list[object] = []

    class Endless(ProtocolWrapper):
        def __init__(self) -> None:
            """It has no factory."""

        @property
        def wrappedProtocol(self) -> Any:  # type: ignore[override]
            looks.append(self)
            assert len(looks) < 100
            return self

    endless = Endless()
    assert face(endless) is endless
    assert looks == [endless] * LAYERS_LIMIT


def test_others_answer_for_themselves() -> None:
    """Also where they have an attribute that wrappers have."""
    probe: Any = Probe()
    probe.wrappedProtocol = Probe()
    assert face(probe) is probe
