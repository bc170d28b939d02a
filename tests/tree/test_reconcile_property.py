"""Any plan after any other: all of it, or nothing, whatever fails on the way."""

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.python.failure import Failure

from sockd.base.addresses import Address, Kind, overlap
from sockd.plan.diff import diff
from sockd.plan.plan import Plan
from sockd.transports.sockets.opened import open_address
from sockd.transports.sockets.options import SocketOptions
from sockd.tree.endpoint import Endpoint
from sockd.tree.moves import without_reload
from sockd.tree.reconcile import Reconciliation, ReloadRefusedError
from sockd.tree.states import State
from tests.certificates import made
from tests.tree.house import House
from tests.tree.trees import (
    CLIENT,
    PLACES,
    SLOW_PLACES,
    Trouble,
    addresses,
    check_same,
    free_ports,
    look,
    plans,
    readers_of,
    shape,
    specifications,
)

WITHIN = 5.0  # seconds that drained connections have
PORTS = free_ports(2)


@cache
def client_context() -> ssl.SSLContext:
    """Of clients of TLS, all of whom have the same certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    made(CLIENT, issuer="authority").load_into(context)
    return context


class Client:
    """Somebody who asks, and is answered; over TLS once hands are shaken."""

    def __init__(self, house: House, address: Address, directory: Path) -> None:
        self.house = house
        self.address = address
        kind = socket.SOCK_STREAM if address.kind.stream else socket.SOCK_DGRAM
        self.sock = socket.socket(socket.AF_UNIX if address.kind.local else socket.AF_INET, kind)
        self.file = ""
        house.clients.append(self.sock)
        if address.kind.local:
            where: Any = "\0" + address.path[1:] if address.abstract else address.path
            if not address.kind.stream:
                self.file = f"{directory}/client{len(house.clients)}"
                self.sock.bind(self.file)
        else:
            where = ("127.0.0.1" if address.host in ("*", "0.0.0.0") else address.host, address.port)
        self.sock.connect(where)
        self.sock.setblocking(False)
        self.shaken = address.kind is not Kind.TLS
        self.unsaid = b""
        if not self.shaken:
            self.sock = client_context().wrap_socket(
                self.sock, do_handshake_on_connect=False, server_hostname="b.example"
            )
            house.clients[-1] = self.sock

    def ask(self) -> None:
        self.unsaid += b"?"
        self._go_on()

    def _go_on(self) -> None:
        """Say what is to be said, as soon as that can be."""
        if not self.shaken:
            assert isinstance(self.sock, ssl.SSLSocket)
            with suppress(ssl.SSLWantReadError):
                self.sock.do_handshake()
                self.shaken = True
        if self.shaken and self.unsaid:
            self.sock.send(self.unsaid)
            self.unsaid = b""

    def certificate(self) -> bytes | None:
        """That it was shown."""
        return self.sock.getpeercert(True) if isinstance(self.sock, ssl.SSLSocket) else None

    def answer(self) -> bytes:
        """What came back; nothing where there is nobody any more."""
        got = b""
        for _ in range(200):
            with suppress(BlockingIOError, ssl.SSLWantReadError):
                try:
                    self._go_on()
                    if not self.shaken:
                        raise BlockingIOError
                    data = self.sock.recv(100)
                except (ConnectionError, ssl.SSLEOFError):
                    return b""
                got += data
                if len(got) >= 2 or not data:
                    return got
            self.house.loop.turn([self.sock], 0.01)
        return got

    def answered(self) -> bytes:
        self.ask()
        return self.answer()

    def close(self) -> None:
        """Leave nothing behind."""
        self.sock.close()
        if self.file:
            Path(self.file).unlink(missing_ok=True)


class Town:
    """A house with endpoints by name, and the clients of its listeners."""

    def __init__(self, directory: Path) -> None:
        self.house = House()
        self.directory = directory
        self.endpoints: dict[str, Endpoint] = {}
        self.gone: list[Endpoint] = []

    def start(self, plan: Plan) -> None:
        around = self.house.surroundings
        self.endpoints = {each.name: Endpoint(each, around) for each in plan.endpoints}
        for endpoint in self.endpoints.values():
            endpoint.bind()
        tried = [endpoint.start() for endpoint in self.endpoints.values()]
        self.house.run_clock(lambda: all(each.called for each in tried))

    def look(self) -> Any:
        return look(self.endpoints, self.house.loop.readers)

    def words(self, address: Address) -> set[bytes]:
        """What may be answered here: who shares a port or a wildcard shares the clients."""
        return {
            endpoint.plan.options.word.encode() + b"?"  # type: ignore[attr-defined]
            for endpoint in self.endpoints.values()
            for listener in endpoint.listeners
            if overlap(listener.plan.address, address) and listener.opened is not None
        }

    def certificates(self, address: Address) -> set[bytes | None]:
        """Who may be shown here: the one of the name that clients ask for, else the first."""
        if address.kind is not Kind.TLS:
            return {None}
        found: set[bytes | None] = set()
        for endpoint in self.endpoints.values():
            if any(each.plan.address == address for each in endpoint.listeners):
                assert endpoint.plan.tls is not None
                known = endpoint.plan.tls.certificates
                chosen = next((each for each in known if "b.example" in each.names), known[0])
                found.add(ssl.PEM_cert_to_DER_cert(chosen.chain.decode()))
        return found

    def open(self) -> Iterator[Address]:
        """All addresses that can be asked: of a shared one the kernel might choose a suspended endpoint."""
        silent = [
            listener.plan.address
            for endpoint in self.endpoints.values()
            if endpoint.suspended
            for listener in endpoint.listeners
        ]
        for endpoint in self.endpoints.values():
            for watched in endpoint.watched:
                address = watched.listener.plan.address
                running = watched.supervisor.state is State.RUNNING
                if running and not any(overlap(address, other) for other in silent):
                    yield address

    def clients(self) -> list[Client]:
        return [Client(self.house, address, self.directory) for address in self.open()]

    def check_serving(self) -> None:
        """Everybody who comes is served, nothing is in the reactor that belongs to nobody."""
        for client in self.clients():
            assert client.answered() in self.words(client.address), client.address
            assert client.certificate() in self.certificates(client.address), client.address
            client.close()
        self.house.loop.settle()
        expected: set[Any] = set()
        for endpoint in (*self.endpoints.values(), *self.gone):
            expected |= readers_of(endpoint)
        assert self.house.loop.readers <= expected
        ports = [
            listener.address.port
            for endpoint in self.endpoints.values()
            for listener in endpoint.listeners
            if listener.takes_datagrams and listener.address.port
        ]
        assert sorted(self.house.ports._ports.elements()) == sorted(ports)
        for endpoint in self.endpoints.values():
            for listener in endpoint.listeners:
                if listener.opened is not None and listener.opened.file is not None:
                    assert listener.opened.file.there()

    def end_gone(self) -> None:
        """Drain and stop those that are gone, as the daemon does."""
        for endpoint in self.gone:
            draining = ensureDeferred(endpoint.drain())
            self.house.run_clock(lambda done=draining: done.called)  # type: ignore[misc]
            stopping = ensureDeferred(endpoint.stop())
            self.house.run_clock(lambda done=stopping: done.called)  # type: ignore[misc]
            assert not len(endpoint.connections)
            assert endpoint.service.state is State.STOPPED
            assert not getattr(endpoint.host.service, "running", False)

    def close(self) -> None:
        for file in self.directory.glob("client*"):
            file.unlink()
        self.house.endpoints = list(self.endpoints.values())
        self.house.close()
        self.house.run_clock(lambda: not self.house.loop.getDelayedCalls())
        assert not self.house.loop.readers | self.house.loop.writers
        assert not self.house.ports


@dataclass
class Fault:
    """What goes wrong, and when: at the nth step, or the next time that a protocol gets to a place."""

    what: str
    step: int = 0
    place: str = ""


STEPS = st.integers(0, 15)
FAULTS = st.one_of(
    st.builds(Fault, st.just("nothing")),
    st.builds(Fault, st.just("undo")),  # all is ready, but the caller doesn't want it any more
    st.builds(Fault, st.sampled_from(["raise", "cancel"]), step=STEPS),
    st.builds(Fault, st.sampled_from(["bug", "exit"]), place=st.sampled_from(PLACES)),
    st.builds(Fault, st.sampled_from(["never", "later"]), place=st.sampled_from(SLOW_PLACES)),
)


class Reload:
    """A reconciliation to another plan, in which something goes wrong."""

    def __init__(self, town: Town, plan: Plan, fault: Fault, trouble: Trouble) -> None:
        self.town = town
        self.fault = fault
        self.trouble = trouble
        self.steps: list[str] = []
        self.waiting: list[Deferred[None]] = []
        self.errors: list[Failure] = []
        running = tuple(endpoint.plan for endpoint in town.endpoints.values())
        self.changes = diff(replace(plan, endpoints=running), plan, without_reload(town.endpoints))
        self.reconciliation = Reconciliation(town.endpoints, self.changes, town.house.surroundings, self.step)
        if fault.place:
            trouble.arm(fault.place, self.goes_wrong)
        self.task = ensureDeferred(self.run())
        self.ended = False
        self.task.addErrback(self.errors.append)
        self.task.addBoth(self.end)
        # A coroutine's Deferred counts as called when it is cancelled, though it has yet to end.
        town.house.run_clock(lambda: self.ended)
        trouble.arm("", lambda: None)

    async def run(self) -> None:
        await self.reconciliation.prepare()
        if self.fault.what == "undo":
            await self.reconciliation.undo()

    def end(self, _: object) -> None:
        self.ended = True

    def step(self, what: str) -> None:
        self.steps.append(what)
        if len(self.steps) == self.fault.step + 1:
            if self.fault.what == "raise":
                raise ZeroDivisionError(what)
            if self.fault.what == "cancel":
                self.town.house.loop.callLater(0, lambda: self.task.cancel())  # noqa: PLW0108 - there is none yet

    def goes_wrong(self) -> Any:
        if self.fault.what == "bug":
            raise ZeroDivisionError("a bug of a protocol")
        if self.fault.what == "exit":
            raise SystemExit(3)
        waiting: Deferred[None] = Deferred()
        if self.fault.what == "later":
            fail = ZeroDivisionError("a bug of a protocol")
            self.town.house.loop.callLater(0.1, lambda: None if waiting.called else waiting.errback(fail))
        self.waiting.append(waiting)
        return waiting

    def come_round(self) -> None:
        """What never seemed to end has ended."""
        for waiting in self.waiting:
            if not waiting.called:
                waiting.callback(None)
        services = [endpoint.service for endpoint in self.town.endpoints.values()]
        self.town.house.run_clock(lambda: all(service.state is State.RUNNING for service in services))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_all_or_nothing(data: st.DataObject, tmp_path: Path) -> None:
    """After a failure the tree is as it was, after a success as one that was started so."""
    same = tmp_path / "same"
    for path in tmp_path.iterdir():
        path.unlink()  # of an example that failed
    same.symlink_to(tmp_path)
    pool = addresses(PORTS, tmp_path)
    trouble = Trouble()
    known = specifications(trouble)
    before = data.draw(plans(pool, known), label="before")
    after = data.draw(plans(pool, known, before), label="after")
    fault = data.draw(FAULTS, label="fault")
    busy = data.draw(st.one_of(st.none(), st.none(), st.sampled_from(pool)), label="busy")
    suspended = data.draw(st.sets(st.sampled_from("abc"), max_size=2), label="suspended")
    with taken(busy):
        at_first = descriptors()
        town = Town(tmp_path)
        try:
            town.start(before)
            shaped = check_reload(town, after, fault, trouble, suspended, busy)
        finally:
            town.close()
        assert descriptors() == at_first
        if shaped is not None:
            fresh = Town(tmp_path)
            try:
                fresh.start(after)
                assert shape(fresh.look()) == shaped
            finally:
                fresh.close()
    assert [path.name for path in tmp_path.iterdir()] == ["same"]


@contextmanager
def taken(address: Address | None) -> Iterator[None]:
    """Meanwhile somebody else has the address."""
    if address is None:
        yield
        return
    somebody = open_address(address, SocketOptions())
    try:
        yield
    finally:
        somebody.sock.close()
        if somebody.file is not None:
            somebody.file.remove()


@dataclass
class Resident:
    """A client that stays, and whose it is."""

    client: Client
    answer: bytes
    endpoint: Endpoint
    address: Address


def resident(town: Town, client: Client) -> Resident:
    answer = client.answered()
    assert answer in town.words(client.address)
    port = 0 if client.address.kind.local else client.sock.getsockname()[1]
    for endpoint in town.endpoints.values():
        for server in endpoint.connections:
            # Of several that have the address the kernel may have chosen any.
            if (server.peer.port == port) if port else (server.listener.name == str(client.address)):
                (address,) = {
                    each.plan.address for each in endpoint.listeners if each.counters is server.counters
                }
                return Resident(client, answer, endpoint, address)
    raise AssertionError(f"nobody has the client of {client.address}")


def check_reload(
    town: Town, after: Plan, fault: Fault, trouble: Trouble, suspended: set[str], busy: Address | None
) -> Any:
    """Reload and compare; the tree's shape afterwards, if it went well."""
    living = [resident(town, client) for client in town.clients() if client.address.kind.stream]
    for name in suspended & town.endpoints.keys():
        town.endpoints[name].suspend(True)
    town.house.loop.settle()
    seen, open_before = town.look(), descriptors()
    queued = town.clients()
    for client in queued:
        client.ask()
    reload = Reload(town, after, fault, trouble)
    for failure in reload.errors:
        assert failure.check(ReloadRefusedError), failure
    assert not town.house.log.named("reload")
    shaped = None
    if reload.errors or fault.what == "undo":
        assert fault.what != "nothing" or busy is not None, reload.errors
        check_same(seen, town.look(), reload.steps.count("close"))
        for one in living:
            assert one.client.answered() == one.answer, one
        check_answered(queued)
        for client in queued:
            client.close()
        town.check_serving()
        assert descriptors() == open_before
    else:
        check_success(town, reload, living, queued)
        shaped = shape(town.look())
    for one in living:
        one.client.close()
    return shaped


def check_answered(queued: list[Client]) -> None:
    for client in queued:
        assert client.answer()[1:] == b"?", client.address


def addresses_of(endpoint: Endpoint) -> list[Address]:
    return [listener.plan.address for listener in endpoint.listeners]


def check_success(town: Town, reload: Reload, living: list[Resident], queued: list[Client]) -> None:
    """Who could stay is there, who could not has left in good order, who comes is served."""
    old = town.endpoints
    had = {endpoint: addresses_of(endpoint) for endpoint in old.values()}
    suspended = {name for name, endpoint in old.items() if endpoint.suspended}
    reload.reconciliation.commit(WITHIN)
    assert not town.house.log.named("reload")
    town.endpoints = reload.reconciliation.endpoints
    town.gone = reload.reconciliation.gone
    reload.come_round()
    for name, endpoint in town.endpoints.items():
        assert endpoint.suspended == (name in suspended)
        endpoint.suspend(False)
    check_answered(queued)
    town.end_gone()
    connections = [endpoint.connections for endpoint in town.endpoints.values()]
    town.house.run_clock(lambda: not any(each.draining(one) for each in connections for one in each))
    for one in living:
        stays = one.endpoint in town.endpoints.values()
        has = addresses_of(one.endpoint).count(one.address) if stays else 0
        if has >= had[one.endpoint].count(one.address):
            assert one.client.answered() == one.answer, one
        elif not has:
            assert one.client.answer() == b""
    for client in queued:
        client.close()
    town.check_serving()
