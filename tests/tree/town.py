"""A house with endpoints by name, and clients of all its listeners, for tests of reloads."""

import socket
import ssl
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from twisted.internet.defer import ensureDeferred

from sockd.base.addresses import Address, Kind, overlap
from sockd.plan.plan import Plan
from sockd.transports.sockets.opening import open_address
from sockd.transports.sockets.options import SocketOptions
from sockd.tree.endpoint import Endpoint
from sockd.tree.states import State
from tests.certificates import made
from tests.tree.house import House
from tests.tree.trees import CLIENT, look, readers_of


@cache
def client_context() -> ssl.SSLContext:
    """The context of all clients of TLS, which share a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    made(CLIENT, issuer="authority").load_into(context)
    return context


class Client:
    """A client that asks and is answered; over TLS after the handshake."""

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
        """Send what is to be sent, as soon as the handshake allows."""
        if not self.shaken:
            assert isinstance(self.sock, ssl.SSLSocket)
            with suppress(ssl.SSLWantReadError):
                self.sock.do_handshake()
                self.shaken = True
        if self.shaken and self.unsaid:
            self.sock.send(self.unsaid)
            self.unsaid = b""

    def certificate(self) -> bytes | None:
        """The server's certificate, if TLS is spoken."""
        return self.sock.getpeercert(True) if isinstance(self.sock, ssl.SSLSocket) else None

    def answer(self) -> bytes:
        """The answer; empty where the connection has ended."""
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
        """The answers that are possible here: listeners that share a port share its clients."""
        return {
            endpoint.plan.options.word.encode() + b"?"  # type: ignore[attr-defined]
            for endpoint in self.endpoints.values()
            for listener in endpoint.listeners
            if overlap(listener.plan.address, address) and listener.opened is not None
        }

    def certificates(self, address: Address) -> set[bytes | None]:
        """The certificates that are possible here: the one for the clients' name, else the first."""
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
        """New clients are served everywhere, and the reactor has nothing that belongs to no endpoint."""
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
        ours = self.house.ports
        assert {port: ours.listeners(port) for port in ours} == Counter(ports)
        for endpoint in self.endpoints.values():
            for listener in endpoint.listeners:
                if listener.opened is not None and listener.opened.file is not None:
                    assert listener.opened.file.there()

    def end_gone(self) -> None:
        """Drain and stop the endpoints that are gone, as the daemon does."""
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


@contextmanager
def taken(address: Address | None) -> Iterator[None]:
    """Have another program use the address."""
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
    """A client that stays, and the endpoint that serves it."""

    client: Client
    answer: bytes
    endpoint: Endpoint
    address: Address


def resident(town: Town, client: Client) -> Resident:
    answer = client.answered()
    assert answer in town.words(client.address)
    port = 0 if client.address.kind.local else client.sock.getsockname()[1]
    for endpoint in town.endpoints.values():
        for connection in endpoint.connections:
            # Of several that have the address the kernel may have chosen any.
            if (connection.peer.port == port) if port else (connection.listener.name == str(client.address)):
                (address,) = {
                    each.plan.address for each in endpoint.listeners if each.counters is connection.counters
                }
                return Resident(client, answer, endpoint, address)
    raise AssertionError(f"nobody has the client of {client.address}")
