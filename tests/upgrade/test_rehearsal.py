"""What a rehearsal finds: each reason in a line, and nothing is opened or started."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.interfaces import (
    IConsumer,
    IPushProducer,
    IReactorCore,
    IReactorFDSet,
    IReactorThreads,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol
from zope.interface.interface import InterfaceClass

from sockd.base.peers import Peer
from sockd.base.reactor import Reactor
from sockd.plan.build import read
from sockd.plan.plan import EndpointPlan, LogPlan, Plan
from sockd.process.directories import Directories
from sockd.protocols.contract import DatagramProtocol, DatagramTransport, Host, StreamTransport
from sockd.upgrade.passing import decode, encode
from sockd.upgrade.rehearsal import problems
from sockd.upgrade.stand_ins import DeafPort, DeafSocket, StillConnection, StillReactor
from sockd.upgrade.value import HandedConnection, HandedEndpoint, Handover
from tests.transports.loop import Exchange, Probe
from tests.tree.house import House

ADDRESS = "tcp://127.0.0.1:7007"
HERE = "tests/upgrade/test_rehearsal.py"


class Thawing(Protocol):
    """A connection's protocol that does what the test says."""

    transport: Any

    def __init__(self, what: Callable[[Any, Any], object]) -> None:
        self.what = what

    def thaw(self, state: Any) -> None:
        self.what(self.transport, state)


class ThawingService:
    """A service, or a datagram protocol, that may not be started."""

    def __init__(self, what: Callable[[Any], object]) -> None:
        self.what = what

    def thaw(self, state: Any) -> None:
        self.what(state)

    def startService(self) -> None:
        raise AssertionError("a rehearsal starts nothing")


def factory(what: Callable[[Any, Any], object]) -> Callable[[Host[Any]], Factory]:
    """Of the stream protocol."""

    def make(_host: Host[Any]) -> Factory:
        class Makes(Factory):
            def buildProtocol(self, addr: Any) -> Any:
                return Thawing(what)

        return Makes()

    return make


@pytest.fixture
def frozen() -> Iterator[Callable[..., HandedConnection]]:
    """Makes connections that are handed over, of an accepted one that really was."""
    exchange = Exchange(Probe())
    frozen = exchange.connection.hand_over()

    def make(state: Any = None, peer: Peer | None = None, **changes: Any) -> HandedConnection:
        handed = {**frozen, "listener": ADDRESS, **changes}
        if peer is not None:
            handed["peer"] = peer.freeze()
        return HandedConnection(handed, state)

    yield make
    exchange.close()


def plan_of(*endpoints: EndpointPlan) -> Plan:
    return Plan(Path("f"), 10.0, LogPlan("info", "auto"), endpoints)


def rehearse(plan: Plan, **endpoints: HandedEndpoint) -> list[str]:
    """What the child would say."""
    handover = Handover("f", "r", "l", time.monotonic(), endpoints=endpoints)
    return problems(Handover.from_value(decode(encode(handover.to_value()))), plan)


def lobby(**plan: Any) -> Plan:
    return plan_of(House().plan(ADDRESS, **plan))


def broken(*_: Any) -> None:
    raise KeyError("room")


def test_everything_is_thawed_and_nothing_is_wrong(frozen: Any) -> None:
    """The service first; what a protocol does with its transport is as in the daemon."""
    seen: list[Any] = []
    now = time.monotonic()

    def service(host: Host[Any]) -> Any:
        assert host.reactor.seconds() >= now
        host.log.info("nobody hears this")
        return ThawingService(seen.append)

    def connection(transport: Any, state: Any) -> None:
        seen.append((transport.peer.text, transport.unsent, transport.getHost().port, state))
        transport.setTcpKeepAlive(True)
        transport.registerProducer(transport, True)
        transport.write(b"answer" * 100_000)
        transport.unregisterProducer()
        transport.pauseProducing()
        transport.resumeProducing()
        transport.getTcpNoDelay()
        transport.loseWriteConnection()
        transport.loseConnection()

    def datagrams(host: Host[Any]) -> Any:
        class Datagrams(DatagramProtocol):
            def thaw(self, state: Any) -> None:
                assert host.service is not None
                seen.append((state, self.transport.send(b"x", Peer.inet(("127.0.0.1", 9)))))

        return Datagrams()

    plan = lobby(service=service, stream=factory(connection), datagram=datagrams)
    state = HandedEndpoint(
        "probe",
        service=({"rooms": 2},),
        connections=(
            frozen("first", Peer.inet(("192.0.2.1", 50)), unsent=b"rest"),
            frozen(b"second", Peer.inet(("::ffff:192.0.2.1", 50, 0, 0))),
        ),
        datagrams={"udp://127.0.0.1:7007": [[1]]},
    )
    assert rehearse(plan, lobby=state) == []
    assert seen == [
        {"rooms": 2},
        ("192.0.2.1:50", 4, 7007, "first"),
        ("192.0.2.1:50", 0, 7007, b"second"),
        ([1], True),
    ]


def test_unix_peers_rehearse_too(frozen: Any) -> None:
    """Their sockets have no port."""
    seen = []
    plan = lobby(stream=factory(lambda transport, _: seen.append((transport.getHost(), transport.peer.uid))))
    state = HandedEndpoint("probe", connections=(frozen(None, Peer.unix(0, 1), listener="unix:///x"),))
    assert rehearse(plan, lobby=state) == []
    assert [uid for _, uid in seen] == [0]


def test_an_endpoint_that_hands_nothing_over_is_not_built() -> None:
    """Whatever becomes of it, no client notices the upgrade."""
    plan = plan_of(House().plan(ADDRESS, stream=broken, service=None))
    assert rehearse(plan, lobby=HandedEndpoint("probe"), gone=HandedEndpoint("echo")) == []


@pytest.mark.parametrize(
    ("made", "state", "said"),
    [
        ({"service": broken}, {}, "its service: KeyError: 'room'"),
        ({"service": lambda _: ThawingService(broken)}, {"service": [1]}, "its service: KeyError: 'room'"),
        ({"service": lambda _: object()}, {"service": [1]}, "'object' object has no attribute 'thaw'"),
        ({}, {"service": [1]}, "its service: LookupError: this version of the protocol has no service"),
        ({"datagram": broken}, {"datagrams": {"udp://[::1]:9": [1]}}, "udp://[::1]:9: KeyError: 'room'"),
        ({}, {"datagrams": {"udp://[::1]:9": [1]}}, "this version of the protocol has no datagrams"),
    ],
)
def test_what_can_not_go_on_is_told(made: dict[str, Any], state: dict[str, Any], said: str) -> None:
    """The endpoint, which part of it, and the error with its place."""
    [line] = rehearse(lobby(**made), lobby=HandedEndpoint("probe", **state))
    assert line.startswith("lobby: ")
    assert said in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (None, "its factory: LookupError: this version of the protocol has no streams"),
        (broken, "its factory: KeyError: 'room'"),
        (factory(broken), "thaw: KeyError: 'room'"),
        (factory(lambda *_: exec("raise SystemExit(0)")), "thaw: SystemExit: 0"),
        (lambda _: Factory.forProtocol(Protocol), "thaw: AttributeError: 'Protocol' object has no attribute"),
        (lambda _: House().plan(), "a connection: AttributeError: 'EndpointPlan' object has no attribute"),
    ],
)
def test_connections_that_can_not_go_on_are_told(frozen: Any, stream: Any, said: str) -> None:
    """A hundred that fail alike make one line."""
    state = HandedEndpoint("probe", connections=tuple(frozen(n) for n in range(100)))
    [line] = rehearse(lobby(stream=stream), lobby=state)
    assert line.startswith(f"lobby: {said}")
    assert line.endswith(" (100 times)") == (not said.startswith("its factory"))


def test_a_connection_that_the_protocol_refuses_now_is_told(frozen: Any) -> None:
    """It would be cut."""

    class Refusing(Factory):
        def buildProtocol(self, addr: Any) -> None:
            return None

    [line] = rehearse(lobby(stream=lambda _: Refusing()), lobby=HandedEndpoint("probe", (), (frozen(),)))
    assert "refuses it" in line


@pytest.mark.parametrize("changes", [{"end": "no word"}, {"unsent_limit": None}, {"peer": 3}])
def test_a_connections_own_state_may_be_of_another_version(frozen: Any, changes: dict[str, Any]) -> None:
    """An older program may not know what a newer one says."""
    connection = frozen()
    connection.transport.update(changes)
    state = HandedEndpoint("probe", connections=(connection,))
    [line] = rehearse(lobby(stream=factory(broken)), lobby=state)
    assert line.startswith("lobby: a connection: ")


def test_a_service_and_a_datagram_protocol_may_fail_in_their_own_ways(frozen: Any) -> None:
    """By the calls that they have for it."""

    def service(host: Host[Any]) -> Any:
        return ThawingService(lambda state: host.fail(ValueError(state)))

    [line] = rehearse(lobby(service=service), lobby=HandedEndpoint("probe", ("old",)))
    assert line == "lobby: its service failed: ValueError: old"

    class Complains(DatagramProtocol):
        def thaw(self, state: Any) -> None:
            try:
                broken()
            except KeyError:
                self.transport.failed("datagram")

    [line] = rehearse(
        lobby(datagram=lambda _: Complains()), lobby=HandedEndpoint("probe", datagrams={"udp://x": [None]})
    )
    assert line.startswith("lobby: datagram: KeyError: 'room'")


def test_the_file_must_be_the_one_that_runs(frozen: Any) -> None:
    """Connections of an endpoint that is gone, or is another protocol's now, would have nobody."""
    state = HandedEndpoint("probe", connections=(frozen(),))
    assert rehearse(plan_of(), lobby=state) == [
        "lobby: it runs probe and is not in the file any more: reload first"
    ]
    other = HandedEndpoint("echo", connections=(frozen(),))
    assert rehearse(lobby(), lobby=other) == [
        "lobby: it runs echo and is probe in the file now: reload first"
    ]


def names(*kinds: Any) -> set[str]:
    """What these interfaces and classes offer: names without an underscore."""
    found: set[str] = set()
    for kind in kinds:
        found |= set(kind.names(all=True)) if isinstance(kind, InterfaceClass) else {
            name for base in kind.__mro__ for name in (*vars(base), *getattr(base, "__annotations__", ()))
        }  # fmt: skip
    return {name for name in found if not name.startswith("_")}


def as_promised(port: DeafPort, reactor: StillReactor) -> tuple[DatagramTransport, Reactor]:
    """Never called: for mypy, which knows the arguments as well."""
    return port, reactor


@pytest.mark.parametrize(
    ("stand_in", "promises"),
    [
        (StillReactor(), names(Reactor, IReactorCore, IReactorTime, IReactorFDSet, IReactorThreads)),
        (DeafPort(broken), names(DatagramTransport)),
        (DeafSocket(Peer.inet(("127.0.0.1", 9)), ADDRESS), names(socket.socket)),
        (StillConnection, names(StreamTransport, ITCPTransport, IConsumer, IPushProducer)),
    ],
    ids=["reactor", "port", "socket", "connection"],
)
def test_stand_ins_are_complete(stand_in: Any, promises: set[str]) -> None:
    """A protocol may use all that the contract and Twisted's interfaces offer it."""
    assert promises <= set(dir(stand_in))


def test_nothing_happens_on_the_stage(frozen: Any) -> None:
    """A thawed protocol may do whatever a transport, a port and a reactor are for: nothing comes of it."""
    called: list[object] = []

    def connection(transport: Any, _: Any) -> None:
        transport.write(b"x" * 100_000)
        sock = transport.getHandle()
        for method in (sock.recv, sock.sendmsg, sock.accept):
            with pytest.raises(BlockingIOError):
                method(1)
        assert sock.getpeername() == ("192.0.2.1", 50)
        assert sock.getsockopt(1, 2, 8) == bytes(8)
        sock.settimeout(3)
        transport.name = "somebody"
        called.append(transport.unsent)

    def datagrams(host: Host[Any]) -> Any:
        reactor: Any = host.reactor

        class Datagrams(DatagramProtocol):
            def thaw(self, _state: Any) -> None:
                self.transport.send_many([(b"x", Peer.inet(("127.0.0.1", 9)))] * 3)
                reactor.addSystemEventTrigger("before", "shutdown", called.append, 1)
                reactor.callInThread(called.append, 1)
                reactor.getThreadPool().callInThreadWithCallback(None, called.append, 1)
                reactor.resolve("nowhere").addBoth(called.append)
                host.later(called.append, 1)
                called.append(reactor.running)

        return Datagrams()

    plan = lobby(stream=factory(connection), datagram=datagrams)
    state = HandedEndpoint(
        "probe", connections=(frozen(None, Peer.inet(("192.0.2.1", 50))),), datagrams={ADDRESS: [None]}
    )
    assert rehearse(plan, lobby=state) == []
    assert called == [100_000, True]


def test_the_shipped_protocols_rehearse(tmp_path: Path) -> None:
    """What they freeze, they can thaw; line-log opens no file for it."""
    file = tmp_path / "sockd.yaml"
    file.write_text(
        "endpoints:\n"
        "  echo: {listen: 'tcp://127.0.0.1:7', protocol: echo, options: {prefix: '> '}}\n"
        "  lobby: {listen: ['tcp://127.0.0.1:8', 'udp://127.0.0.1:8'], protocol: chat}\n"
        "  log: {listen: 'tcp://127.0.0.1:9', protocol: line-log, options: {path: a.log}}\n"
    )
    plan = read(file, Directories(tmp_path, tmp_path / "logs"))
    states = {endpoint.name: _run(endpoint) for endpoint in plan.endpoints}
    assert rehearse(plan, **states) == []
    assert not (tmp_path / "logs").exists()


def _run(endpoint: EndpointPlan) -> HandedEndpoint:
    """What an endpoint hands over that has one connection, from which half a line has come."""
    specification, reactor = endpoint.specification, StillReactor()
    host: Host[Any] = Host(endpoint.name, endpoint.options, reactor, House().log.log, lambda _: None)
    service: tuple[Any, ...] = ()
    if specification.service is not None:
        host.service = specification.service(host)
        frozen = host.service.freeze()
        if hasattr(frozen, "addCallback"):
            results: list[Any] = []
            frozen.addCallback(results.append)
            frozen = results[0]
        service = (frozen,)
    assert specification.stream is not None
    exchange = Exchange(Probe())
    protocol = specification.stream(host).buildProtocol(None)
    connection = exchange.connection
    connection.protocol = protocol
    protocol.makeConnection(connection)
    protocol.dataReceived(b"half a line")
    handed = HandedConnection(connection.hand_over(), protocol.freeze())
    datagrams = {}
    if specification.datagram is not None:
        datagram: Any = specification.datagram(host)
        datagram.start(DeafPort(lambda _: None))
        if hasattr(datagram, "freeze"):
            datagrams["udp://127.0.0.1:8"] = [datagram.freeze()]
    exchange.close()
    return HandedEndpoint(endpoint.protocol, service, (handed,), datagrams)
