"""One program after the other: frozen, encoded, decoded and thawed, over the same sockets; nobody notices."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel

from sockd.base.addresses import Address, Kind
from sockd.base.errors import SockdError
from sockd.plan.plan import EndpointPlan
from sockd.protocols.chat.options import ChatOptions
from sockd.protocols.chat.specification import specification as chat
from sockd.protocols.echo.specification import EchoOptions
from sockd.protocols.echo.specification import specification as echo
from sockd.protocols.line_log.options import LineLogOptions
from sockd.protocols.line_log.specification import specification as line_log
from sockd.systemd.inherited import address_of
from sockd.transports.sockets.opening import Opened
from sockd.transports.sockets.options import SocketOptions
from sockd.tree.sockets import Sockets
from sockd.upgrade import thawing
from sockd.upgrade.value import HandedEndpoint, Handover
from tests.daemons import Daemons, Running
from tests.tree.house import Datagrams, House, Probes, Service, raising
from tests.upgrade.succession import PROCESS, Lastings, Upgrade, succeeded

TCP, UDP = "tcp://127.0.0.1:0", "udp://127.0.0.1:0"


Replaced = Callable[..., Running]


@pytest.fixture
def replaced(run: Daemons, monkeypatch: pytest.MonkeyPatch) -> Iterator[Replaced]:
    """Upgrades a daemon, rehearsal included; the one that goes on, with this plan or the same."""
    begun: list[Upgrade] = []

    def make(running: Running, plan: Any = None, *, rehearse: bool = True, ask: Any = None) -> Running:
        upgrade = Upgrade(running, monkeypatch, PROCESS)
        begun.append(upgrade)
        upgrade.exec = None
        if rehearse:
            upgrade.rehearse_really(running.plan)
        if ask is None:
            upgrade.course.by_signal()
        else:
            ask()
        run.house.run_clock(lambda: upgrade.handed or running.daemon.last_upgrade)
        assert upgrade.handed is not None, running.daemon.last_upgrade
        return succeeded(run, upgrade, plan)

    yield make
    for each in begun:
        each.close()


def of(plan: EndpointPlan, specification: Any, options: Any) -> EndpointPlan:
    """An endpoint with a protocol of sockd's own."""
    return replace(plan, specification=specification, options=options, protocol="real")


def one_by_one(*makers: Callable[[], Any]) -> Callable[[Any], Any]:
    """Makes another one each time: in the old program, in the rehearsal if there is one, in the new."""
    left = list(makers)
    return lambda _host: left.pop(0)()


def given(*instances: Any) -> Callable[[Any], Any]:
    """The same for what there is already."""
    left = list(instances)
    return lambda _host: left.pop(0)


def lines(house: House, client: socket.socket, *expected: str) -> None:
    """Exactly these come."""
    data = "".join(f"{line}\n" for line in expected).encode()
    assert house.receive(client, len(data)).decode() == data.decode()


# -- sockd's own protocols


def test_echo(house: House, run: Daemons, replaced: Replaced, tmp_path: Path) -> None:
    """In the middle of a line, on all kinds of sockets; the next program serves newcomers in the backlog."""
    address = (TCP, UDP, f"unix://{tmp_path}/a")
    plan = of(house.plan(*address), echo, EchoOptions(prefix="> "))
    running = run(plan).start()
    tcp, udp, path = (listener.address for listener in running.daemon.endpoints[0].listeners)
    client, local = house.connect(tcp, b"hel"), house.connect(path, b"hel")
    assert [house.receive(each, 5) for each in (client, local)] == [b"> hel"] * 2
    datagrams = house.connect(udp, b"hello")
    assert house.receive(datagrams, 5) == b"hello"
    for _ in range(2):
        running = replaced(running, running.plan)
        waiting = house.connect(tcp, b"new")
        assert [listener.address for listener in running.daemon.endpoints[0].listeners] == [tcp, udp, path]
        for each in (client, local):
            each.send(b"lo\nhel")
            assert house.receive(each, 8) == b"lo\n> hel"
        datagrams.send(b"again")
        assert house.receive(datagrams, 5) == b"again"
        assert house.receive(waiting, 5) == b"> new"
    assert Path(path.path).is_socket()
    running.stop()
    assert not Path(path.path).exists()


def test_chat(house: House, run: Daemons, replaced: Replaced) -> None:
    """Names, rooms and half a line go on; no member hears of it."""
    running = run(of(house.plan(TCP), chat, ChatOptions(history=0))).start()
    alice, bob = house.connect(running.address()), house.connect(running.address())
    alice.send(b"/nick alice\n")
    bob.send(b"/nick bob\n")
    house.until(lambda: b"alice" in peek(bob) and b"now bob" in peek(bob), bob)
    house.until(lambda: b"bob" in peek(alice), alice)
    alice.send(b"hello ")
    for client in (alice, bob):
        drop(house, client)
    running = replaced(running)
    house.run_clock(lambda: house.loop.seconds() > 5.0)
    alice.send(b"everybody\n")
    lines(house, bob, "<alice> hello everybody")
    bob.send(b"hi\n")
    lines(house, alice, "<bob> hi")
    assert len(running.daemon.endpoints[0].connections) == 2


def test_sources_are_counted_on(house: House, run: Daemons, replaced: Replaced) -> None:
    """A connection that came over counts as before, and is released once."""
    running = run(of(house.plan(TCP, connections_per_source=2), echo, EchoOptions())).start()
    clients = [running.connect() for _ in range(2)]
    running = replaced(running)
    (endpoint,) = running.daemon.endpoints
    assert house.receive(house.connect(running.address()), 1) == b""
    for client in clients:
        client.close()
    house.until(lambda: not len(endpoint.connections))
    assert not endpoint.connections.admission.counted
    for _ in range(2):
        running.connect()
    assert house.receive(house.connect(running.address()), 1) == b""
    assert endpoint.listeners[0].counters.refused == {"connections_per_source": 2}


def peek(client: socket.socket) -> bytes:
    try:
        return client.recv(65536, socket.MSG_PEEK)
    except BlockingIOError:
        return b""


def drop(house: House, client: socket.socket) -> None:
    """What came so far is of no interest."""
    house.loop.settle()
    while peek(client):
        client.recv(65536)


def written(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def test_line_log(house: House, run: Daemons, replaced: Replaced, tmp_path: Path) -> None:
    """Each line whole and once, though it came in two halves to two programs."""
    options = LineLogOptions(path=tmp_path / "app.log", format="raw", max_line=1024, mode=0o600)
    running = run(of(house.plan(TCP), line_log, options)).start()
    house.until(lambda: running.served)
    client = house.connect(running.address(), b"one\ntw")
    house.until(lambda: written(tmp_path / "app.log") == b"one\n")
    # A real thread writes, and the clock of the loop waits for nobody.
    house.until(lambda: running.daemon.endpoints[0].host.service.freeze().called)
    running = replaced(running)
    house.until(lambda: running.served)
    client.send(b"o\nthree\n")
    house.until(lambda: written(tmp_path / "app.log") == b"one\ntwo\nthree\n")


# -- what goes on


def test_who_and_how_much(house: House, run: Daemons, replaced: Replaced) -> None:
    """Ids, since when, counters and refusals; the next connection has the next id, or a later one."""
    running = run(house.plan(TCP, stream=Lastings())).start()
    client = running.connect(b"hello")
    running.daemon.endpoints[0].host.counters.refused["source network"] += 3
    running.told("reload")
    house.loop.advance(60.0)
    before, listed = running.told("status"), running.told("connections", endpoint=None, after=0, most=10)
    running = replaced(running)
    assert running.went_on == 1
    after = running.told("status")
    assert after["uptime"] == before["uptime"]
    assert after["reload"]["message"] == "1 unchanged"
    assert after["reload"]["at"] >= before["reload"]["at"]
    for key in ("connections", "refused", "listeners"):
        assert moments_apart(after["endpoints"][0][key]) == moments_apart(before["endpoints"][0][key])
    again = running.told("connections", endpoint=None, after=0, most=10)
    assert moments_apart(again) == moments_apart(listed)
    client.send(b"again")
    assert house.receive(client, 5) == b"again"
    (protocol,) = [connection.protocol for connection in running.daemon.endpoints[0].connections]
    assert protocol.data == b"helloagain"
    assert protocol.made == 0
    running.connect()
    first, second = running.told("connections", endpoint=None, after=0, most=10)["connections"]
    assert second["id"] > first["id"] == 1


def test_accounts_of_sources(house: House, run: Daemons, replaced: Replaced) -> None:
    """Who came, and who was refused for what; and the log doesn't say again what it has said."""
    running = run(house.plan(TCP, stream=Lastings(), connections_per_source=1)).start()
    running.connect()
    house.connect(running.address())
    house.until(lambda: running.daemon.endpoints[0].listeners[0].counters.refused)
    running.daemon.endpoints[0].log_refusals()
    sources = {"endpoint": None, "by": "connections", "most": 10}
    before = running.told("sources", **sources)
    assert before["sources"][0]["refused"] == {"connections_per_source": 1}
    logged = len(house.log.named("refused"))
    running = replaced(running)
    assert moments_apart(running.told("sources", **sources)) == moments_apart(before)
    running.daemon.endpoints[0].log_refusals()
    assert len(house.log.named("refused")) == logged


def moments_apart(value: Any) -> Any:
    """Without what says when: the wall clock's milliseconds are not the reactor's."""
    if isinstance(value, dict):
        return {key: moments_apart(inner) for key, inner in value.items() if key not in ("since", "last")}
    return [moments_apart(inner) for inner in value] if isinstance(value, list) else value


def test_what_nobody_read_yet(house: House, run: Daemons, replaced: Replaced) -> None:
    """Unsent bytes go out, and what came in between is read."""
    running = run(house.plan(TCP, stream=Lastings())).start()
    client = running.connect()
    (connection,) = running.daemon.endpoints[0].connections
    long = b"y" * 2_000_000  # more than the kernel takes
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    connection.limit_unsent(2 * len(long))
    connection.protocol.transport.write(long)
    house.loop.turn()
    assert connection.unsent
    client.send(b"more")
    running = replaced(running)
    assert house.receive(client, len(long) + 4) == long + b"more"


def test_suspended_stays_suspended(house: House, run: Daemons, replaced: Replaced) -> None:
    """Connections that are there are served, newcomers wait until it is resumed."""
    running = run(house.plan(TCP, stream=Lastings())).start()
    client = running.connect()
    running.told("suspend", endpoint="lobby")
    running = replaced(running)
    assert running.told("status")["endpoints"][0]["causes"] == ["suspended"]
    client.send(b"x")
    assert house.receive(client, 1) == b"x"
    waiting = house.connect(running.address(), b"y")
    house.loop.settle()
    assert len(running.daemon.endpoints[0].connections) == 1
    running.told("resume", endpoint="lobby")
    assert house.receive(waiting, 1) == b"y"


def test_its_limit_holds(house: House, run: Daemons, replaced: Replaced) -> None:
    """Those that went on count."""
    running = run(house.plan(TCP, stream=Lastings(), connections=1)).start()
    client = running.connect()
    running = replaced(running)
    assert running.told("status")["endpoints"][0]["causes"] == ["at its limit"]
    client.close()
    house.until(lambda: not running.daemon.endpoints[0].causes)
    running.connect()


class Remembering(Service):
    """Has a state, which it had before it was started."""

    def __init__(self, *then: Callable[[], Any]) -> None:
        super().__init__(*then)
        self.state: Any = {"said": 7}
        self.events: list[str] = []

    def freeze(self) -> Any:
        return self.state

    def thaw(self, state: Any) -> None:
        self.state = state
        self.events.append("thaw")

    def startService(self) -> Any:
        self.events.append("start")
        return super().startService()


def test_a_service(house: House, run: Daemons, replaced: Replaced) -> None:
    """It is thawed, then started, then come its connections and datagram protocols."""
    old, rehearsed, new = services = [Remembering() for _ in range(3)]
    old.state = {"said": 8}
    running = run(house.plan(TCP, stream=Lastings(), service=given(*services))).start()
    running.connect()
    running = replaced(running)
    assert (old.events, rehearsed.events, new.events) == (["start"], ["thaw"], ["thaw", "start"])
    assert new.state == {"said": 8}
    assert running.went_on == 1


def test_a_service_that_is_down(house: House, run: Daemons, replaced: Replaced) -> None:
    """Its connections go on, and are held until it is up."""
    new = Remembering(raising(SockdError("the disk is full")))
    maker = given(Remembering(), Remembering(), new)
    running = run(house.plan(TCP, stream=Lastings(), service=maker)).start()
    client = running.connect()
    running = replaced(running)
    assert running.went_on == 1
    client.send(b"held")
    house.loop.settle()
    assert running.told("status")["endpoints"][0]["causes"] == ["held"]
    assert peek(client) == b""
    house.run_clock(lambda: running.daemon.endpoints[0].running)
    assert house.receive(client, 4) == b"held"
    assert new.events == ["thaw", "start", "start"]


class Remember(Datagrams):
    """Knows in the next program what it was sent in this one."""

    def freeze(self) -> Any:
        return [bytes(each) for each in self.data]

    def thaw(self, state: Any) -> None:
        assert self.calls == ["start"]
        self.data += state


def remembered(running: Running) -> list[list[bytes]]:
    """What each listener's protocol was sent."""
    protocols: list[Any] = [one.protocol for one in running.daemon.endpoints[0].datagram_listeners]
    return [list(protocol.data) for protocol in protocols]


def test_a_datagram_protocol(house: House, run: Daemons, replaced: Replaced) -> None:
    """It is thawed once it was started, when its service runs and not before."""
    later: Deferred[None] = Deferred()
    maker = given(Service(), Service(), Service(lambda: later))
    running = run(house.plan(UDP, datagram=lambda _host: Remember(), service=maker)).start()
    client = house.connect(running.address(), b"one")
    assert house.receive(client, 3) == b"one"
    running = replaced(running)
    (listener,) = running.daemon.endpoints[0].datagram_listeners
    assert listener.protocol is None
    later.callback(None)
    assert isinstance(listener.protocol, Remember)
    assert listener.protocol.data == [b"one"]
    assert listener.counters.datagrams_in == 1


def test_datagram_protocols_that_share_an_address(house: House, run: Daemons, replaced: Replaced) -> None:
    """With `reuse_port` the kernel gives each peer to one of the sockets: there its state is found again."""
    with socket.socket(type=socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        address = Address(Kind.UDP, *free.getsockname())
    shared = SocketOptions(reuse_port=True)
    running = run(house.plan(address, address, datagram=lambda _: Remember(), sockets=shared)).start()
    clients = [house.connect(address, b"%d" % number) for number in range(8)]
    assert [house.receive(client, 1) for client in clients] == [b"%d" % number for number in range(8)]
    before = remembered(running)
    assert sorted(before[0] + before[1]) == [b"%d" % number for number in range(8)]
    running = replaced(running)
    assert remembered(running) == before
    for number, client in enumerate(clients):
        client.send(b"%d" % number)
        assert house.receive(client, 1) == b"%d" % number
    assert [set(each) for each in remembered(running)] == [set(each) for each in before]


def test_several_sockets_of_one_name(house: House, run: Daemons, replaced: Replaced) -> None:
    """systemd's are had by name again, each with what was counted there."""

    def passed() -> tuple[Opened, socket.socket]:
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        return Opened(sock, Address(Kind.TCP, *sock.getsockname()), ours=False), sock

    sockets = [passed()[0] for _ in range(2)]
    running = run(house.plan("systemd://web", stream=Lastings()), sockets=Sockets({"web": sockets})).start()
    addresses = [listener.address for listener in running.daemon.endpoints[0].listeners]
    for address in (addresses[1], addresses[1], addresses[0]):
        client = house.connect(address, b"x")
        assert house.receive(client, 1) == b"x"
    running = replaced(running)
    listeners = running.daemon.endpoints[0].listeners
    assert [listener.address for listener in listeners] == addresses
    assert [listener.counters.accepted for listener in listeners] == [1, 2]
    assert not any("no endpoint listens" in message for message in running.log.messages())
    running.connect()
    running.stop()
    for opened in running.daemon.around.sockets.passed["web"]:
        opened.sock.close()


def test_a_multicast_socket_of_systemds(house: House, run: Daemons, replaced: Replaced) -> None:
    """It can't be written in the file, but a .socket unit may have it."""
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(("224.0.0.1", 0))
    opened = Opened(sock, address_of(sock), ours=False)
    plan = house.plan("systemd://web", datagram=lambda _host: Datagrams())
    running = replaced(run(plan, sockets=Sockets({"web": [opened]})).start())
    (listener,) = running.daemon.endpoints[0].listeners
    assert listener.address == opened.address
    running.stop()
    running.daemon.around.sockets.passed["web"][0].sock.close()


def test_who_asked_is_answered(house: House, run: Daemons, replaced: Replaced, tmp_path: Path) -> None:
    """By the new program, on the old connection, where what was asked next is answered then as well."""
    control = Address(Kind.UNIX, path=f"{tmp_path}/control")
    running = run(house.plan(TCP, stream=Lastings()), control=control).start()
    client = house.connect(control)
    asked = b'{"version": 1, "command": "upgrade"}\n{"version": 1, "command": "status"'
    running = replaced(running, ask=lambda: client.send(asked))
    (asker,) = running.askers
    asker.answer({"version": "2"})
    client.send(b"}\n")
    expected = (
        b'{"version":1,"ok":true,"result":{"version":"2"}}\n{"version":1,"ok":true,"result":{"version":'
    )
    assert house.receive(client, len(expected)) == expected
    assert Path(control.path).is_socket()


def test_who_asked_without_a_control_socket(
    house: House, run: Daemons, replaced: Replaced, tmp_path: Path
) -> None:
    """The file has none by now: the connection is closed."""
    control = Address(Kind.UNIX, path=f"{tmp_path}/control")
    running = run(house.plan(TCP, stream=Lastings()), control=control).start()
    client = house.connect(control)
    without = replace(running.plan, control=None)
    asked = b'{"version": 1, "command": "upgrade"}\n'
    running = replaced(running, without, ask=lambda: client.send(asked))
    assert not running.askers
    assert house.receive(client, 1) == b""
    assert not Path(control.path).exists()


# -- what can't go on


def test_the_file_changed_after_the_rehearsal(house: House, run: Daemons, replaced: Replaced) -> None:
    """Connections of an endpoint that is gone, or has another protocol, are closed and logged."""
    running = run(
        house.plan(TCP, stream=Lastings(), name="gone"),
        house.plan(TCP, stream=Lastings(), name="other"),
        house.plan(TCP, stream=Lastings(), name="stays"),
    ).start()
    clients = [running.connect(endpoint=number) for number in range(3)]
    _, other, stays = running.plan.endpoints
    running = replaced(running, replace(running.plan, endpoints=(replace(other, protocol="else"), stays)))
    assert running.went_on == 1
    assert [house.receive(client, 1) for client in clients[:2]] == [b"", b""]
    assert running.log.messages(LogLevel.warn) == [
        "gone: a connection can't go on", "other: a connection can't go on",
    ]  # fmt: skip
    clients[2].send(b"x")
    assert house.receive(clients[2], 1) == b"x"
    other_endpoint = running.daemon.by_name["other"]
    assert other_endpoint.listeners[0].counters.accepted == 0


def test_the_address_of_a_connection_is_gone(house: House, run: Daemons, replaced: Replaced) -> None:
    """It goes on without its listener."""
    running = run(house.plan(TCP, TCP, stream=Lastings())).start()
    client = running.connect()
    (plan,) = running.plan.endpoints
    running = replaced(running, replace(running.plan, endpoints=(replace(plan, listeners=()),)))
    assert running.went_on == 1
    client.send(b"x")
    assert house.receive(client, 1) == b"x"


@pytest.mark.parametrize(("fault", "end"), [
    ("buildProtocol", "protocol failed"), ("refuse", "refused by the protocol"), ("thaw", "protocol failed"),
])  # fmt: skip
def test_a_protocol_that_fails_after_all(
    fault: str, end: str, house: House, run: Daemons, replaced: Replaced
) -> None:
    """Though the rehearsal went well: it costs that connection, and the log says so."""
    running = run(house.plan(TCP, stream=one_by_one(Lastings, lambda: Lastings(fault)))).start()
    client = running.connect()
    running = replaced(running, rehearse=False)
    assert running.went_on == 0
    assert house.receive(client, 1) == b""
    assert [str(event["end"]) for event in running.log.named("connection ended")] == [end]
    assert not running.daemon.endpoints[0].connections
    if fault == "refuse":
        assert running.daemon.endpoints[0].listeners[0].counters.refused == {"by the protocol": 1}


def test_a_factory_that_fails_after_all(house: House, run: Daemons, replaced: Replaced) -> None:
    """Nobody could serve its connections."""
    running = run(house.plan(TCP, stream=one_by_one(Lastings, raising(SockdError("no"))))).start()
    client = running.connect()
    running = replaced(running, rehearse=False)
    assert house.receive(client, 1) == b""
    assert "lobby: a connection can't go on" in running.log.messages(LogLevel.warn)


def test_what_another_version_did_not_count(house: House, run: Daemons) -> None:
    """Nothing is asked for that may be missing."""
    running = run(house.plan(TCP, stream=Probes()))
    endpoint = running.daemon.endpoints[0]
    for counters in (
        None,
        {},
        {"listeners": [{}, {"address": TCP}, {"address": "tcp://*:1", "counters": {}}]},
    ):
        state = HandedEndpoint("probe", counters=counters)
        thawing.before_start(running.daemon, Handover("", "", "", 0.0, endpoints={endpoint.name: state}))
    assert not endpoint.listeners[0].counters.accepted
