"""Random plans over few addresses, protocols that fail when told to, what can be seen of a running tree."""

import os
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory

from sockd.base.addresses import Address, Kind
from sockd.base.errors import Place
from sockd.base.peers import Peer
from sockd.config.model import Restart
from sockd.plan.claims import Claim, Claims
from sockd.plan.plan import EndpointPlan, Limits, ListenerPlan, LogPlan, Plan, TlsPlan
from sockd.protocols.contract import DatagramProtocol, Host, Options, Specification
from sockd.transports.sockets.opening import Opened
from sockd.transports.sockets.options import Keepalive, SocketOptions
from sockd.tree.datagrams import DatagramListener
from sockd.tree.endpoint import Endpoint
from sockd.tree.listener import Listener
from tests.certificates import made, tls_plan
from tests.transports.loop import Probe

HERE = Place("sockd.yaml")
# Below the ports that the kernel gives away by itself (ip(7), ip_local_port_range).
_FIRST_PORT, _LAST_PORT = 21_000, 31_000
# struct tcp_info: of a listening socket, tcpi_sacked is how long its backlog may be.
_BACKLOG = struct.Struct("=28xI")


# Whose the certificate is that clients of TLS show when they are asked.
CLIENT = "client.example"


class Word(Options):
    """What the protocols answer begins with it."""

    word: str = "u"


class Trouble:
    """Has the next call at one place of a protocol fail, once."""

    def __init__(self) -> None:
        self.place = ""
        self.how: Callable[[], Any] = lambda: None

    def arm(self, place: str, how: Callable[[], Any]) -> None:
        self.place, self.how = place, how

    def at(self, place: str) -> Any:
        """Called by the protocols wherever they could fail."""
        if place == self.place:
            self.place = ""
            return self.how()
        return None


class Answers(Factory):
    """Makes probes that answer with the word that held when it was made."""

    noisy = False

    def __init__(self, host: Host[Any], trouble: Trouble) -> None:
        trouble.at("stream")
        self.word = host.options.word.encode()
        self.trouble = trouble
        self.started = 0

    def startFactory(self) -> None:
        self.trouble.at("startFactory")
        self.started += 1

    def stopFactory(self) -> None:
        self.started -= 1

    def buildProtocol(self, addr: Any) -> Any:
        word = self.word
        return Probe(lambda probe, data: probe.transport.write(word + data))


class Replies(DatagramProtocol):
    """Answers each datagram; `seen` is how many came."""

    def __init__(self, host: Host[Any], trouble: Trouble) -> None:
        trouble.at("datagram")
        self.word = host.options.word.encode()
        self.trouble = trouble
        self.seen = 0
        self.running = False

    def start(self, transport: Any) -> None:
        super().start(transport)
        self.trouble.at("start")
        self.running = True

    def datagrams(self, batch: Sequence[tuple[bytes, Peer]]) -> None:
        for data, peer in batch:
            self.seen += 1
            self.transport.send(self.word + data, peer)

    def stop(self) -> None:
        self.running = False


class KeenReplies(Replies):
    """Takes other options while it runs."""

    def reload(self, options: Word) -> Any:
        trouble = self.trouble.at("datagram reload")
        self.word = options.word.encode()
        return trouble


class Serving:
    """A protocol's service; with some options it takes its time."""

    def __init__(self, host: Host[Any], trouble: Trouble) -> None:
        trouble.at("service")
        self.host = host
        self.word = host.options.word
        self.trouble = trouble
        self.running = False

    def soon(self) -> Deferred[None] | None:
        if self.word == "u":
            return None
        later: Deferred[None] = Deferred(lambda _: call.cancel())
        call = self.host.reactor.callLater(0.2, later.callback, None)
        return later

    def startService(self) -> Any:
        trouble = self.trouble.at("startService")
        self.running = True
        return trouble or self.soon()

    def stopService(self) -> Any:
        self.running = False
        return self.soon()


class Keen(Serving):
    """Takes other options while it runs."""

    def reload(self, options: Word) -> Any:
        trouble = self.trouble.at("reload")
        self.word = options.word
        return trouble or self.soon()


SLOW_PLACES = ("startService", "reload", "datagram reload")  # whose Deferred is waited for
PLACES = ("stream", "startFactory", "datagram", "start", "service", *SLOW_PLACES)


def specifications(trouble: Trouble) -> dict[str, Specification]:
    """Protocols with a service and without, that take options and don't, one for streams alone."""

    def with_trouble(maker: Any) -> Callable[[Host[Any]], Any]:
        return lambda host: maker(host, trouble)

    stream, replies, keen_replies, serving, keen = map(
        with_trouble, (Answers, Replies, KeenReplies, Serving, Keen)
    )
    return {
        "plain": Specification("", Word, stream, replies, answer_beyond=16),
        "streams": Specification("", Word, stream),
        "served": Specification("", Word, stream, replies, serving, answer_beyond=16),
        "keen": Specification("", Word, stream, keen_replies, keen, answer_beyond=16),
    }


def free_ports(count: int) -> list[int]:
    """Ports that nobody has, on any address."""
    found: list[int] = []
    start = _FIRST_PORT + os.getpid() * 7 % (_LAST_PORT - _FIRST_PORT - 200)
    for port in range(start, _LAST_PORT):
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("0.0.0.0", port))
                udp.bind(("0.0.0.0", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no ports are free")


def addresses(ports: Sequence[int], directory: Path) -> list[Address]:
    """Few, so that plans meet: the same ones, and such that the kernel would not have both."""
    first, second = ports
    inet = [
        Address(kind, host, port)
        for kind in (Kind.TCP, Kind.TLS, Kind.UDP)
        for host, port in (
            ("127.0.0.1", first), ("127.0.0.2", first), ("0.0.0.0", first), ("*", first),
            ("127.0.0.1", second),
        )
    ]  # fmt: skip
    local = [
        Address(kind, path=path)
        for kind in (Kind.UNIX, Kind.UNIXGRAM)
        for path in (f"{directory}/a", f"{directory}/b", f"{directory}/same/a", f"@sockd-{os.getpid()}")
    ]
    return inet + local


def tls_plans() -> tuple[TlsPlan, ...]:
    """What an endpoint may show and ask of who speaks TLS; made once."""
    one, other = (made(name).plan(name) for name in ("a.example", "b.example"))
    authority = made("authority", authority=True).chain
    return (
        tls_plan(one),
        tls_plan(other),
        tls_plan(one, other),
        tls_plan(other, min_version="1.3"),
        tls_plan(one, client_ca=authority),
        tls_plan(one, client_ca=authority, client_names=(CLIENT,)),
    )


def socket_options(address: Address) -> st.SearchStrategy[SocketOptions]:
    """Such as the file may have for this address."""
    usual = SocketOptions()
    keepalive = st.sampled_from([None, Keepalive(60, 10, 6)])
    backlog, buffer = st.sampled_from([64, 1024]), st.sampled_from([None, None, 65536, 131072])
    shared = st.sampled_from([False, False, True])
    if address.kind.ports is Kind.TCP:
        return st.builds(
            SocketOptions, backlog=backlog, keepalive=keepalive, nodelay=st.booleans(), reuse_port=shared,
            receive_buffer=buffer,
        )  # fmt: skip
    if address.kind is Kind.UDP:
        return st.builds(SocketOptions, reuse_port=shared, receive_buffer=buffer)
    mode = st.sampled_from([usual.mode, 0o600])
    return st.builds(SocketOptions, mode=mode, backlog=backlog if address.kind.stream else st.just(1024))


def listener_plans(address: Address) -> st.SearchStrategy[ListenerPlan]:
    return st.builds(
        ListenerPlan, st.just(address), socket_options(address), st.just(address.kind is Kind.TLS)
    )


def shared(plan: ListenerPlan) -> bool:
    """Whether it may be open beside others: over TLS it could get clients who speak none."""
    return plan.socket.reuse_port and not plan.tls


@st.composite
def plans(
    draw: st.DrawFn, pool: Sequence[Address], known: dict[str, Specification], near: Plan | None = None
) -> Plan:
    """A plan that the file could have: no two listeners want what the kernel would not give them.

    Each of its endpoints may be one of the plan that it is `near` to, or such a one with other details.
    """
    claims = Claims()
    endpoints = []
    for name in ("a", "b", "c"):
        old = next((each for each in near.endpoints if each.name == name), None) if near else None
        how = draw(st.sampled_from(["same", "tuned", "tuned", "new"])) if old else "new"
        if old is not None and how != "new":
            protocol: str | None = old.protocol
            wanted = list(old.listeners)
        else:
            protocol = draw(st.sampled_from([None, *known]))
            addresses = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=4))
            wanted = [draw(listener_plans(address)) for address in addresses]
        if how == "tuned" and draw(st.booleans()):
            wanted = [replace(each, socket=draw(socket_options(each.address))) for each in wanted]
        if how == "tuned" and draw(st.booleans()):
            address = draw(st.sampled_from(pool))
            wanted.append(draw(listener_plans(address)))
        if protocol is None:
            continue
        spoken = [each for each in wanted if each.address.kind.stream or known[protocol].datagram is not None]
        listeners = [each for each in spoken if not claims.add(Claim(each.address, shared(each), HERE))]
        if not listeners:
            continue
        tls = draw(st.sampled_from(tls_plans())) if any(each.tls for each in listeners) else None
        plan = EndpointPlan(
            name, protocol, known[protocol],
            options=Word(word=draw(st.sampled_from("uv"))),
            limits=Limits(draw(st.sampled_from([100, 200])), None, None, None, None),
            restart=Restart(delay=draw(st.sampled_from([1.0, 2.0])), max_delay=4.0),
            give_up_after=None,
            listeners=tuple(listeners),
            place=HERE,
            tls=tls,
        )  # fmt: skip
        if old is not None and how == "same":
            plan = replace(old, listeners=plan.listeners, tls=tls and old.tls)
        endpoints.append(plan)
    return Plan(Path("sockd.yaml"), 10.0, LogPlan("info", "auto"), tuple(endpoints))


# -- what can be seen


def inode(opened: Opened | None) -> int:
    """Which socket of the kernel's this is."""
    return 0 if opened is None else os.fstat(opened.sock.fileno()).st_ino


def kernel_options(opened: Opened | None) -> tuple[Any, ...]:
    """What the kernel knows of a socket's options."""
    if opened is None:
        return ()
    sock = opened.sock
    if opened.address.kind.local:
        return (os.lstat(opened.file.path).st_mode & 0o777,) if opened.file is not None else ()
    common = [sock.getsockopt(socket.SOL_SOCKET, name) for name in (socket.SO_RCVBUF, socket.SO_REUSEPORT)]
    if opened.address.kind is Kind.UDP:
        return tuple(common)
    keepalive = sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT) if keepalive else ()
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BACKLOG.size)
    return (
        *common,
        *_BACKLOG.unpack(info),
        keepalive,
        bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)),
        *(sock.getsockopt(socket.IPPROTO_TCP, name) for name in names),
    )


def readers_of(endpoint: Endpoint) -> set[Any]:
    """What an endpoint has a right to have in the reactor."""
    connections = endpoint.connections
    found: set[Any] = {*connections, connections.crowd} if connections else set()
    for listener in endpoint.listeners:
        found.add(listener.descriptor)
    return found - {None}


def accepting(listener: Listener, readers: set[Any]) -> bool:
    return listener.descriptor in readers


@dataclass
class Seen:
    """One listener, as it is."""

    listener: Listener
    plan: ListenerPlan
    number: int
    inode: int
    options: tuple[Any, ...]
    state: str
    accepting: bool
    protocol: Any
    protocol_word: bytes
    counters: Any


@dataclass
class SeenEndpoint:
    """One endpoint, as it is; `same` holds what must be the very same thing after a failure."""

    endpoint: Endpoint
    plan: EndpointPlan
    state: str
    causes: frozenset[Any]
    factory: Any
    service: Any
    admission: Any
    word: Any
    connections: tuple[Any, ...]
    listeners: list[Seen] = field(default_factory=list)


def look(endpoints: dict[str, Endpoint], readers: set[Any]) -> dict[str, SeenEndpoint]:
    """All that there is to see."""
    return {name: _look(endpoint, readers) for name, endpoint in endpoints.items()}


def _look(endpoint: Endpoint, readers: set[Any]) -> SeenEndpoint:
    seen = SeenEndpoint(
        endpoint,
        endpoint.plan,
        endpoint.service.state,
        endpoint.causes,
        endpoint.engine.factory,
        endpoint.host.service,
        endpoint.connections.admission,
        getattr(endpoint.host.service, "word", None),
        tuple(endpoint.connections),
    )
    for watched in endpoint.watched:
        listener = watched.listener
        protocol = listener.protocol if isinstance(listener, DatagramListener) else None
        seen.listeners.append(
            Seen(
                listener, listener.plan, listener.number, inode(listener.opened),
                kernel_options(listener.opened), watched.supervisor.state, accepting(listener, readers),
                protocol, getattr(protocol, "word", b""), listener.counters,
            )
        )  # fmt: skip
    return seen


def shape(seen: dict[str, SeenEndpoint]) -> dict[str, Any]:
    """What two trees of one plan have in common, however they came to be."""
    return {
        name: (
            one.plan, one.state, one.causes, one.factory.word, one.factory.started, one.word,
            [
                (each.plan, each.number, each.options, each.state, each.accepting, each.protocol_word)
                for each in one.listeners
            ],
        )
        for name, one in seen.items()
    }  # fmt: skip


def check_same(before: dict[str, SeenEndpoint], now: dict[str, SeenEndpoint], closed: int) -> None:
    """Nothing has changed, but that so many sockets may have been closed and opened again."""
    assert list(before) == list(now)
    opened_again = 0
    for old, new in zip(before.values(), now.values(), strict=True):
        assert new.endpoint is old.endpoint
        assert (new.plan, new.state, new.causes, new.word) == (old.plan, old.state, old.causes, old.word)
        assert new.factory is old.factory
        assert new.service is old.service
        assert new.admission is old.admission
        assert set(old.connections) <= set(new.connections)
        for one, other in zip(old.listeners, new.listeners, strict=True):
            assert one.listener is other.listener
            assert one.protocol is other.protocol
            assert one.counters is other.counters
            assert (one.plan, one.state, one.options) == (other.plan, other.state, other.options)
            assert (one.accepting, one.protocol_word) == (other.accepting, other.protocol_word)
            opened_again += one.inode != other.inode
    assert opened_again <= closed
