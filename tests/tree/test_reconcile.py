"""A reload that succeeds leaves alone what doesn't change, replaces what does, and refuses nobody."""

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from sockd.base.addresses import Address, Kind
from sockd.base.metrics import End
from sockd.base.units import Rate
from sockd.transports.sockets.opening import Opened
from sockd.transports.sockets.options import Keepalive, SocketOptions
from sockd.tree.reconcile import STEP_TIMEOUT
from sockd.tree.sockets import Sockets
from sockd.tree.states import Cause, State
from tests.tree.house import House, ends
from tests.tree.reloads import USUAL, WITHIN, Reloads
from tests.tree.trees import check_same, free_ports, inode, kernel_options, look

TCP = "tcp://127.0.0.1:0"
UDP = "udp://127.0.0.1:0"
(PORT,) = free_ports(1)


def client(reloads: Reloads, name: str, number: int = 0) -> socket.socket:
    """A client that is being served."""
    found = reloads.house.connect(reloads.address(name, number), b"!")
    assert reloads.house.receive(found, 2)[1:] == b"!"
    return found


def answered(reloads: Reloads, who: socket.socket) -> bytes:
    who.send(b"?")
    return reloads.house.receive(who, 2)


def states(reloads: Reloads, name: str) -> list[State]:
    return [supervisor.state for supervisor in reloads[name].supervisors]


# -- by name


def test_unchanged_endpoints_are_not_touched(reloads: Reloads) -> None:
    """They are the same objects, with their connections, counters, sockets and services."""
    same = reloads.plan("same", "served", TCP, UDP)
    reloads.start(same, reloads.plan("other", "plain", TCP))
    who = client(reloads, "same")
    before = look(reloads.endpoints, reloads.house.loop.readers)
    del before["other"]
    assert not reloads.reload(reloads.plan("new", "keen", TCP), replace(same))
    check_same(before, look({"same": reloads["same"]}, reloads.house.loop.readers), 0)
    assert answered(reloads, who) == b"u?"
    assert list(reloads.endpoints) == ["new", "same"]
    assert reloads.ask("new") == b"u?"


@pytest.mark.parametrize("protocol", ["plain", "keen"])
def test_options_are_for_later_connections(protocol: str, reloads: Reloads) -> None:
    """Connections keep their options; a service or datagram protocol that can takes the new ones."""
    reloads.start(reloads.plan("a", protocol, TCP, UDP))
    endpoint, who = reloads["a"], client(reloads, "a")
    service = endpoint.host.service
    factory: Any = endpoint.engine.factory
    datagrams: Any = endpoint.datagram_listeners[0].protocol
    sockets = [inode(listener.opened) for listener in endpoint.listeners]
    assert not reloads.reload(reloads.plan("a", protocol, TCP, UDP, word="v"))
    assert reloads["a"] is endpoint
    assert (answered(reloads, who), reloads.ask("a"), reloads.ask("a", 1)) == (b"u?", b"v?", b"v?")
    assert [inode(listener.opened) for listener in endpoint.listeners] == sockets
    assert endpoint.host.service is service
    assert factory.started == 0
    successor: Any = endpoint.engine.factory
    assert successor.started == 1
    assert (endpoint.datagram_listeners[0].protocol is datagrams) == (protocol == "keen") == datagrams.running


def test_service_without_reload_is_replaced(reloads: Reloads) -> None:
    """The sockets stay; connections of the old service drain, then it is stopped."""
    where = (f"tcp://127.0.0.1:{PORT}", f"udp://127.0.0.1:{PORT}")
    reloads.start(reloads.plan("a", "served", *where))
    old, who = reloads["a"], client(reloads, "a")
    sockets = [inode(listener.opened) for listener in old.listeners]
    reconciliation = reloads.begin(reloads.plan("a", "served", *where, word="v"))
    assert not reloads.prepare(reconciliation)
    reloads.commit(reconciliation)
    assert reloads["a"] is not old
    assert [inode(listener.opened) for listener in reloads["a"].listeners] == sockets
    assert (reloads.ask("a"), reloads.ask("a", 1), answered(reloads, who)) == (b"v?", b"v?", b"u?")
    reloads.drain_gone()
    assert reloads.house.receive(who, 1) == b""
    assert not old.host.service.running
    assert reloads["a"].host.service.running


def test_removed_endpoint_drains(reloads: Reloads) -> None:
    """Its connections finish, its addresses are closed, its UDP port is nobody's."""
    reloads.start(reloads.plan("a", "plain", TCP, UDP), reloads.plan("b", "plain", UDP))
    who, (tcp, udp) = client(reloads, "a"), (listener.address for listener in reloads["a"].listeners)
    assert udp.port in reloads.house.ports
    assert not reloads.reload(reloads["b"].plan)
    assert reloads.house.receive(who, 1) == b""
    assert End.DRAINED in ends(reloads.house)
    with pytest.raises(ConnectionRefusedError):
        reloads.house.connect(tcp)
    assert list(reloads.house.ports) == [reloads["b"].listeners[0].address.port]


def test_what_an_address_counted_stays_counted(reloads: Reloads) -> None:
    """A listener that is closed leaves its count of refusals with the endpoint."""
    reloads.start(reloads.plan("a", "plain", TCP, "tcp://127.0.0.2:0"))
    reloads["a"].listeners[0].counters.refused["for a test"] += 3
    assert not reloads.reload(reloads.plan("a", "plain", "tcp://127.0.0.2:0"))
    reloads["a"].log_refusals()
    assert reloads.house.log.named("refused")[0]["refused"] == {"for a test": 3}


def test_suspended_stays_suspended(reloads: Reloads) -> None:
    """A suspended endpoint stays so, also where it is replaced by one of the same name."""
    reloads.start(reloads.plan("a", "served", TCP))
    reloads["a"].suspend(True)
    assert not reloads.reload(reloads.plan("a", "served", TCP, word="v"))
    assert reloads["a"].causes == {Cause.BY_HAND}


# -- limits


def test_limits_hold_at_once_and_cut_nobody(reloads: Reloads) -> None:
    """Connections above the new limit stay, and newcomers wait; rates of datagrams hold as well."""
    reloads.start(reloads.plan("a", "plain", TCP, UDP, connections=3))
    clients = [client(reloads, "a") for _ in range(3)]
    assert reloads["a"].causes == {Cause.AT_LIMIT}
    assert not reloads.reload(reloads.plan("a", "plain", TCP, UDP, connections=2, datagrams=Rate(1, 1000.0)))
    assert [answered(reloads, who) for who in clients] == [b"u?"] * 3
    late = reloads.house.connect(reloads.address("a"), b"?")
    clients.pop().close()
    reloads.house.until(lambda: len(reloads["a"].connections) == 2)
    reloads.house.loop.settle()
    assert len(reloads["a"].connections) == 2
    clients.pop().close()
    assert reloads.house.receive(late, 2) == b"u?"
    assert reloads.ask("a", 1) == b"u?"
    reloads.house.connect(reloads.address("a", 1), b"?")
    reloads.house.until(lambda: reloads["a"].listeners[1].counters.refused["datagrams"] == 1)
    assert not reloads.reload(reloads.plan("a", "plain", TCP, UDP, connections=9, idle=1.0, stall=1.0))
    assert not reloads["a"].causes
    reloads.house.run_clock(lambda: not len(reloads["a"].connections))
    assert ends(reloads.house).count(End.IDLE) == 2


def test_required_and_restart_hold_at_once(reloads: Reloads) -> None:
    """A give-up time that was added runs from now; one that was removed runs no more."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        busy = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        reloads.start(reloads.plan("a", "plain", busy, give_up_after=9.0))
        assert not reloads.reload(reloads.plan("a", "plain", busy))
        reloads.house.loop.pump([1.0] * 20)
        assert not reloads.house.gave_up
        assert not reloads.reload(reloads.plan("a", "plain", busy, give_up_after=5.0))
        assert reloads.house.run_clock(lambda: reloads.house.gave_up) == pytest.approx(5.0, abs=0.1)


# -- addresses


def test_new_address_opens_before_the_old_one_drains(reloads: Reloads) -> None:
    """Until the commit the old address serves, and clients of the new one wait."""
    reloads.start(reloads.plan("a", "served", "tcp://127.0.0.1:0"))
    who, old, service = client(reloads, "a"), reloads["a"].listeners[0], reloads["a"].host.service
    reconciliation = reloads.begin(reloads.plan("a", "served", "tcp://127.0.0.2:0"))
    assert not reloads.prepare(reconciliation)
    (wanted,) = reconciliation.moves.wanted
    early = reloads.house.connect(wanted.watched.listener.address, b"?")
    assert reloads.ask("a") == b"u?"
    reloads.commit(reconciliation)
    assert reloads.house.receive(early, 2) == b"u?"
    assert old.opened is None
    assert reloads["a"].host.service is service
    assert answered(reloads, who) == b"u?"
    assert reloads.house.run_clock(lambda: ends(reloads.house).count(End.DRAINED)) < WITHIN


def test_who_does_not_finish_is_cut(reloads: Reloads) -> None:
    """Connections of an address that is closed have the time of the drain, and no more."""
    reloads.start(reloads.plan("a", "plain", TCP, UDP))
    who = client(reloads, "a")
    assert not reloads.reload(reloads.plan("a", "plain", UDP))
    while End.CUT not in ends(reloads.house):
        assert reloads.house.loop.seconds() < WITHIN + 1
        who.send(b"?")
        reloads.house.receive(who, 2)
        reloads.house.loop.advance(0.1)
    assert reloads.house.loop.seconds() == pytest.approx(WITHIN, abs=0.3)


OVERLAPS = [
    (f"tcp://127.0.0.1:{PORT}", f"tcp://0.0.0.0:{PORT}", USUAL),
    (f"udp://0.0.0.0:{PORT}", f"udp://127.0.0.1:{PORT}", USUAL),
    (f"udp://127.0.0.1:{PORT}", f"udp://127.0.0.1:{PORT}", replace(USUAL, reuse_port=True)),
    ("unix://{}/a", "unixgram://{}/a", USUAL),
    ("unix://{}/a", "unix://{}/same/a", USUAL),
]


@pytest.mark.parametrize(("old", "new", "options"), OVERLAPS)
def test_overlapping_address(
    old: str, new: str, options: SocketOptions, reloads: Reloads, tmp_path: Path
) -> None:
    """An address that overlaps with an old one opens when that is closed; clients that wait are served."""
    (tmp_path / "same").symlink_to(tmp_path)
    steps: list[str] = []
    reloads.start(reloads.plan("a", "plain", old.format(tmp_path)))
    before, address = inode(reloads["a"].listeners[0].opened), reloads.address("a")
    waiting = reloads.house.connect(address, b"?")
    plan = reloads.plan("b", "plain", new.format(tmp_path), socket=options)
    reconciliation = reloads.begin(plan, step=steps.append)
    assert not reloads.prepare(reconciliation)
    assert steps.index("close") < steps.index("open")
    reloads.commit(reconciliation)
    assert reloads.house.receive(waiting, 2) == b"u?"
    reloads.drain_gone()
    (listener,) = reloads["b"].listeners
    assert inode(listener.opened) != before
    assert listener.opened is not None
    assert listener.opened.file is None or listener.opened.file.there()
    assert list(reloads.house.ports) == [PORT] * (listener.address.kind is Kind.UDP)
    if listener.address.kind is not Kind.UNIXGRAM:
        assert reloads.ask("b") == b"u?"


def test_address_that_is_opened_anew_keeps_its_connections(reloads: Reloads) -> None:
    """An address that is opened again keeps its connections and its counters."""
    old, new = USUAL, replace(USUAL, reuse_port=True)
    reloads.start(reloads.plan("a", "plain", f"tcp://127.0.0.1:{PORT}", socket=old))
    who = client(reloads, "a")
    assert not reloads.reload(reloads.plan("a", "plain", f"tcp://127.0.0.1:{PORT}", socket=new))
    assert client(reloads, "a")
    reloads.house.loop.pump([0.1] * 50)
    assert answered(reloads, who) == b"u?"
    assert reloads["a"].listeners[0].counters.accepted == 2
    assert [listener.plan.socket for listener in reloads["a"].listeners] == [new]


def test_shared_port_opens_beside(reloads: Reloads) -> None:
    """Listeners that all set reuse_port need not wait for each other."""
    steps: list[str] = []
    shared = replace(USUAL, reuse_port=True)
    address = f"tcp://127.0.0.1:{PORT}"
    reloads.start(reloads.plan("a", "plain", address, address, socket=shared))
    plan = reloads.plan("a", "plain", address, f"tcp://0.0.0.0:{PORT}", socket=shared)
    reconciliation = reloads.begin(plan, step=steps.append)
    assert not reloads.prepare(reconciliation)
    reloads.commit(reconciliation)
    assert "close" not in steps
    assert reloads.ask("a", 0) == reloads.ask("a", 1) == b"u?"


# -- the same socket for somebody else

SAME = [f"tcp://127.0.0.1:{PORT}", "unix://{}/a", "unix://@sockd-test-{}"]


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("address", SAME)
def test_socket_goes_to_another(address: str, name: str, reloads: Reloads, tmp_path: Path) -> None:
    """The socket goes to another protocol or endpoint: its file stays, and every client is served."""
    where = address.format(tmp_path)
    reloads.start(reloads.plan("a", "plain", where))
    house, before, to = reloads.house, inode(reloads["a"].listeners[0].opened), reloads.address("a")
    waiting = [house.connect(to, b"?")]

    def step(_: str) -> None:
        waiting.append(house.connect(to, b"?"))

    options = replace(USUAL, backlog=99, mode=0o600)
    reconciliation = reloads.begin(reloads.plan(name, "served", where, word="v", socket=options), step=step)
    file = (tmp_path / "a").stat().st_ino if (tmp_path / "a").exists() else None
    assert not reloads.prepare(reconciliation)
    step("between")
    reloads.commit(reconciliation)
    step("after")
    assert inode(reloads[name].listeners[0].opened) == before
    assert {house.receive(who, 2) for who in waiting} <= {b"u?", b"v?"}
    reloads.drain_gone()
    assert reloads.ask(name) == b"v?"
    if file is not None:
        status = (tmp_path / "a").stat()
        assert (status.st_ino, status.st_mode & 0o777) == (file, 0o600)
        assert not reloads.reload()
        assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("address", [f"udp://127.0.0.1:{PORT}", "unixgram://{}/a"])
def test_datagram_socket_goes_to_another(address: str, reloads: Reloads, tmp_path: Path) -> None:
    """Datagrams that wait in it are read by the next listener; the UDP port is never closed."""
    where = address.format(tmp_path)
    reloads.start(reloads.plan("a", "plain", where))
    old, before = reloads["a"].datagram_listeners[0], inode(reloads["a"].listeners[0].opened)
    replies: Any = old.protocol
    reconciliation = reloads.begin(reloads.plan("b", "keen", where))
    assert not reloads.prepare(reconciliation)
    reloads.house.connect(reloads.address("a"), b"?")
    reloads.commit(reconciliation)
    (listener,) = reloads["b"].datagram_listeners
    protocol: Any = listener.protocol
    reloads.house.until(lambda: protocol.seen == 1)
    assert (replies.seen, replies.running, inode(listener.opened)) == (0, False, before)
    assert list(reloads.house.ports) == [PORT] * (listener.address.kind is Kind.UDP)
    reloads.drain_gone()
    assert list(reloads.house.ports) == [PORT] * (listener.address.kind is Kind.UDP)


def test_what_the_kernel_dropped_is_counted_once(reloads: Reloads) -> None:
    """The listener that had the socket at the time counts them."""
    small = replace(USUAL, receive_buffer=2304)
    reloads.start(reloads.plan("a", "plain", f"udp://127.0.0.1:{PORT}", socket=small))
    old = reloads["a"]
    old.suspend(True)
    flood = reloads.house.connect(reloads.address("a"), b"x" * 1000)
    for _ in range(20):
        flood.send(b"x" * 1000)
    assert not reloads.reload(reloads.plan("b", "plain", f"udp://127.0.0.1:{PORT}", socket=small))
    (new,) = reloads["b"].datagram_listeners
    new.count_drops()
    assert old.listeners[0].counters.refused["dropped by the kernel"] > 0
    assert not new.counters.refused


def test_sockets_of_systemd_go_to_another(house: House) -> None:
    """All sockets of a name pass, each to the listener of its number; an unfit protocol is refused."""
    passed = [socket.create_server(("127.0.0.1", 0)), socket.socket(type=socket.SOCK_DGRAM)]
    passed[1].bind(("127.0.0.1", 0))
    for sock in passed:
        sock.setblocking(False)
    kinds = (Kind.TCP, Kind.UDP)
    named = [
        Opened(sock, Address(kind, *sock.getsockname()), ours=False)
        for kind, sock in zip(kinds, passed, strict=True)
    ]
    house.surroundings = replace(house.surroundings, sockets=Sockets({"web": named}))
    reloads = Reloads(house)
    reloads.start(reloads.plan("a", "plain", "systemd://web"))
    before = [inode(listener.opened) for listener in reloads["a"].listeners]
    assert not reloads.reload(reloads.plan("b", "plain", "systemd://web", word="v"))
    assert [inode(listener.opened) for listener in reloads["b"].listeners] == before
    assert (reloads.ask("b"), reloads.ask("b", 1)) == (b"v?", b"v?")
    assert not reloads.reload(reloads.plan("b", "plain", "systemd://web"))
    assert (reloads.ask("b"), reloads.ask("b", 1)) == (b"u?", b"u?")
    why = reloads.reload(reloads.plan("b", "streams", "systemd://web"))
    assert why == "b: systemd://web: the protocol does not speak over datagrams"
    assert (reloads.ask("b"), reloads.ask("b", 1)) == (b"u?", b"u?")
    for sock in passed:
        sock.close()


# -- socket options


def test_socket_options_change_in_place(reloads: Reloads, tmp_path: Path) -> None:
    """The sockets stay open; where the reload is undone they are as they were, the receive buffer too."""
    where = [TCP, UDP, f"unix://{tmp_path}/a"]
    reloads.start(reloads.plan("a", "plain", *where))
    sockets = [inode(listener.opened) for listener in reloads["a"].listeners]
    before = [kernel_options(listener.opened) for listener in reloads["a"].listeners]
    options = SocketOptions(
        backlog=77, keepalive=Keepalive(50, 5, 3), nodelay=False, receive_buffer=50_000, mode=0o600
    )
    plan = reloads.plan("a", "plain", *where, socket=options)
    reconciliation = reloads.begin(plan)
    assert not reloads.prepare(reconciliation)
    house = reloads.house
    house.finish(reconciliation.undo())
    assert [kernel_options(listener.opened) for listener in reloads["a"].listeners] == before
    assert not reloads.reload(plan)
    tcp, udp, unix = (kernel_options(listener.opened) for listener in reloads["a"].listeners)
    assert tcp == (100_000, 0, 77, 1, False, 50, 5, 3)
    assert (udp, unix) == ((100_000, 0), (0o600,))
    assert [inode(listener.opened) for listener in reloads["a"].listeners] == sockets


def test_options_of_tcp_connections_on_sockets_of_systemd(house: House) -> None:
    """Those are sockd's to set, at the start and by a reload; the backlog is the .socket unit's."""
    with socket.create_server(("127.0.0.1", 0), backlog=5) as passed:
        passed.setblocking(False)
        opened = Opened(passed, Address(Kind.TCP, *passed.getsockname()), ours=False)
        house.surroundings = replace(house.surroundings, sockets=Sockets({"web": [opened]}))
        reloads = Reloads(house)
        options = SocketOptions(keepalive=Keepalive(50, 5, 3), nodelay=False)
        reloads.start(reloads.plan("a", "plain", "systemd://web", socket=options))
        (listener,) = reloads["a"].listeners
        before = inode(listener.opened)
        assert kernel_options(listener.opened)[2:] == (5, 1, False, 50, 5, 3)
        assert not reloads.reload(reloads.plan("a", "plain", "systemd://web"))
        assert kernel_options(listener.opened)[2:] == (5, 0, True)
        assert inode(listener.opened) == before


# -- what wasn't running before


def test_backing_off_listener_does_not_count(reloads: Reloads) -> None:
    """It goes on backing off in an endpoint that changes, or takes its address, and is tried immediately."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        busy = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        reloads.start(reloads.plan("a", "plain", busy, TCP))
        assert not reloads.reload(reloads.plan("a", "plain", busy, TCP, word="v"))
        assert not reloads.reload(reloads.plan("b", "streams", busy, TCP))
        assert states(reloads, "b") == [State.BACKING_OFF, State.RUNNING]
        assert not reloads.reload(reloads.plan("b", "streams", busy, TCP, socket=replace(USUAL, backlog=9)))
        assert states(reloads, "b") == [State.BACKING_OFF, State.RUNNING]
    assert not reloads.reload(reloads.plan("b", "streams", busy, TCP, socket=replace(USUAL, backlog=8)))
    assert states(reloads, "b") == [State.RUNNING, State.RUNNING]
    assert kernel_options(reloads["b"].listeners[0].opened)[2] == 8
    assert reloads.ask("b") == b"u?"


def test_service_that_was_down_is_retried_with_the_new_options(reloads: Reloads) -> None:
    """It is tried immediately after the commit, not during the reload with the old options."""

    def bug() -> Any:
        raise ZeroDivisionError("a bug")

    reloads.trouble.arm("stream", bug)
    reloads.start(reloads.plan("a", "keen", TCP, UDP))
    assert reloads["a"].service.state is State.BACKING_OFF
    reloads.trouble.arm("startService", bug)
    assert reloads.reload(
        reloads.plan("a", "keen", TCP, UDP, word="v"), reloads.plan("b", "keen")
    ).startswith("b: ")
    assert reloads["a"].service.state is State.BACKING_OFF
    assert not reloads.reload(reloads.plan("a", "keen", TCP, UDP, connections=9))
    assert reloads["a"].service.state is State.BACKING_OFF
    assert not reloads.reload(reloads.plan("a", "keen", TCP, UDP, word="v"))
    assert reloads["a"].service.restarts == 1
    reloads.house.run_clock(lambda: reloads["a"].running)
    assert reloads["a"].host.service.word == "v"
    assert (reloads.ask("a"), reloads.ask("a", 1)) == (b"v?", b"v?")


def test_service_that_takes_long_is_not_waited_for(reloads: Reloads) -> None:
    """Its endpoint is held until it has started."""
    starting: Deferred[None] = Deferred()
    reloads.start()
    reloads.trouble.arm("startService", lambda: starting)
    assert not reloads.reload(reloads.plan("a", "keen", TCP))
    assert reloads.house.loop.seconds() == pytest.approx(STEP_TIMEOUT, abs=0.1)
    assert reloads["a"].causes == {Cause.SERVICE_DOWN}
    starting.callback(None)
    assert reloads.ask("a") == b"u?"
