"""What each command does to a running daemon, and what it says came of it."""

import inspect
import math
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from sockd import __version__
from sockd.base.peers import Peer
from sockd.commands import Effects
from sockd.control.commands import COMMANDS
from sockd.protocols.contract import DatagramProtocol, Host, Member
from tests.daemons import DRAIN, Daemons, Running
from tests.transports.loop import Probe, echo
from tests.tree.house import Datagrams, House, Probes, Service

TCP, UDP = "tcp://127.0.0.1:0", "udp://127.0.0.1:0"


@pytest.fixture
def two(house: House, run: Daemons) -> Running:
    """A daemon with two endpoints, `one` and `two`."""
    return run(
        house.plan(TCP, stream=Probes(), name="one"), house.plan(TCP, stream=Probes(), name="two")
    ).start()


def listed(running: Running, endpoint: str | None = None, after: int = 0, most: int = 1000) -> Any:
    return running.told("connections", endpoint=endpoint, after=after, most=most)


def kick(
    running: Running, connections: list[int] | None = None, *who: str, endpoint: str | None = None
) -> Any:
    return running.told("kick", connections=connections, who=list(who) or None, endpoint=endpoint)


def unfinished(running: Running, number: int) -> None:
    """Have the connection with this number not finish by itself."""
    for endpoint in running.daemon.endpoints:
        for server in endpoint.connections:
            if server.number == number:
                server.pauseProducing()


def test_every_command_that_is_declared_does_something(two: Running) -> None:
    """With just the arguments that its declaration has; `upgrade` comes from the program."""
    assert set(two.daemon.commands) == set(COMMANDS)
    for name, command in COMMANDS.items():
        takes = inspect.signature(two.daemon.commands[name]).parameters
        assert list(takes) == [argument.name for argument in command.arguments], name


def test_what_commands_do_is_declared() -> None:
    """No effect is without a declaration: no request could ask for it."""
    effects = {name for name in vars(Effects) if not name.startswith("_")}
    assert effects == set(COMMANDS) - {"upgrade"}


@pytest.mark.parametrize("command", ["suspend", "resume", "restart", "drain", "connections"])
def test_an_endpoint_that_is_not_there(command: str, two: Running) -> None:
    """64, and the nearest there is."""
    more = {"after": 0, "most": 1} if command == "connections" else {}
    assert two.refused(two.ask(command, endpoint="tow", **more)) == (
        os.EX_USAGE, ("there is no endpoint 'tow', did you mean 'two'?",)
    )  # fmt: skip


def test_a_name_that_is_none(two: Running) -> None:
    """However long it is and whatever is in it, the answer is one line that can be read."""
    ((line,)) = two.refused(two.ask("suspend", endpoint="\x1b\n" * 1000))[1]
    assert line.isprintable()
    assert len(line) < 700


# -- looking


def test_status(two: Running) -> None:
    """The program, and every endpoint in the order of the file."""
    two.house.loop.advance(12.5)
    status = two.told("status")
    assert [endpoint["name"] for endpoint in status.pop("endpoints")] == ["one", "two"]
    assert status == {
        "version": __version__,
        "pid": os.getpid(),
        "uptime": 12.5,
        "file": "sockd.yaml",
        "state": "running",
        "reload": None,
        "upgrade": None,
        "disabled": [],
        "leaving": 0,
        "longest_hold": None,
        "control": {"refused": {}},
    }  # fmt: skip


def test_states(house: House, run: Daemons) -> None:
    """What the whole daemon is about."""
    starting: Deferred[None] = Deferred()
    running = run(house.plan(TCP, stream=Probes(), service=Service(lambda: starting)), drain=1.0).start()
    assert running.told("status")["state"] == "starting"
    starting.callback(None)
    assert running.told("status")["state"] == "running"
    running.daemon.upgrading = True
    assert running.told("status")["state"] == "upgrading"
    running.connect()
    unfinished(running, 1)
    stopped = running.daemon.stopService()
    assert running.told("status")["state"] == "stopping"
    assert not stopped.called


def test_who_leaves(house: House, run: Daemons) -> None:
    """Connections of an endpoint that is gone are counted and listed, and can be kicked, until they end."""
    running = run(house.plan(TCP, stream=Probes(), name="old")).start()
    running.connect()
    unfinished(running, 1)
    running.now(house.plan(TCP, stream=Probes(), name="new"))
    running.told("reload")
    status = running.told("status")
    assert (status["leaving"], [each["name"] for each in status["endpoints"]]) == (1, ["new"])
    (connection,) = listed(running)["connections"]
    assert (connection["id"], connection["endpoint"], connection["draining"]) == (1, "old", True)
    assert kick(running, [1]) == {"kicked": [1], "unknown": []}
    house.run_clock(lambda: not running.daemon.gone)
    assert listed(running)["connections"] == []


def test_connections(two: Running) -> None:
    """All, or an endpoint's, in the order they came in; page by page."""
    for endpoint in (1, 0, 1, 0):
        two.connect(endpoint=endpoint)
    everywhere = listed(two)
    assert [each["id"] for each in everywhere["connections"]] == [1, 2, 3, 4]
    assert [each["endpoint"] for each in everywhere["connections"]] == ["two", "one"] * 2
    assert not everywhere["more"]
    assert [each["id"] for each in listed(two, "one")["connections"]] == [2, 4]
    found: list[int] = []
    while True:
        page = listed(two, after=found[-1] if found else 0, most=3)
        found += [each["id"] for each in page["connections"]]
        if not page["more"]:
            break
    assert found == [1, 2, 3, 4]
    exactly = listed(two, most=4)
    assert (len(exactly["connections"]), exactly["more"]) == (4, False)


def test_one_connection(two: Running) -> None:
    """Its peer, its listener, its age and its bytes."""
    client = two.connect(b"hello")
    (connection,) = listed(two)["connections"]
    host, port = client.getsockname()
    assert connection.pop("since").startswith("20")
    assert connection == {
        "id": 1, "kind": "stream", "endpoint": "one", "listener": str(two.address()),
        "peer": f"{host}:{port}", "identity": "", "name": "", "idle": None,
        "bytes_in": 5, "bytes_out": 5, "unsent": 0, "dropped": 0, "draining": False,
    }  # fmt: skip


class Remembering(Datagrams):
    """Remembers each peer by the first word that it sent, from the time on at which it came."""

    def __init__(self, host: Host[Any]) -> None:
        super().__init__()
        self.clock = host.reactor
        self.there: list[Member] = []
        self.ended: list[tuple[str, str]] = []

    def datagram(self, data: bytes, peer: Peer) -> None:
        if all(member.peer != peer for member in self.there):
            self.there.append(Member(peer, data.decode(), self.clock.seconds(), 1.23456))

    def datagrams(self, batch: Sequence[tuple[bytes, Peer]]) -> None:
        DatagramProtocol.datagrams(self, batch)
        super().datagrams(batch)

    def members(self) -> Iterable[Member]:
        return self.there

    def end_member(self, peer: Peer, reason: str) -> bool:
        gone = [member for member in self.there if member.peer == peer]
        self.there = [member for member in self.there if member.peer != peer]
        self.ended += [(member.name, reason) for member in gone]
        return bool(gone)


@pytest.fixture
def both(house: House, run: Daemons) -> Running:
    """A daemon whose endpoint `one` has a stream listener and a datagram listener that remembers."""
    return run(house.plan(TCP, UDP, stream=Probes(), datagram=Remembering, name="one")).start()


def remembered(running: Running, name: bytes) -> socket.socket:
    """A client that the datagram listener has taken in under this name."""
    client = running.house.connect(running.address(0, 1), name)
    assert running.house.receive(client, len(name)) == name
    return client


def test_members_are_listed_as_connections_are(both: Running) -> None:
    """By the same ids, in the order in which they were seen, page by page, and marked."""
    both.connect()
    client = remembered(both, b"ann")
    listed(both)
    remembered(both, b"bob")
    pages = [listed(both, after=after, most=1) for after in range(3)]
    found = [page["connections"][0] for page in pages]
    assert [(each["id"], each["kind"], each["name"]) for each in found] == [
        (1, "stream", ""), (2, "datagram", "ann"), (3, "datagram", "bob")
    ]  # fmt: skip
    assert [page["more"] for page in pages] == [True, True, False]
    ann = found[1]
    assert (ann["peer"], ann["listener"]) == ("{}:{}".format(*client.getsockname()), str(both.address(0, 1)))
    assert ann["idle"] == 1.235
    assert {ann[key] for key in ("bytes_in", "bytes_out", "unsent")} == {None}
    assert set(ann) == set(found[0])


def test_members_are_kicked(both: Running) -> None:
    """By their ids, through their protocol; one that comes back is another."""
    both.connect()
    remembered(both, b"ann")
    client = remembered(both, b"bob")
    assert [each["id"] for each in listed(both)["connections"]] == [1, 2, 3]
    assert kick(both, [1, 3, 4]) == {
        "kicked": [1, 3],
        "unknown": [4],
    }
    both.house.loop.settle()
    assert [each["name"] for each in listed(both)["connections"]] == ["ann"]
    both.house.loop.advance(1)
    client.send(b"bob")
    assert both.house.receive(client, 3) == b"bob"
    assert [each["id"] for each in listed(both)["connections"]] == [2, 4]
    assert kick(both, [3]) == {"kicked": [], "unknown": [3]}


@pytest.mark.parametrize(
    "members",
    [
        lambda: 1 / 0,
        lambda: [None],
        lambda: [Member("ann", "ann")],  # type: ignore[arg-type]
        lambda: [Member(Peer.unix(0, 1), b"ann")],  # type: ignore[arg-type]
        lambda: [Member(Peer.unix(0, 1), "ann", math.nan)],
    ],
)
def test_a_protocol_whose_members_can_not_be_listed(
    members: Callable[[], Any], house: House, run: Daemons
) -> None:
    """Whatever it returns instead, the others are listed, and the log says whose fault it is."""
    protocol = Datagrams()
    protocol.members = members  # type: ignore[method-assign]
    running = run(house.plan(TCP, UDP, stream=Probes(), datagram=protocol, name="one")).start()
    running.connect()
    assert [each["id"] for each in listed(running)["connections"]] == [1]
    assert [event["where"] for event in running.log.named("protocol failed")] == ["members"]


def test_many_members_are_looked_at_in_pieces(house: House, run: Daemons) -> None:
    """A few in each event, however many there are; members may leave in between."""
    looked = 0

    def members() -> Iterable[Member]:
        nonlocal looked
        for number in range(1000):
            looked += 1
            yield Member(Peer.unix(0, number), "")

    protocol = Datagrams()
    protocol.members = members  # type: ignore[method-assign]
    running = run(house.plan(UDP, datagram=protocol, name="one")).start()
    asked = running.ask("connections", endpoint=None, after=0, most=1000)
    most = before = 0
    while not asked.called:
        most, before = max(most, looked - before), looked
        running.house.loop.advance(0)
    assert 0 < most < 100
    assert len(running.outcome(asked)["connections"]) == 1000


def test_two_list_the_members_at_the_same_time(both: Running) -> None:
    """Both get the same ids; a member that comes while they are found keeps the one that it gets."""
    remembered(both, b"ann")
    (listener,) = both.daemon.endpoints[0].datagram_listeners
    early = listener.members()
    first = [next(early)]
    remembered(both, b"bob")
    late = list(listener.members())
    first += early
    assert [number for number, _ in first] == [number for number, _ in late] == [1, 2]
    assert [number for number, _ in listener.members()] == [1, 2]


def test_what_a_protocol_calls_its_peer(house: House, run: Daemons) -> None:
    """The name is listed, and stands in the log when the connection ends; too long a one is cut."""
    names = iter(["ann", "x" * 1000])

    def call(probe: Probe) -> None:
        probe.transport.name = next(names)

    probes = Probes(lambda: Probe(echo, on_made=call))
    running = run(house.plan(TCP, stream=probes, name="one")).start()
    ann = running.connect()
    running.connect()
    assert [each["name"] for each in listed(running)["connections"]] == ["ann", "x" * 100]
    ann.close()
    house.until(lambda: running.log.named("connection ended"))
    (event,) = running.log.named("connection ended")
    assert event["name"] == "ann"
    assert f"one: {event['peer']} (ann) on tcp://" in running.log.messages()[-1]


# -- steering


def test_suspending_and_resuming(two: Running) -> None:
    """While suspended it accepts nothing and its connections stay; then those that waited are served."""
    client = two.connect()
    assert two.told("suspend", endpoint="one") == {"endpoint": "one"}
    assert two.told("status")["endpoints"][0]["causes"] == ["suspended"]
    waiting = two.house.connect(two.address(), b"hello")
    client.send(b"y")
    assert two.house.receive(client, 1) == b"y"
    two.connect(endpoint=1)
    assert len(listed(two, "one")["connections"]) == 1
    assert two.told("resume", endpoint="one") == {"endpoint": "one"}
    assert two.house.receive(waiting, 5) == b"hello"


def test_draining(two: Running) -> None:
    """Those that finish and those that are cut are told apart; then it is suspended."""
    for _ in range(3):
        two.connect()
    unfinished(two, 2)
    began = two.house.loop.seconds()
    asked = two.ask("drain", endpoint="one")
    status = two.told("status")["endpoints"][0]
    assert [one["causes"] for one in (status, *status["listeners"])] == [["draining", "suspended"]] * 2
    assert two.outcome(asked) == {"endpoint": "one", "finished": 2, "closed": 1}
    assert two.house.loop.seconds() - began == pytest.approx(DRAIN, abs=0.2)
    assert two.told("status")["endpoints"][0]["causes"] == ["suspended"]
    assert two.told("drain", endpoint="one") == {"endpoint": "one", "finished": 0, "closed": 0}


def test_draining_what_is_drained(two: Running) -> None:
    """Both are answered, and each counts what it found; no time is added."""
    two.connect()
    unfinished(two, 1)
    asked = [two.ask("drain", endpoint="one") for _ in range(2)]
    began = two.house.loop.seconds()
    assert [two.outcome(each)["closed"] for each in asked] == [1, 1]
    assert two.house.loop.seconds() - began == pytest.approx(DRAIN, abs=0.2)


def test_restarting(house: House, run: Daemons) -> None:
    """The connections finish, the service is made again, and it serves, even if it was suspended."""
    made: list[Service] = []

    def make(_host: object) -> Service:
        made.append(Service())
        return made[-1]

    running = run(house.plan(TCP, stream=Probes(), service=make, name="one")).start()
    client = running.connect()
    running.told("suspend", endpoint="one")
    assert running.told("restart", endpoint="one") == {"endpoint": "one"}
    assert house.receive(client, 1) == b""
    assert [(service.started, service.stopped) for service in made] == [(1, 1), (1, 0)]
    assert running.told("status")["endpoints"][0]["causes"] == []
    running.connect()


def test_kicking(two: Running) -> None:
    """Connections of any endpoint, each once; unknown ids are in the answer."""
    clients = [two.connect(endpoint=endpoint) for endpoint in (0, 1, 0)]
    assert kick(two, [3, 9, 2, 3, 7]) == {
        "kicked": [2, 3],
        "unknown": [7, 9],
    }
    assert [two.house.receive(client, 1) for client in clients[1:]] == [b"", b""]
    assert [each["id"] for each in listed(two)["connections"]] == [1]
    assert {event["end"] for event in two.log.named("connection ended")} == {"kicked"}


def test_kicking_by_anything_else(both: Running) -> None:
    """Addresses and names mean streams and datagram members alike; words that mean nobody are reported."""
    streams = [both.connect() for _ in range(2)]
    first = "{}:{}".format(*streams[0].getsockname())
    remembered(both, b"ann")
    remembered(both, b"bob")
    assert kick(both, None, first, "ann", "eve", "10.0.0.0/8") == {
        "kicked": [1, 3], "unknown": ["eve", "10.0.0.0/8"]
    }  # fmt: skip
    assert kick(both, [99], "127.0.0.0/8") == {"kicked": [2, 4], "unknown": [99]}
    both.house.loop.settle()
    assert listed(both)["connections"] == []


def test_kicking_from_one_endpoint(two: Running) -> None:
    """The others' connections stay."""
    for endpoint in (0, 1):
        two.connect(endpoint=endpoint)
    assert kick(two, None, "127.0.0.1", endpoint="two") == {"kicked": [2], "unknown": []}
    assert two.refused(two.ask("kick", connections=[1], who=None, endpoint="tow"))[0] == os.EX_USAGE


def test_kicking_nobody(two: Running) -> None:
    """A request has to say whom."""
    assert two.refused(two.ask("kick", connections=None, who=None, endpoint=None)) == (
        os.EX_USAGE, ("kick needs the argument connections or who",)
    )  # fmt: skip


def test_many_are_kicked_in_pieces(both: Running) -> None:
    """The loop has its turns in between; nobody is left out."""
    (protocol,) = (each.protocol for each in both.daemon.endpoints[0].datagram_listeners)
    assert isinstance(protocol, Remembering)
    protocol.there = [Member(Peer.inet(("192.0.2.1", port)), "x") for port in range(1, 501)]
    asked = both.ask("kick", connections=None, who=["x"], endpoint=None)
    assert 0 < len(protocol.ended) < 500
    assert len(both.outcome(asked)["kicked"]) == len(protocol.ended) == 500


def test_what_is_disabled(house: House, run: Daemons) -> None:
    """It is in the status, apart from what runs."""
    off = house.plan("unix:///run/off.sock", stream=Probes(), name="off")
    running = run(house.plan(TCP, stream=Probes(), name="one"), disabled=(off,)).start()
    status = running.told("status")
    assert [each["name"] for each in status["endpoints"]] == ["one"]
    assert status["disabled"] == [
        {"name": "off", "protocol": "probe", "hosted": [], "addresses": ["unix:///run/off.sock"]}
    ]  # fmt: skip


def test_upgrading(two: Running) -> None:
    """It is somebody else's work."""
    two.upgrade = lambda: {"version": "2"}
    assert two.told("upgrade") == {"version": "2"}


def test_nothing_runs(run: Daemons) -> None:
    """A daemon without endpoints has an answer too."""
    running = run(file=Path("/etc/sockd/sockd.yaml")).start()
    assert running.told("status")["endpoints"] == []
    assert listed(running) == {"connections": [], "more": False}
    assert running.refused(running.ask("suspend", endpoint="echo"))[1] == (
        "there is no endpoint 'echo': there are none here",
    )


def test_datagrams_have_no_connections(house: House, run: Daemons) -> None:
    """Draining them takes no time."""
    running = run(house.plan(UDP, datagram=Datagrams(), name="one")).start()
    assert running.told("drain", endpoint="one") == {"endpoint": "one", "finished": 0, "closed": 0}


# -- sources


def by_source(running: Running, **how: Any) -> dict[str, Any]:
    """What `sources` shows of each."""
    answer = running.told("sources", **{"endpoint": None, "by": "connections", "most": 20, **how})
    return {one.pop("source"): one for one in answer["sources"]}


def test_sources_that_come(both: Running) -> None:
    """Connections that are open and that have ended, datagrams, and their bytes."""
    client = both.connect()
    client.send(b"hello")
    assert both.house.receive(client, 5) == b"hello"
    client.close()
    both.house.until(lambda: not listed(both)["connections"])
    again = both.connect()
    again.send(b"you")
    assert both.house.receive(again, 3) == b"you"
    remembered(both, b"ann")
    found = by_source(both)["127.0.0.1"]
    assert found.pop("last").startswith("20")
    assert found == {
        "endpoint": "one", "connections": 2, "open": 1, "datagrams": 1, "bytes_in": 13, "bytes_out": 10,
        "refused": {},
    }  # fmt: skip


def test_sources_that_are_refused(house: House, run: Daemons) -> None:
    """With the reasons; they are ranked as one asks, and who has none of it isn't listed."""
    running = run(
        house.plan(TCP, stream=Probes(), name="one", connections_per_source=1),
        house.plan(TCP, stream=Probes(), name="two"),
    ).start()
    running.connect()
    for _ in range(3):
        house.connect(running.address())
    house.until(lambda: sum(running.daemon.endpoints[0].listeners[0].counters.refused.values()) == 3)
    assert by_source(running, by="refusals")["127.0.0.1"]["refused"] == {"connections_per_source": 3}
    assert by_source(running, endpoint="two", by="refusals") == {}
    assert running.refused(running.ask("sources", endpoint=None, by="name", most=1)) == (
        os.EX_USAGE, ("sources can't be ranked by 'name': write connections, bytes, refusals",)
    )  # fmt: skip


def test_sources_of_many_connections(both: Running) -> None:
    """They are added up in pieces, none of which takes long; what ends between two is counted once."""
    clients = [both.connect() for _ in range(40)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sockd.control.sources.PIECE", 4)
        asked = both.ask("sources", endpoint="one", by="connections", most=1)
        assert not asked.called
        for client in clients[:20]:
            client.close()
        both.house.until(lambda: len(both.daemon.endpoints[0].connections) <= 20)
        (found,) = both.outcome(asked)["sources"]
    assert found["connections"] == 40


def test_sources_survive_a_reload(house: House, run: Daemons) -> None:
    """Also of an endpoint whose limits are others now."""
    running = run(house.plan(TCP, stream=Probes(), name="one", connections_per_source=1)).start()
    running.connect()
    house.connect(running.address())
    house.until(lambda: running.daemon.endpoints[0].listeners[0].counters.refused)
    other = house.plan(TCP, stream=Probes(), name="one", connections_per_source=9)
    running.file = lambda: replace(running.plan, endpoints=(other,))
    running.told("reload")
    assert by_source(running)["127.0.0.1"]["refused"] == {"connections_per_source": 1}
