"""TLS that a protocol starts midway (STARTTLS), over TCP and Unix sockets, as a Twisted protocol would."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener, ISSLTransport, ITLSTransport
from twisted.internet.protocol import Factory
from twisted.protocols.basic import Int16StringReceiver, LineReceiver
from twisted.protocols.policies import WrappingFactory
from zope.interface import implementer

from sockd.base.metrics import End
from sockd.plan.plan import TlsPlan
from sockd.protocols.contract import Host
from sockd.transports.tls import TlsConnection
from sockd.tree.endpoint import Endpoint
from tests.certificates import made, tls_plan
from tests.tls_clients import Client
from tests.tree.house import House, ends

TCP = "tcp://127.0.0.1:0"


def asking() -> TlsPlan:
    """A plan that wants Anna's certificate."""
    return tls_plan(client_ca=made("authority", authority=True).chain, client_names=("anna.example",))


@implementer(IHandshakeListener)
class Lines(LineReceiver):
    """Answers each line with it; `start` answers, and starts TLS."""

    transport: Any

    def __init__(self, tls: Any, on_start: Callable[["Lines"], object] = lambda _: None) -> None:
        self.tls = tls
        self.on_start = on_start
        self.lines: list[bytes] = []
        self.shaken: list[bool] = []
        self.lost: list[type] = []

    def lineReceived(self, line: bytes) -> None:
        self.lines.append(line)
        if line == b"start":
            self.sendLine(b"go")
            self.transport.startTLS(self.tls)
            self.on_start(self)
        else:
            self.sendLine(line)

    def handshakeCompleted(self) -> None:
        self.shaken.append(ISSLTransport.providedBy(self.transport))

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.append(reason.type)


class Speaking(Factory):
    """Makes Lines, with what the endpoint's host has for them."""

    noisy = False

    def __init__(self, host: Host[Any], **how: Any) -> None:
        self.host = host
        self.how = how
        self.made: list[Lines] = []

    def buildProtocol(self, addr: Any) -> Lines:
        self.made.append(Lines(self.host.tls, **self.how))
        return self.made[-1]


class Scene:
    """An endpoint that speaks lines, and a client of it."""

    def __init__(
        self, house: House, where: str = TCP, wrap: Any = lambda factory: factory, **more: Any
    ) -> None:
        how = more.pop("how", {})

        def make(host: Host[Any]) -> Any:
            self.factory = Speaking(host, **how)
            return wrap(self.factory)

        self.house = house
        plan = {"tls": tls_plan(), "starts_tls": True} | more
        self.endpoint: Endpoint = house.run(where, stream=make, **plan)
        self.plain = house.connect(self.endpoint.listeners[0].address)

    @property
    def protocol(self) -> Lines:
        return self.factory.made[-1]

    @property
    def connection(self) -> Any:
        (connection,) = self.endpoint.connections
        return connection

    @property
    def refused(self) -> dict[str, int]:
        return dict(self.endpoint.listeners[0].counters.refused)

    def say(self, data: bytes, answer: bytes) -> None:
        """In clear."""
        self.plain.send(data)
        assert self.house.receive(self.plain, len(answer)) == answer

    def start(self, **how: Any) -> Client:
        """Over TLS from here on."""
        self.say(b"start\r\n", b"go\r\n")
        client = Client(self.plain, **how)
        self.house.clients.append(client.tls)
        self.house.until(client.shake, client.tls)
        return client

    def until(self, client: Client, data: bytes) -> None:
        """The client has got this, after what it got before."""

        def came() -> bool:
            client.read()
            return bytes(client.data) == data

        self.house.until(came, client.tls)


@pytest.fixture
def scene(house: House) -> Callable[..., Scene]:
    return lambda *arguments, **more: Scene(house, *arguments, **more)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("where", [TCP, "unix://{}/lines.sock"])
def test_from_clear_to_encrypted(
    where: str, version: ssl.TLSVersion, scene: Callable[..., Scene], tmp_path: Path
) -> None:
    """The protocol and its transport stay the same objects; Twisted's interfaces show what they are now."""
    one = scene(where.format(tmp_path))
    one.say(b"a\r\n", b"a\r\n")
    transport = one.protocol.transport
    assert ITLSTransport.providedBy(transport)
    assert not ISSLTransport.providedBy(transport)
    client = one.start(version=version)
    client.tls.send(b"b\r\n")
    one.until(client, b"b\r\n")
    assert one.protocol.transport is transport is one.connection
    assert one.protocol.shaken == [True]
    session = cast(TlsConnection, one.connection).session
    assert session.version() in ("TLSv1.2", "TLSv1.3")
    assert one.protocol.lines == [b"a", b"start", b"b"]
    counters = one.endpoint.listeners[0].counters
    assert (counters.bytes_in, counters.bytes_out) == (len(b"a\r\nstart\r\nb\r\n"), len(b"a\r\ngo\r\nb\r\n"))
    client.tls.close()
    one.house.until(lambda: ends(one.house))
    assert len(one.endpoint.connections) == 0


def test_what_is_written_meanwhile_waits(scene: Callable[..., Scene]) -> None:
    """It goes out encrypted, once there is a session, and so does the end of the connection."""

    def greet(protocol: Lines) -> None:
        protocol.sendLine(b"welcome")
        protocol.transport.loseConnection()
        protocol.sendLine(b"too late")

    one = scene(how={"on_start": greet})
    client = one.start()
    one.until(client, b"welcome\r\n")
    one.house.until(lambda: client.has_some() and client.closed, client.tls)
    client.tls.close()
    one.house.until(lambda: one.protocol.lost)
    assert one.protocol.lost == [ConnectionDone]
    assert ends(one.house) == [End.DONE]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_producer_waits(streaming: bool, scene: Callable[..., Scene]) -> None:
    """One that is asked isn't asked before there is a session; one that pushes is paused when much waits."""
    pieces = [b"x" * 50_000] * 3

    class Producer:
        def __init__(self, transport: Any) -> None:
            self.transport = transport
            self.left = list(pieces)
            self.paused = False
            transport.registerProducer(self, streaming)
            if streaming:
                self.resumeProducing()

        def resumeProducing(self) -> None:
            self.paused = False
            while self.left and not self.paused:
                self.transport.write(self.left.pop())
                if not streaming:
                    break
            if not self.left:
                self.transport.unregisterProducer()
                self.left = []

        def pauseProducing(self) -> None:
            self.paused = True

        def stopProducing(self) -> None:
            self.left = []

    made: list[Producer] = []
    one = scene(how={"on_start": lambda protocol: made.append(Producer(protocol.transport))})
    one.say(b"start\r\n", b"go\r\n")
    assert len(made[0].left) == (1 if streaming else 3)
    client = Client(one.plain)
    one.house.clients.append(client.tls)
    one.house.until(client.shake, client.tls)
    one.until(client, b"".join(pieces))


def test_too_much_that_waits(scene: Callable[..., Scene]) -> None:
    """What a protocol writes while its peer doesn't shake hands is bounded as what is unsent."""

    def flood(protocol: Lines) -> None:
        protocol.transport.limit_unsent(1000)
        protocol.transport.write(b"x" * 1001)

    one = scene(how={"on_start": flood})
    one.plain.send(b"start\r\n")
    one.house.until(lambda: ends(one.house))
    assert ends(one.house) == [End.SLOW]


@pytest.mark.parametrize("wrap", [lambda factory: factory, WrappingFactory], ids=["bare", "wrapped"])
@pytest.mark.parametrize("more", [b"evil\r\n", b"ev"], ids=["a command", "half of one"])
def test_commands_in_clear_are_refused(more: bytes, wrap: Any, scene: Callable[..., Scene]) -> None:
    """What follows the command in clear, and an attacker may have put there, reaches no protocol."""
    one = scene(wrap=wrap)
    one.plain.send(b"start\r\n" + more)
    one.house.until(lambda: ends(one.house))
    assert one.protocol.lines == [b"start"]
    assert one.refused == {"TLS: bytes in clear follow the command that starts it": 1}
    assert ends(one.house) == [End.HANDSHAKE]


def test_commands_in_clear_that_come_by_themselves(scene: Callable[..., Scene]) -> None:
    """They are no handshake."""
    one = scene()
    one.say(b"start\r\n", b"go\r\n")
    one.plain.send(b"an evil command\r\n")
    one.house.run_clock(lambda: ends(one.house))
    assert one.protocol.lines == [b"start"]
    assert one.refused == {"TLS: wrong version number": 1}


def test_strings_in_clear_are_refused(house: House) -> None:
    """Twisted's other receivers, of strings with their length before them, keep what follows too."""
    got: list[bytes] = []

    class Strings(Int16StringReceiver):
        def stringReceived(self, string: bytes) -> None:
            got.append(string)
            if string == b"start":
                self.transport.startTLS(self.factory.tls)  # type: ignore[union-attr]

    def make(host: Host[Any]) -> Any:
        factory: Any = Factory.forProtocol(Strings)
        factory.noisy, factory.tls = False, host.tls
        return factory

    endpoint = house.run(TCP, stream=make, tls=tls_plan(), starts_tls=True)
    house.connect(endpoint.listeners[0].address, b"\0\5start\0\4evil")
    house.until(lambda: ends(house))
    assert got == [b"start"]
    assert list(endpoint.listeners[0].counters.refused) == [
        "TLS: bytes in clear follow the command that starts it"
    ]


def test_the_clients_certificate(scene: Callable[..., Scene]) -> None:
    """It is asked for, and gives the connection its identity, as on tls://."""
    one = scene(tls=asking())
    client = one.start(certificate=made("anna.example", issuer="authority"))
    client.tls.send(b"b\r\n")
    one.until(client, b"b\r\n")
    assert one.connection.identity == "anna.example"


def test_a_client_that_is_not_meant(scene: Callable[..., Scene]) -> None:
    """It is refused, and the protocol that it has already hears of the end."""
    one = scene(tls=asking())
    one.start(certificate=made("berta.example", issuer="authority"))
    one.house.run_clock(lambda: one.protocol.lost)
    assert one.refused == {"TLS: certificate name": 1}
    assert ends(one.house) == [End.BARRED]
    assert one.protocol.shaken == []


def test_a_client_that_never_shakes_hands(scene: Callable[..., Scene]) -> None:
    """It has the time of any handshake."""
    one = scene(handshake=5.0)
    one.say(b"start\r\n", b"go\r\n")
    assert 4.0 < one.house.run_clock(lambda: ends(one.house)) < 7.0
    assert ends(one.house) == [End.HANDSHAKE]
    assert len(one.protocol.lost) == 1


def test_a_drain_in_the_handshake(scene: Callable[..., Scene]) -> None:
    """It ends the connection, which has nobody to say goodbye to yet."""
    one = scene()
    one.say(b"start\r\n", b"go\r\n")
    one.house.finish(one.endpoint.drain())
    assert ends(one.house) == [End.DRAINED]


@pytest.mark.parametrize(
    ("error", "words", "start"),
    [
        (TypeError, "takes host.tls, not object", lambda one: one.transport.startTLS(object())),
        (ValueError, "the client of TLS", lambda one: one.transport.startTLS(one.tls, False)),
    ],
)
def test_what_can_not_be_started(
    error: type[Exception], words: str, start: Any, scene: Callable[..., Scene]
) -> None:
    """Another context than the endpoint's, or the client's side, is the protocol's mistake."""
    one = scene()
    one.say(b"a\r\n", b"a\r\n")
    with pytest.raises(error, match=words):
        start(one.protocol)


def test_without_tls(house: House) -> None:
    """Where the endpoint has none, or the protocol doesn't start it, a transport is as plain as ever."""
    for more in ({"starts_tls": True}, {"tls": tls_plan()}):
        one = Scene(house, **({"tls": None, "starts_tls": False} | more))
        one.say(b"a\r\n", b"a\r\n")
        assert one.protocol.tls is None
        assert not ITLSTransport.providedBy(one.protocol.transport)


def test_only_a_plain_one_moves_to_another_program(scene: Callable[..., Scene]) -> None:
    """A session of TLS can't; before it begins, the connection goes on as any other."""
    one = scene()
    one.say(b"a\r\n", b"a\r\n")
    assert one.connection.movable
    one.start()
    assert not one.connection.movable
