"""The time that connections have until they are at their protocol, until they speak, and altogether."""

import socket
from contextlib import suppress
from ipaddress import ip_network
from typing import Any

import pytest

from sockd.base.errors import SockdError
from sockd.base.metrics import End
from sockd.tree.endpoint import Endpoint
from tests.certificates import tls_plan
from tests.tls_clients import Client
from tests.transports.loop import Probe, echo, replace_system_calls
from tests.tree.house import STEP, House, Probes, Service, connected, ends, raising

TCP, TLS = "tcp://127.0.0.1:0", "tls://127.0.0.1:0"
HERE = (ip_network("127.0.0.1"),)
HEADER = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n"
LATE = 2 * STEP + 0.3  # a sweep is a sixteenth of the limit, or a little more


def waiting(house: House, endpoint: Endpoint, data: bytes = b"") -> socket.socket:
    """A connection that isn't at its protocol yet."""
    client = house.connect(endpoint.listeners[0].address, data)
    house.until(lambda: len(endpoint.connections))
    house.loop.settle()
    return client


def slow(house: House, kind: str, **more: Any) -> Endpoint:
    """An endpoint of which connections begin with a handshake, or with a header."""
    proxies = HERE if kind == TCP else ()
    return house.run(kind, stream=Probes(), tls=tls_plan(), proxy_from=proxies, **more)


@pytest.mark.parametrize("data", [b"", b"\x16\x03\x01", b"PROXY "])
@pytest.mark.parametrize("kind", [TCP, TLS])
def test_who_does_not_begin(kind: str, data: bytes, house: House) -> None:
    """It is cut after `handshake`, also where it sends a byte now and then."""
    if data:
        data = {TCP: b"PROXY ", TLS: b"\x16\x03\x01"}[kind]
    endpoint = slow(house, kind, handshake=4.0)
    client = waiting(house, endpoint, data)
    took = house.run_clock(lambda: not len(endpoint.connections))
    assert took == pytest.approx(4.0, abs=LATE)
    assert ends(house) == [End.HANDSHAKE]
    assert endpoint.host.counters.refused == {"handshake": 1}
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_header_and_handshake_share_one_time(house: House) -> None:
    """The second doesn't begin anew."""
    endpoint = house.run(TLS, stream=Probes(), tls=tls_plan(), proxy_from=HERE, handshake=4.0)
    client = waiting(house, endpoint)
    house.loop.pump([STEP] * 60)
    client.send(HEADER + b"\x16")
    house.loop.settle()
    took = house.run_clock(lambda: not len(endpoint.connections))
    assert took == pytest.approx(1.0, abs=LATE)


@pytest.mark.parametrize("kind", [TCP, TLS])
def test_who_has_begun_is_not_concerned(kind: str, house: House) -> None:
    """`handshake` ends with the handshake."""
    endpoint = slow(house, kind, handshake=1.0)
    address = endpoint.listeners[0].address
    if kind == TLS:
        house.shaken(address)
    else:
        assert house.receive(house.connect(address, HEADER + b"x"), 1) == b"x"
    house.loop.pump([STEP] * 100)
    assert len(endpoint.connections) == 1


@pytest.mark.parametrize("kind", [TCP, TLS])
def test_time_in_which_nothing_is_read_does_not_count(kind: str, house: House) -> None:
    """While the service is down it isn't the peer's fault; afterwards it has its time."""
    service = Service()
    endpoint = slow(house, kind, handshake=2.0, service=service)
    client = waiting(house, endpoint)
    service.then = [raising(SockdError("the disk is full"))] * 4
    endpoint.host.fail(SockdError("the disk is full"))
    house.loop.pump([STEP] * 100)
    assert len(endpoint.connections) == 1
    house.run_clock(lambda: endpoint.running)
    if kind == TLS:
        one = Client(client)
        house.clients.append(one.tls)
        house.loop.until(one.shake, one.tls)
    else:
        client.send(HEADER + b"x")
        assert house.receive(client, 1) == b"x"
    assert not ends(house)


@pytest.mark.parametrize("kind", [TCP, TLS])
def test_suspended(kind: str, house: House) -> None:
    """Who was accepted before is served."""
    endpoint = slow(house, kind, handshake=2.0)
    client = waiting(house, endpoint)
    endpoint.suspend(True)
    if kind == TLS:
        one = Client(client)
        house.clients.append(one.tls)
        house.loop.until(one.shake, one.tls)
        house.until(lambda: all(server.ready for server in endpoint.connections))
    else:
        client.send(HEADER + b"x")
        assert house.receive(client, 1) == b"x"


# -- draining


@pytest.mark.parametrize("kind", [TCP, TLS])
def test_silent_beginners_hold_up_no_drain(kind: str, house: House) -> None:
    """They have a second; that is no refusal."""
    endpoint = slow(house, kind, handshake=30.0)
    waiting(house, endpoint)
    drain = endpoint.drain_by_hand(10.0)
    took = house.run_clock(lambda: drain.done.called)
    assert took == pytest.approx(1.0, abs=LATE)
    assert ends(house) == [End.DRAINED]
    assert not endpoint.host.counters.refused


@pytest.mark.parametrize("kind", [TCP, TLS])
def test_who_begins_while_draining_is_served(kind: str, house: House) -> None:
    """It was accepted: it gets its answer, and its protocol is asked to finish."""
    drained = []

    class Finishing(Probe):
        def drain(self) -> None:
            drained.append(bytes(self.data))
            self.transport.loseConnection()

    endpoint = house.run(
        kind, stream=Probes(lambda: Finishing(echo)), tls=tls_plan(), proxy_from=HERE if kind == TCP else ()
    )
    client = waiting(house, endpoint)
    drain = endpoint.drain_by_hand(10.0)
    house.loop.pump([STEP] * 4)
    if kind == TLS:
        one = Client(client)
        house.clients.append(one.tls)
        house.loop.until(one.shake, one.tls)
        one.tls.send(b"x")
        house.loop.until(one.has_some, one.tls)
        assert one.data == b"x"
    else:
        client.send(HEADER + b"x")
        assert house.receive(client, 1) == b"x"
    house.run_clock(lambda: drained)
    assert drained == [b"x"]
    for each in house.clients:
        each.close()
    house.run_clock(lambda: drain.done.called)
    assert drain.cut == 0


def test_alert_that_nobody_takes(house: House) -> None:
    """A handshake that failed is counted once, and its connection gone in time."""
    endpoint = house.run(TLS, stream=Probes(), tls=tls_plan(), handshake=2.0)
    waiting(house, endpoint)
    (server,) = endpoint.connections
    replace_system_calls(server, write=raising(BlockingIOError()))
    house.clients[0].send(b"GET / HTTP/1.0\r\n\r\n")
    house.until(lambda: server.disconnecting)
    assert house.run_clock(lambda: not len(endpoint.connections)) <= 2.0 + LATE
    assert endpoint.host.counters.refused + endpoint.listeners[0].counters.refused == {"TLS: http request": 1}


# -- first_byte


@pytest.mark.parametrize("kind", [TCP, TLS])
def test_silent_from_the_start(kind: str, house: House) -> None:
    """It is cut after `first_byte`, which begins when the handshake is over; one that spoke is not."""
    endpoint = house.run(kind, stream=Probes(), tls=tls_plan(), first_byte=2.0, handshake=4.0)
    address = endpoint.listeners[0].address
    if kind == TLS:
        silent = house.tls(address)
        house.loop.settle()
        house.loop.pump([STEP] * 60)
        house.loop.until(silent.shake, silent.tls)
        house.until(lambda: all(server.ready for server in endpoint.connections))
        house.shaken(address)
    else:
        house.connect(address)
        connected(house, endpoint)
    took = house.run_clock(lambda: len(endpoint.connections) == 1)
    assert took == pytest.approx(2.0, abs=LATE)
    assert ends(house) == [End.FIRST_BYTE]
    assert endpoint.host.counters.refused == {"first_byte": 1}
    house.loop.pump([STEP] * 100)
    assert len(endpoint.connections) == 1


def test_first_byte_after_a_header(house: House) -> None:
    """The header is none of it, and the time begins after it."""
    endpoint = house.run(TCP, stream=Probes(), proxy_from=HERE, first_byte=2.0)
    client = waiting(house, endpoint)
    house.loop.pump([STEP] * 60)
    client.send(HEADER)
    house.until(lambda: all(server.ready for server in endpoint.connections))
    assert house.run_clock(lambda: ends(house)) == pytest.approx(2.0, abs=LATE)
    assert ends(house) == [End.FIRST_BYTE]


def test_first_byte_of_who_is_not_read_from(house: House) -> None:
    """A protocol that pauses in the beginning has the peer wait, not the peer us."""
    made: list[Probe] = []

    def build() -> Probe:
        made.append(Probe(echo, on_made=lambda probe: probe.transport.pauseProducing()))
        return made[-1]

    endpoint = house.run(TCP, stream=Probes(build), first_byte=1.0)
    client = house.connect(endpoint.listeners[0].address, b"x")
    house.until(lambda: made)
    house.loop.pump([STEP] * 100)
    made[0].transport.resumeProducing()
    assert house.receive(client, 1) == b"x"


def test_last_words_are_no_silence(house: House) -> None:
    """A protocol that speaks first and closes is not cut for the peer's having nothing to say."""

    def speak(probe: Probe) -> None:
        probe.transport.write(bytes(10_000_000))
        probe.transport.loseConnection()

    def build() -> Probe:
        return Probe(on_made=speak)

    endpoint = house.run(TCP, stream=Probes(build), first_byte=1.0)
    client = house.connect(endpoint.listeners[0].address)
    house.until(lambda: len(endpoint.connections))
    house.loop.pump([STEP] * 40)
    assert len(endpoint.connections) == 1
    assert not endpoint.host.counters.refused["first_byte"]
    assert client.recv(1)


# -- lifetime


@pytest.mark.parametrize("kind", [TCP, TLS])
def test_lifetime(kind: str, house: House) -> None:
    """However busy it is, it ends then, by a clean end."""
    endpoint = house.run(kind, stream=Probes(), tls=tls_plan(), lifetime=4.0)
    address = endpoint.listeners[0].address
    client: Any = house.shaken(address) if kind == TLS else connected(house, endpoint)
    sock = client.tls if kind == TLS else client

    def over() -> bool:
        if endpoint.host.counters.refused:
            return True
        sock.send(b".")
        return False

    assert house.run_clock(over) == pytest.approx(4.0, abs=LATE)
    if kind == TLS:
        house.loop.until(lambda: client.has_some() and client.closed, client.tls)
    else:
        house.loop.settle()
        while client.recv(65536):
            pass
    sock.close()
    house.until(lambda: ends(house))
    assert ends(house) == [End.LIFETIME]
    assert endpoint.host.counters.refused == {"lifetime": 1}


def test_who_takes_its_time_beyond_its_lifetime(house: House) -> None:
    """What it is owed is no way to stay: who takes it bit by bit, or is given more and more, is cut."""

    class Endless:
        def __init__(self, transport: Any) -> None:
            self.transport = transport

        def resumeProducing(self) -> None:
            self.transport.write(b".")

        def stopProducing(self) -> None:
            """It has no end of its own."""

    def produce(probe: Probe) -> None:
        probe.transport.registerProducer(Endless(probe.transport), False)

    endpoint = house.run(TCP, stream=Probes(lambda: Probe(on_made=produce)), lifetime=4.0, stall=2.0)
    client = house.connect(endpoint.listeners[0].address)
    house.until(lambda: len(endpoint.connections))

    def over() -> bool:
        with suppress(BlockingIOError, ConnectionResetError):
            client.recv(65536)
        return not len(endpoint.connections)

    assert house.run_clock(over) == pytest.approx(6.0, abs=LATE)
    client.close()
    assert ends(house) == [End.LIFETIME]
    assert endpoint.host.counters.refused == {"lifetime": 1}


def test_lifetime_while_held(house: House) -> None:
    """It ends all the same."""
    service = Service()
    endpoint = house.run(TCP, stream=Probes(), lifetime=4.0, service=service)
    client = connected(house, endpoint)
    service.then = [raising(SockdError("the disk is full"))] * 9
    endpoint.host.fail(SockdError("the disk is full"))
    house.run_clock(lambda: endpoint.host.counters.refused)
    assert client.recv(1) == b""
    client.close()
    house.run_clock(lambda: ends(house))
    assert ends(house) == [End.LIFETIME]


def test_sweeps_are_as_frequent_as_the_shortest_time(house: House) -> None:
    """A short `handshake` is kept though everything else is long."""
    endpoint = slow(house, TLS, handshake=0.1)
    waiting(house, endpoint)
    assert house.run_clock(lambda: not len(endpoint.connections)) <= 0.2 + STEP


@pytest.mark.parametrize("kind", [TCP, TLS])
def test_where_the_client_connected_to(kind: str, house: House) -> None:
    """The protocol sees the address of the PROXY header as its own; one without leaves the socket's."""
    probes = Probes()
    endpoint = house.run(kind, stream=probes, tls=tls_plan(), proxy_from=HERE)
    told = (HEADER, "192.0.2.1", 80), (b"PROXY UNKNOWN\r\n", "127.0.0.1", endpoint.listeners[0].address.port)
    for number, (header, host, port) in enumerate(told, 1):
        client = house.connect(endpoint.listeners[0].address, header)
        if kind == TLS:
            secure = Client(client)
            house.clients.append(secure.tls)
            house.until(secure.shake, secure.tls)
        while len(probes.made) < number:
            house.loop.turn(wait=0.05)
        here = probes.made[-1].transport.getHost()
        assert (here.host, here.port) == (host, port)
