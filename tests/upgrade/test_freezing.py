"""What is handed over of a daemon: every socket once, every state, and no connection that can't go on."""

import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from sockd.base.addresses import Address, Kind
from sockd.base.metrics import End
from sockd.transports.sockets.opening import Opened
from sockd.tree.sockets import Sockets
from sockd.upgrade.freezing import Travellers, freeze_service, handover
from sockd.upgrade.passing import encode
from sockd.upgrade.value import Handover, UpgradeRefusedError
from tests.daemons import Daemons, Running
from tests.tree.house import Datagrams, House, Probes, Service
from tests.upgrade.succession import PROCESS, Lastings

TCP, UDP = "tcp://127.0.0.1:0", "udp://127.0.0.1:0"


class Counting(Datagrams):
    """Has a state: how many came."""

    def freeze(self) -> Any:
        self._called("freeze")
        return len(self.data)


def handed(running: Running, **services: tuple[Any, ...]) -> Handover:
    """What would be handed over now; it can be written."""
    found = handover(running.daemon, services, Travellers(running.log.log), **PROCESS)
    encode(found.to_value())
    return found


# -- listeners


def test_every_open_socket(house: House, run: Daemons, tmp_path: Path) -> None:
    """Under the address that the file has, the one that it really is at, and its file; nothing closed."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        busy = Address(Kind.TCP, "127.0.0.1", other.getsockname()[1])
        running = run(
            house.plan(TCP, busy, f"unix://{tmp_path}/a", stream=Probes(), name="one"),
            house.plan(UDP, datagram=Datagrams(), name="two"),
            control=Address(Kind.UNIX, path=f"{tmp_path}/control"),
        ).start()
        found = handed(running)
    tcp, path, udp, control = found.listeners
    assert [each.endpoint for each in found.listeners] == ["one", "one", "two", ""]
    assert (tcp.planned, tcp.address) == (TCP, str(running.address()))
    assert (udp.planned, udp.address) == (UDP, str(running.address(1)))
    assert path.file is not None
    assert path.file.there()
    assert control.file is not None
    assert control.address == f"unix://{tmp_path}/control"
    opened = running.daemon.endpoints[0].listeners[0].opened
    assert opened is not None
    assert tcp.fd == opened.sock.fileno()
    assert len(set(found.fds())) == 4


def test_what_systemd_passed(house: House, run: Daemons) -> None:
    """By its name, once, whether somebody listens there or not; the listener's own is a duplicate of it."""
    with socket.create_server(("127.0.0.1", 0)) as web, socket.create_server(("127.0.0.1", 0)) as other:
        web.setblocking(False)
        sockets = Sockets({
            name: [Opened(sock, Address(Kind.TCP, "127.0.0.1", sock.getsockname()[1]), ours=False)]
            for name, sock in (("web", web), ("other", other))
        })  # fmt: skip
        running = run(house.plan("systemd://web", stream=Probes()), sockets=sockets).start()
        found = handed(running)
        assert [(each.name, each.fd) for each in found.listeners] == [
            ("web", web.fileno()), ("other", other.fileno()),
        ]  # fmt: skip
        running.stop()


# -- connections


def test_who_survives(house: House, run: Daemons) -> None:
    """Those whose protocol can, and which were not asked to finish."""
    running = run(
        house.plan(TCP, stream=Lastings(), name="new"), house.plan(TCP, stream=Probes(), name="old")
    ).start()
    for endpoint in (0, 0, 0, 1):
        running.connect(endpoint=endpoint)
    new, old = running.daemon.endpoints
    first, second, third = new.connections
    travellers = Travellers(running.log.log)
    stragglers = travellers.stragglers
    assert [travellers.fit(each) for each in (*new.connections, *old.connections)] == [True] * 3 + [False]
    assert not stragglers(new.connections)
    first.pauseProducing()
    drain = new.connections.drain_some([first])
    second.cut(End.KICKED)
    assert stragglers(new.connections) == [first]
    assert stragglers(old.connections) == list(old.connections)
    found = handed(running).endpoints
    assert [connection.transport["number"] for connection in found["new"].connections] == [third.number]
    assert not found["old"].connections
    assert not drain.done.called


def test_freezing_changes_nothing(house: House, run: Daemons) -> None:
    """It may be done again and again; only the next connection's number moves on."""
    running = run(
        house.plan(TCP, UDP, stream=Lastings(), datagram=Counting(), service=Service(), name="one")
    ).start()
    client = running.connect(b"hello")
    first, second = (handed(running, one=({"a": 1},)) for _ in range(2))
    assert first.endpoints == second.endpoints
    assert first.listeners == second.listeners
    assert second.numbers == first.numbers + 1
    assert first.numbers > 1
    client.send(b"x")
    assert house.receive(client, 1) == b"x"


# -- endpoints


def test_an_endpoint(house: House, run: Daemons) -> None:
    """Its protocol, its service's state, what was counted, whether it is suspended."""
    running = run(
        house.plan(TCP, TCP, stream=Probes(), name="one"), house.plan(UDP, datagram=Counting(), name="two")
    ).start()
    one, two = running.daemon.endpoints
    one.suspend(True)
    one.host.counters.refused["x"] += 1
    one.listeners[1].counters.accepted = 7
    client = house.connect(running.address(1), b"hello")
    assert house.receive(client, 5) == b"hello"
    found = handed(running, one=(None,)).endpoints
    assert (found["one"].protocol, found["one"].service, found["two"].service) == ("probe", (None,), ())
    assert (found["one"].suspended, found["two"].suspended) == (True, False)
    counted = found["one"].counters
    assert counted["endpoint"]["refused"] == {"x": 1}
    assert [(each["address"], each["counters"]["accepted"]) for each in counted["listeners"]] == [
        (TCP, 0), (TCP, 7),
    ]  # fmt: skip
    assert found["two"].datagrams == {str(two.listeners[0].address): [1]}


def test_datagram_protocols_without_a_state(house: House, run: Daemons) -> None:
    """One has no freeze, the other was not made yet."""
    running = run(
        house.plan(UDP, datagram=Datagrams(), name="one"),
        house.plan(UDP, datagram=Counting(), service=Service(Deferred), name="two"),
    ).start()
    assert [endpoint.datagrams for endpoint in handed(running).endpoints.values()] == [{}, {}]


def test_a_datagram_protocol_that_can_not_tell_its_state(house: House, run: Daemons) -> None:
    """Where, and why."""
    running = run(house.plan(UDP, datagram=Counting("freeze"), name="one")).start()
    with pytest.raises(UpgradeRefusedError, match=r"one: udp://127.0.0.1:\d+ can't give its state: Zero"):
        handed(running)


def test_what_is_of_the_daemon(house: House, run: Daemons) -> None:
    """Since when it runs, its file, and what came of the last reload."""
    running = run(house.plan(TCP, stream=Probes())).start()
    assert handed(running).reload is None
    house.loop.advance(5.0)
    running.told("reload")
    found = handed(running)
    assert found.reload == running.told("status")["reload"]
    assert (found.file, found.started) == ("sockd.yaml", running.daemon.began)
    assert str(found.directories.logs) == "/var/log/sockd"


# -- services


def served(house: House, service: Any) -> Any:
    return house.run(TCP, stream=Probes(), service=service)


def test_states_of_services(house: House) -> None:
    """In a tuple, as None is one; an empty one is none. A Deferred that waits is given as it is."""
    for made, found in ((lambda: 7, (7,)), (lambda: None, (None,)), (lambda: succeed([]), ([],))):
        service = Service()
        service.freeze = made  # type: ignore[attr-defined]
        assert freeze_service(served(house, service)) == found
    assert freeze_service(served(house, Service())) == ()
    assert freeze_service(house.run(TCP, stream=Probes())) == ()
    waiting: Deferred[Any] = Deferred()
    chained = succeed(None).addCallback(lambda _: waiting)
    for each in (waiting, chained):
        service = Service()
        service.freeze = lambda each=each: each  # type: ignore[attr-defined]
        assert freeze_service(served(house, service)) is each


def test_a_service_that_fails_to_tell_its_state(house: House) -> None:
    """Now or later, the error is the same."""

    def bug() -> Any:
        raise ZeroDivisionError("a bug")

    for made in (bug, lambda: fail(ZeroDivisionError("a bug"))):
        service = Service()
        service.freeze = made  # type: ignore[attr-defined]
        with pytest.raises(
            UpgradeRefusedError, match="lobby: the service can't give its state: ZeroDivision"
        ):
            freeze_service(served(house, service))
    later: Deferred[Any] = Deferred()
    service = Service()
    service.freeze = lambda: later  # type: ignore[attr-defined]
    state = freeze_service(served(house, service))
    later.errback(ZeroDivisionError("a bug"))
    found: list[Any] = []
    state.addErrback(found.append)
    assert str(found[0].value).startswith("lobby: the service can't give its state: ZeroDivisionError: a bug")
