"""Twisted's own DatagramProtocol on an endpoint: what it is told, where answers go, what it may not do."""

import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.error import InvalidAddressError
from twisted.internet.interfaces import IUDPTransport
from twisted.internet.protocol import DatagramProtocol

from sockd.base.addresses import Address
from sockd.base.hosted import offers
from tests.tree.house import House

UDP = "udp://127.0.0.1:0"


class Answering(DatagramProtocol):
    """Answers what came, with what the test says of it."""

    transport: Any
    noisy = True

    def __init__(self, answer: Any = lambda data: data) -> None:
        self.answer = answer
        self.calls: list[Any] = []

    def startProtocol(self) -> None:
        self.calls.append("start")

    def stopProtocol(self) -> None:
        self.calls.append("stop")

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.calls.append((datagram, addr))
        self.transport.write(self.answer(datagram), addr)


def asked(house: House, address: Address, data: bytes) -> socket.socket:
    """A client that has asked this."""
    return house.connect(address, data)


def test_questions_and_answers(house: House) -> None:
    """It has its transport before anything comes, and hears of the end."""
    hosted = Answering()
    endpoint = house.run(UDP, datagram=hosted)
    client = asked(house, endpoint.listeners[0].address, b"hello")
    assert house.receive(client, 5) == b"hello"
    assert IUDPTransport.providedBy(hosted.transport)
    here = endpoint.listeners[0].address
    assert hosted.transport.getHost() == IPv4Address("UDP", "127.0.0.1", here.port)
    house.finish(endpoint.drain())
    assert hosted.calls == ["start", (b"hello", client.getsockname()), "stop"]


def test_over_a_unix_socket(house: House, tmp_path: Path) -> None:
    """Addresses are paths there, as Twisted has them."""
    hosted = Answering()
    endpoint = house.run(f"unixgram://{tmp_path}/here.sock", datagram=hosted)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    house.clients.append(client)
    client.bind(f"{tmp_path}/there.sock")
    client.connect(f"{tmp_path}/here.sock")
    client.setblocking(False)
    client.send(b"hello")
    assert house.receive(client, 5) == b"hello"
    assert hosted.calls == ["start", (b"hello", f"{tmp_path}/there.sock")]
    assert hosted.transport.getHost() == UNIXAddress(f"{tmp_path}/here.sock".encode())
    assert endpoint.running


@pytest.mark.parametrize(("beyond", "answered"), [(None, False), (3, True), (2, False)])
def test_answers_that_are_longer(beyond: int | None, answered: bool, house: House) -> None:
    """They are refused, as of any protocol, but for what it says it needs."""
    hosted: Any = Answering(lambda data: data + b"xyz")
    if beyond is not None:
        hosted.answer_beyond = beyond
    endpoint = house.run(UDP, datagram=hosted)
    client = asked(house, endpoint.listeners[0].address, b"hello")
    if answered:
        assert house.receive(client, 8) == b"helloxyz"
    house.until(lambda: len(hosted.calls) == 2)
    assert endpoint.listeners[0].counters.refused == ({} if answered else {"longer than what was asked": 1})


def test_an_address_that_has_not_asked(house: House) -> None:
    """It may be written to, within the bounds of what came and was not answered."""
    hosted = Answering(lambda data: b"")
    endpoint = house.run(UDP, datagram=hosted)
    asked(house, endpoint.listeners[0].address, b"a long question")
    house.until(lambda: len(hosted.calls) == 2)
    other = socket.socket(type=socket.SOCK_DGRAM)
    house.clients.append(other)
    other.bind(("127.0.0.1", 0))
    other.setblocking(False)
    hosted.transport.writeSequence([b"for ", b"you"], other.getsockname())
    hosted.transport.write(b"and this is much longer than what came", other.getsockname())
    assert house.receive(other, 7) == b"for you"
    assert endpoint.listeners[0].counters.refused == {"longer than what was asked": 1}


def test_what_it_may_not_do(house: House) -> None:
    """The socket is sockd's; and a name is no address."""
    hosted = Answering()
    house.run(UDP, datagram=hosted)
    for forbidden in (lambda: hosted.transport.connect("127.0.0.1", 1), hosted.transport.stopListening):
        with pytest.raises(RuntimeError, match="the endpoint's socket"):
            forbidden()
    with pytest.raises(InvalidAddressError):
        hosted.transport.write(b"x", ("localhost", 1))
    hosted.transport.setBroadcastAllowed(True)
    assert hosted.transport.getBroadcastAllowed()


def test_an_exception(house: House) -> None:
    """It is counted, and costs nobody else anything."""

    def answer(data: bytes) -> bytes:
        if data == b"bad":
            raise ZeroDivisionError("a bug")
        return data

    endpoint = house.run(UDP, datagram=Answering(answer))
    asked(house, endpoint.listeners[0].address, b"bad")
    client = asked(house, endpoint.listeners[0].address, b"good")
    assert house.receive(client, 4) == b"good"
    assert endpoint.host.counters.refused == {"exception in datagram": 1}


def test_reading_is_paused(house: House) -> None:
    """As Twisted's ports are, by `stopReading` too."""
    hosted = Answering()
    endpoint = house.run(UDP, datagram=hosted)
    hosted.transport.stopReading()
    client = asked(house, endpoint.listeners[0].address, b"hello")
    house.loop.settle()
    assert hosted.calls == ["start"]
    hosted.transport.startReading()
    assert house.receive(client, 5) == b"hello"


def test_states_and_options_are_its_own(house: House) -> None:
    """It freezes and reloads where it can, and not where it can't."""

    class Freezing(Answering):
        def freeze(self) -> Any:
            return {"met": len(self.calls)}

    for hosted, freezes in ((Answering(), False), (Freezing(), True)):
        endpoint = house.run(UDP, datagram=hosted)
        (listener,) = endpoint.datagram_listeners
        assert offers(listener.protocol, "freeze") is freezes
        assert not offers(listener.protocol, "reload")
