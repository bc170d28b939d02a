"""Endpoints on a Loop: real sockets on loopback and in temporary directories, a clock advanced by hand."""

import socket
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory
from twisted.logger import Logger, LogLevel, formatEvent

from sockd.base.addresses import Address, Kind, parse
from sockd.base.errors import Place
from sockd.base.metrics import End
from sockd.base.peers import Peer
from sockd.config.model import Restart
from sockd.plan.plan import AccessPlan, EndpointPlan, Limits, ListenerPlan, Network, TlsPlan
from sockd.protocols.contract import DatagramProtocol, Host, Options, Specification
from sockd.transports.flush import Flusher
from sockd.transports.sockets.options import SocketOptions
from sockd.tree.endpoint import Endpoint, Surroundings
from sockd.tree.sockets import UdpPorts
from tests.tls_clients import Client
from tests.transports.loop import Loop, Probe, echo

DELAY, MOST = 1.0, 4.0
# Steps of the clock (seconds) while it is run; and how far it is run before a test is given up.
STEP, FAR = 0.05, 4000.0


class Events:
    """A log that is kept."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.log = Logger("sockd", observer=self.events.append)  # type: ignore[arg-type]

    def messages(self, least: LogLevel = LogLevel.info) -> list[str]:
        return [formatEvent(event) for event in self.events if event["log_level"] >= least]

    def named(self, event: str) -> list[dict[str, Any]]:
        return [one for one in self.events if one.get("event") == event]


def raising(error: BaseException) -> Callable[..., Any]:
    """What a faulty method does."""

    def fail(*_: object) -> Any:
        raise error

    return fail


def in_turn(*makers: Callable[[], Any]) -> Callable[[], Any]:
    """What builds one thing after the other."""
    left = list(makers)

    def make() -> Any:
        return left.pop(0)()

    return make


class Service:
    """A protocol's service that does what the test says; `then` are what its starts return."""

    def __init__(self, *then: Callable[[], Any]) -> None:
        self.then = list(then)
        self.started = 0
        self.stopped = 0
        self.on_stop: Callable[[], Any] = lambda: None

    def startService(self) -> Any:
        self.started += 1
        return self.then.pop(0)() if self.then else None

    def stopService(self) -> Any:
        self.stopped += 1
        return self.on_stop()


class Datagrams(DatagramProtocol):
    """Answers; `faults` are the methods that raise, `calls` what was called, `data` what came."""

    def __init__(self, *faults: str, error: type[BaseException] = ZeroDivisionError) -> None:
        self.faults = set(faults)
        self.error = error
        self.calls: list[str] = []
        self.data: list[bytes] = []

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name in self.faults:
            raise self.error(f"a bug in {name}")

    def start(self, transport: Any) -> None:
        super().start(transport)
        self._called("start")

    def datagrams(self, batch: Sequence[tuple[bytes, Peer]]) -> None:
        self._called("datagrams")
        self.data += [data for data, _ in batch]
        for data, peer in batch:
            self.transport.send(data, peer)

    def drain(self) -> None:
        self._called("drain")

    def stop(self) -> None:
        self._called("stop")


class Probes(Factory):
    """Makes probes and keeps them; `build` decides otherwise."""

    noisy = True

    def __init__(self, build: Callable[[], IProtocol | None] | None = None) -> None:
        self.made: list[Probe] = []
        self.built = build
        self.numPorts = 0

    def buildProtocol(self, addr: Any) -> Any:
        if self.built is not None:
            return self.built()
        self.made.append(Probe(echo))
        return self.made[-1]


class House:
    """What endpoints share, and the endpoints that were opened in it."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.turn = Flusher(self.loop)
        self.log = Events()
        self.ports = UdpPorts()
        self.gave_up: list[Endpoint] = []
        self.endpoints: list[Endpoint] = []
        self.clients: list[socket.socket] = []
        self.surroundings = Surroundings(
            self.loop, self.turn, self.log.log, lambda: 0.0, self.gave_up.append, self.ports
        )

    def plan(
        self,
        *addresses: str | Address,
        stream: Any = None,
        datagram: Any = None,
        service: Any = None,
        give_up_after: float | None = None,
        sockets: SocketOptions | None = None,
        name: str = "lobby",
        tls: TlsPlan | None = None,
        access: AccessPlan | None = None,
        proxy_from: tuple[Network, ...] = (),
        starts_tls: bool = False,
        **limits: Any,
    ) -> EndpointPlan:
        """A plan; the makers are called with the host, instances are given as they are."""

        def maker(made: Any) -> Callable[[Host[Any]], Any] | None:
            return made if made is None or isinstance(made, type) or callable(made) else lambda host: made

        where = [parse(address) if isinstance(address, str) else address for address in addresses]
        return EndpointPlan(
            name=name,
            protocol="probe",
            specification=Specification(
                "a test's",
                stream=maker(stream),
                datagram=maker(datagram),
                service=maker(service),
                starts_tls=starts_tls,
            ),
            options=Options(),
            limits=Limits(
                **({"connections": 100, "idle": None, "stall": None, "datagrams": None,
                    "datagrams_per_source": None} | limits)
            ),
            restart=Restart(delay=DELAY, max_delay=MOST),
            give_up_after=give_up_after,
            listeners=tuple(
                ListenerPlan(address, sockets or SocketOptions(), address.kind is Kind.TLS)
                for address in where
            ),
            place=Place("sockd.yaml"),
            tls=tls,
            access=access,
            proxy_from=proxy_from,
        )  # fmt: skip

    def endpoint(self, *addresses: str | Address, **plan: Any) -> Endpoint:
        """An endpoint with this plan, not started."""
        self.endpoints.append(Endpoint(self.plan(*addresses, **plan), self.surroundings))
        return self.endpoints[-1]

    def run(self, *addresses: str | Address, **plan: Any) -> Endpoint:
        """An endpoint with this plan, started."""
        endpoint = self.endpoint(*addresses, **plan)
        endpoint.bind()
        endpoint.start()
        return endpoint

    def connect(self, address: Address, data: bytes = b"") -> socket.socket:
        """A client of this address."""
        if address.kind.local:
            client = socket.socket(
                socket.AF_UNIX, socket.SOCK_STREAM if address.kind.stream else socket.SOCK_DGRAM
            )
            where: Any = "\0" + address.path[1:] if address.path.startswith("@") else address.path
        else:
            client = socket.socket(type=socket.SOCK_STREAM if address.kind.stream else socket.SOCK_DGRAM)
            where = (address.host, address.port)
        self.clients.append(client)
        client.connect(where)
        client.setblocking(False)
        if data or not address.kind.stream:
            client.send(data)
        return client

    def tls(self, address: Address, **how: Any) -> Client:
        """A TLS client of this address; the handshake hasn't begun."""
        client = Client(self.connect(address), **how)
        self.clients.append(client.tls)
        return client

    def shaken(self, address: Address, **how: Any) -> Client:
        """The same, after a handshake, and a byte that was echoed: in 1.3 a client alone can't know."""
        client = self.tls(address, **how)
        self.loop.until(client.shake, client.tls)
        client.tls.send(b"x")
        self.loop.until(client.has_some, client.tls)
        client.data.clear()
        return client

    def receive(self, client: socket.socket, count: int) -> bytes:
        """So many bytes; fewer where the other end closed."""
        got = bytearray()

        def enough() -> bool:
            try:
                data = client.recv(count - len(got))
            except BlockingIOError:
                return False
            except ConnectionResetError:
                return True
            got.extend(data)
            return not data or len(got) == count

        self.loop.until(enough, client)
        return bytes(got)

    def until(self, condition: Callable[[], object], *clients: socket.socket) -> None:
        self.loop.until(condition, *clients)

    def run_clock(self, condition: Callable[[], object]) -> float:
        """Advance the clock until this holds; how long (seconds) that took."""
        began = self.loop.seconds()
        while not condition():
            if self.loop.seconds() - began > FAR:
                raise AssertionError("it never came true")
            self.loop.turn()
            if not condition():
                self.loop.advance(STEP)
        return self.loop.seconds() - began

    def finish(self, coroutine: Any) -> Deferred[Any]:
        """Run a coroutine to its end."""
        deferred = ensureDeferred(coroutine)
        self.run_clock(lambda: deferred.called)
        return deferred

    def close(self) -> None:
        """End everything, quickly."""
        for endpoint in self.endpoints:
            draining = ensureDeferred(endpoint.drain())
            endpoint.cut()
            while not draining.called:
                self.loop.turn()
                self.loop.advance(STEP)
            stopping = ensureDeferred(endpoint.stop())
            stopping.addErrback(lambda _: None)
            stopping.cancel()
        for client in self.clients:
            client.close()
        self.loop.settle()


def ends(house: House) -> list[End]:
    """Why connections ended, by the log."""
    return [event["end"] for event in house.log.named("connection ended")]


def connected(house: House, endpoint: Endpoint) -> socket.socket:
    """A client that is being served."""
    client = house.connect(endpoint.listeners[0].address, b"x")
    assert house.receive(client, 1) == b"x"
    return client
