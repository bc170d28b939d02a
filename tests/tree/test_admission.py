"""Who gets to the protocol: a PROXY header, access, sources, a handshake, and the protocol's own word."""

import errno
import os
import socket
import struct
from collections import Counter
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from sockd.base.metrics import End
from sockd.base.units import Rate
from sockd.plan.plan import AccessPlan
from sockd.transports.connection import Connection
from sockd.transports.proxy import LINE_LIMIT
from sockd.tree.endpoint import Endpoint
from sockd.tree.entry import Entry
from tests.certificates import made, tls_plan
from tests.tls_clients import Client
from tests.transports.loop import Probe, echo
from tests.tree.house import Datagrams, House, Probes, ends, in_turn, raising

TCP, TLS = "tcp://127.0.0.1:0", "tls://127.0.0.1:0"
HERE = (ip_network("127.0.0.1"),)
HEADER = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n"
NOBODY = AccessPlan((), (ip_network("0.0.0.0/0"),), frozenset(), frozenset())


def access(*allow: str, deny: tuple[str, ...] = ()) -> AccessPlan:
    return AccessPlan(tuple(map(ip_network, allow)), tuple(map(ip_network, deny)), frozenset(), frozenset())


def refused(endpoint: Endpoint) -> Counter[str]:
    """By the endpoint and by all its listeners."""
    return sum((each.counters.refused for each in endpoint.listeners), endpoint.host.counters.refused)


def gone(house: House, client: socket.socket) -> bool:
    """Whether the server has ended the connection; nothing came before that."""
    return house.receive(client, 1) == b""


def counted(endpoint: Endpoint) -> int:
    """Connections that sources are counted for; their sum must be the same."""
    admission = endpoint.connections.admission
    assert admission.sources is not None
    assert admission.sources.connections == len(admission.counted)
    return len(admission.counted)


# -- access


def test_who_is_not_allowed_is_closed_at_once(house: House) -> None:
    """No protocol is made, and it is counted."""
    factory = Probes()
    endpoint = house.run(TCP, stream=factory, access=NOBODY)
    assert gone(house, house.connect(endpoint.listeners[0].address))
    assert refused(endpoint) == {"access": 1}
    assert not factory.made
    assert not len(endpoint.connections)


def test_a_protocol_refuses_a_peer(house: House) -> None:
    """Its answer is sent, it is counted once, and the log says why."""

    def refuse(probe: Probe, _data: bytes) -> None:
        probe.transport.write(b"no")
        probe.transport.refuse("not a chat", "it speaks HTTP")
        probe.transport.refuse("again")

    endpoint = house.run(TCP, stream=Probes(lambda: Probe(refuse)))
    client = house.connect(endpoint.listeners[0].address, b"GET /")
    assert house.receive(client, 3) == b"no"
    client.close()
    house.until(lambda: not endpoint.connections)
    assert refused(endpoint) == {"not a chat": 1}
    (event,) = house.log.named("connection ended")
    assert (event["end"], event["why"]) == ("refused by the protocol", "not a chat: it speaks HTTP")


def test_the_smallest_network_decides(house: House) -> None:
    """What is denied as a whole may be allowed in part."""
    rules = access("127.0.0.0/30", deny=("127.0.0.0/8",))
    endpoint = house.run("tcp://0.0.0.0:0", stream=Probes(), access=rules)
    for host, allowed in (("127.0.0.1", True), ("127.0.0.9", False)):
        client = socket.create_connection(
            ("127.0.0.1", endpoint.listeners[0].address.port), source_address=(host, 0)
        )
        client.setblocking(False)
        house.clients.append(client)
        client.send(b"x")
        assert house.receive(client, 1) == (b"x" if allowed else b"")


def test_users_and_groups_of_unix_sockets(house: House, tmp_path: Path) -> None:
    """By the kernel's word; networks don't concern them."""
    wrong = AccessPlan((), (ip_network("0.0.0.0/0"),), frozenset({os.getuid() + 1}), frozenset())
    groups = AccessPlan((), (), frozenset({os.getuid() + 1}), frozenset({os.getgid()}))
    for number, (rules, allowed) in enumerate(((wrong, False), (groups, True), (NOBODY, True))):
        endpoint = house.run(f"unix://{tmp_path}/{number}.sock", stream=Probes(), access=rules)
        client = house.connect(endpoint.listeners[0].address, b"x")
        assert house.receive(client, 1) == (b"x" if allowed else b"")
        assert refused(endpoint) == ({} if allowed else {"access": 1})


def test_datagrams_of_who_is_not_allowed(house: House) -> None:
    """They are dropped and counted."""
    protocol = Datagrams()
    endpoint = house.run("udp://127.0.0.1:0", datagram=protocol, access=NOBODY)
    house.connect(endpoint.listeners[0].address, b"x")
    house.until(lambda: refused(endpoint))
    assert refused(endpoint) == {"access": 1}
    assert not protocol.data


@pytest.mark.parametrize("kind", [TCP, TLS])
@pytest.mark.parametrize(
    ("reason", "how"),
    [
        ("access", {"access": NOBODY}),
        ("proxy header", {"proxy_from": (ip_network("192.0.2.0/24"),)}),
        ("connections_per_source", {"connections_per_source": 1}),
        ("connect_rate", {"connect_rate": Rate(1, 60.0)}),
    ],
)
def test_nothing_is_built_for_a_refused_peer(
    kind: str, reason: str, how: Any, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that can be known from the address is asked first."""
    endpoint = house.run(kind, stream=Probes(), tls=tls_plan(), **how)
    address = endpoint.listeners[0].address
    if reason.startswith("connect"):  # the first one may
        house.connect(address)
        house.until(lambda: len(endpoint.connections))
    for built in (Connection, Entry):
        monkeypatch.setattr(built, "__init__", raising(AssertionError("built")))
    assert gone(house, house.connect(address))
    assert refused(endpoint) == {reason: 1}


def test_a_connection_that_cannot_be_built_is_not_counted(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its source gets its place back."""
    endpoint = house.run(TCP, stream=Probes(), connections_per_source=1)
    with monkeypatch.context() as patch:
        patch.setattr(Connection, "__init__", raising(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))))
        assert gone(house, house.connect(endpoint.listeners[0].address))
    assert refused(endpoint) == {"accepting failed": 1}
    assert counted(endpoint) == 0


# -- sources


@pytest.mark.parametrize("kind", [TCP, TLS])
def test_connections_of_a_source(kind: str, house: House) -> None:
    """One too many is refused; who leaves makes room for one."""
    endpoint = house.run(kind, stream=Probes(), tls=tls_plan(), connections_per_source=2)
    address = endpoint.listeners[0].address
    for _ in range(2):
        house.connect(address)
    house.until(lambda: len(endpoint.connections) == 2)
    assert gone(house, house.connect(address))
    assert refused(endpoint) == {"connections_per_source": 1}
    house.clients[0].close()
    house.until(lambda: len(endpoint.connections) == 1)
    house.connect(address)
    house.until(lambda: len(endpoint.connections) == 2)
    assert counted(endpoint) == 2


def test_rate_of_a_source(house: House) -> None:
    """It recovers by itself."""
    endpoint = house.run(TCP, stream=Probes(), connect_rate=Rate(2, 1.0))
    address = endpoint.listeners[0].address
    answers = [house.receive(house.connect(address, b"x"), 1) for _ in range(3)]
    assert answers == [b"x", b"x", b""]
    house.loop.advance(0.5)
    assert house.receive(house.connect(address, b"x"), 1) == b"x"
    assert refused(endpoint) == {"connect_rate": 1}


def test_exempt_networks(house: House) -> None:
    """Limits of a source don't concern them, those of the endpoint do."""
    endpoint = house.run(
        TCP, stream=Probes(), connections_per_source=1, connect_rate=Rate(1, 60.0), exempt=HERE
    )
    address = endpoint.listeners[0].address
    assert [house.receive(house.connect(address, b"x"), 1) for _ in range(3)] == [b"x"] * 3


def test_silent_sources_are_forgotten(house: House) -> None:
    """Without anybody's coming, too."""
    endpoint = house.run(TCP, "udp://127.0.0.1:0", stream=Probes(), datagram=Datagrams(),
                         connect_rate=Rate(2, 1.0), datagrams_per_source=Rate(2, 1.0))  # fmt: skip
    stream, datagram = endpoint.listeners
    house.receive(house.connect(stream.address, b"x"), 1)
    house.receive(house.connect(datagram.address, b"x"), 1)
    port: Any = datagram.descriptor
    tables = (endpoint.connections.admission.sources, port.sources)
    assert [len(table or ()) for table in tables] == [1, 1]
    house.loop.advance(1.0)
    endpoint.log_refusals()
    assert [len(table or ()) for table in tables] == [0, 0]


def fails_handshake(house: House, endpoint: Endpoint) -> None:
    client = house.connect(endpoint.listeners[0].address, b"GET / HTTP/1.0\r\n\r\n")
    house.until(lambda: refused(endpoint)["TLS: http request"])
    client.close()


def is_refused_by_the_protocol(house: House, endpoint: Endpoint) -> None:
    client = house.tls(endpoint.listeners[0].address)
    house.loop.until(client.shake, client.tls)
    house.loop.until(client.has_some, client.tls)
    client.tls.close()


def leaves_in_the_handshake(house: House, endpoint: Endpoint) -> None:
    client = house.connect(endpoint.listeners[0].address, b"\x16")
    house.until(lambda: len(endpoint.connections))
    client.close()


def is_reset(house: House, endpoint: Endpoint) -> None:
    client = house.connect(endpoint.listeners[0].address)
    house.until(lambda: len(endpoint.connections))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def takes_too_long(house: House, endpoint: Endpoint) -> None:
    house.connect(endpoint.listeners[0].address)
    house.until(lambda: len(endpoint.connections))
    house.run_clock(lambda: not len(endpoint.connections))


def is_cut(house: House, endpoint: Endpoint) -> None:
    house.connect(endpoint.listeners[0].address)
    house.until(lambda: len(endpoint.connections))
    endpoint.cut()


@pytest.mark.parametrize(
    "ending",
    [fails_handshake, is_refused_by_the_protocol, leaves_in_the_handshake, is_reset, takes_too_long, is_cut],
)
def test_a_source_is_given_back_once(ending: Any, house: House) -> None:
    """However its connection ends, there is room for one afterwards, and for no more."""
    endpoint = house.run(
        TLS, stream=Probes(lambda: None), tls=tls_plan(), connections_per_source=1, handshake=1.0
    )
    for _ in range(2):
        ending(house, endpoint)
        house.until(lambda: not len(endpoint.connections))
        assert counted(endpoint) == 0
    assert refused(endpoint)["connections_per_source"] == 0


def test_refused_by_a_protocol_over_tcp(house: House) -> None:
    """There never was a connection to be counted among the others."""
    build = in_turn(lambda: None, raising(ZeroDivisionError("a bug")), lambda: Probe(echo))
    endpoint = house.run(TCP, stream=Probes(build), connections_per_source=1)
    address = endpoint.listeners[0].address
    answers = [house.receive(house.connect(address, b"x"), 1) for _ in range(3)]
    assert answers == [b"", b"", b"x"]
    assert refused(endpoint) == {"by the protocol": 1, "exception in buildProtocol": 1}
    assert ends(house) == [End.REFUSED, End.FAILED]
    assert counted(endpoint) == 1


# -- the order


def test_each_is_asked_in_turn(house: House) -> None:
    """The header's address counts for access; what access refuses is no attempt; and so on."""
    endpoint = house.run(
        TLS,
        stream=Probes(),
        tls=tls_plan(),
        proxy_from=HERE,
        access=access("192.0.2.0/24"),
        connect_rate=Rate(2, 1.0),
    )
    address = endpoint.listeners[0].address
    other = HEADER.replace(b"192.0.2.7", b"198.51.100.7")
    house.connect(address, b"\x16\x03\x01")
    house.until(lambda: refused(endpoint)["proxy header"])
    for _ in range(5):
        house.connect(address, other)
    house.until(lambda: refused(endpoint)["access"] == 5)
    house.connect(address, HEADER + b"GET / HTTP/1.0\r\n\r\n")
    house.until(lambda: refused(endpoint)["TLS: http request"])
    house.connect(address, HEADER)
    house.until(lambda: len(endpoint.connections) and len(endpoint.connections.admission.counted) == 2)
    house.connect(address, HEADER)
    house.until(lambda: refused(endpoint)["connect_rate"])
    assert refused(endpoint) == {"proxy header": 1, "access": 5, "TLS: http request": 1, "connect_rate": 1}


# -- PROXY headers


@pytest.mark.parametrize("kind", [TCP, TLS])
def test_header_of_a_proxy(kind: str, house: House) -> None:
    """However it is split; the client's address is the peer, and the header is not the protocol's."""
    factory = Probes()
    endpoint = house.run(kind, stream=factory, tls=tls_plan(), proxy_from=HERE, connections_per_source=1)
    address = endpoint.listeners[0].address
    plain = house.connect(address)
    for byte in HEADER[:-1]:
        plain.send(bytes([byte]))
        house.loop.settle()
    assert not factory.made
    if kind == TCP:
        plain.send(HEADER[-1:] + b"hel")
        assert house.receive(plain, 3) == b"hel"
        plain.send(b"lo")
        assert house.receive(plain, 2) == b"lo"
    else:
        plain.send(HEADER[-1:])
        client = Client(plain)
        house.clients.append(client.tls)
        house.loop.until(client.shake, client.tls)
        client.tls.send(b"hello")
        house.loop.until(client.has_some, client.tls)
    (server,) = endpoint.connections
    assert server.peer.text == "192.0.2.7:4711"
    assert factory.made[0].transport.getPeer().host == "192.0.2.7"
    assert bytes(factory.made[0].data) == b"hello"
    assert (server.received, endpoint.listeners[0].counters.bytes_in) == (5, 5)
    assert counted(endpoint) == 1


def test_header_and_nothing(house: House) -> None:
    """The protocol is made when the header has come, without any byte of its own."""
    factory = Probes()
    endpoint = house.run(TCP, stream=factory, proxy_from=HERE)
    house.connect(endpoint.listeners[0].address, HEADER)
    house.until(lambda: factory.made)
    assert not factory.made[0].data
    assert factory.made[0].made == 1


def test_what_came_with_the_header_waits(house: House) -> None:
    """For a protocol that pauses as it is made: it gets nothing before it resumes, and then all in order."""
    factory = Probes(lambda: Probe(on_made=lambda probe: probe.transport.pauseProducing()))
    endpoint = house.run(TCP, stream=factory, proxy_from=HERE)
    client = house.connect(endpoint.listeners[0].address, HEADER + b"with it, ")
    house.until(lambda: endpoint.connections and next(iter(endpoint.connections)).ready)
    client.send(b"after it")
    house.loop.settle()
    (server,) = endpoint.connections
    assert not server.protocol.data
    server.protocol.transport.resumeProducing()
    server.protocol.transport.pauseProducing()
    house.loop.settle()
    assert not server.protocol.data
    server.protocol.transport.resumeProducing()
    house.until(lambda: server.protocol.data == b"with it, after it")
    assert server.received == len(b"with it, after it")


def test_what_came_with_the_header_for_one_that_closes(house: House) -> None:
    """It closes as it is made: nothing is delivered, and the connection ends."""
    factory = Probes(lambda: Probe(on_made=lambda probe: probe.transport.loseConnection()))
    endpoint = house.run(TCP, stream=factory, proxy_from=HERE)
    assert gone(house, house.connect(endpoint.listeners[0].address, HEADER + b"with it"))


def test_what_came_with_the_header_is_too_much(house: House) -> None:
    """An exception costs the connection, and is told."""

    def bad(_probe: Probe, _data: bytes) -> None:
        raise ValueError("a bug")

    endpoint = house.run(TCP, stream=Probes(lambda: Probe(bad)), proxy_from=HERE)
    assert gone(house, house.connect(endpoint.listeners[0].address, HEADER + b"with it"))
    assert refused(endpoint) == {"exception in dataReceived": 1}


def test_proxy_that_speaks_for_itself(house: House) -> None:
    """UNKNOWN, and LOCAL of version 2: the real peer counts."""
    factory = Probes()
    endpoint = house.run(TCP, stream=factory, proxy_from=HERE)
    client = house.connect(endpoint.listeners[0].address, b"PROXY UNKNOWN\r\nx")
    assert house.receive(client, 1) == b"x"
    (server,) = endpoint.connections
    assert server.peer.text == f"127.0.0.1:{client.getsockname()[1]}"


def test_no_proxy_no_header(house: House) -> None:
    """Who isn't in `from` is refused, whatever it sends; Unix sockets have no headers."""
    endpoint = house.run(TCP, stream=Probes(), proxy_from=(ip_network("192.0.2.1"),))
    assert gone(house, house.connect(endpoint.listeners[0].address, HEADER))
    assert refused(endpoint) == {"proxy header": 1}


def test_unix_sockets_have_no_headers(house: House, tmp_path: Path) -> None:
    """An endpoint may have both."""
    endpoint = house.run(f"unix://{tmp_path}/a.sock", TCP, stream=Probes(), proxy_from=HERE)
    client = house.connect(endpoint.listeners[0].address, b"x")
    assert house.receive(client, 1) == b"x"


@pytest.mark.parametrize("data", [b"GET / HTTP/1.0\r\n", b"PROXY TCP4 x\r\n", b"PROXY " + b"x" * LINE_LIMIT])
@pytest.mark.parametrize("kind", [TCP, TLS])
def test_wrong_header(kind: str, data: bytes, house: House) -> None:
    """It ends the connection before anything else looks at it."""
    factory = Probes()
    endpoint = house.run(kind, stream=factory, tls=tls_plan(), proxy_from=HERE)
    assert gone(house, house.connect(endpoint.listeners[0].address, data))
    house.until(lambda: not len(endpoint.connections))
    assert refused(endpoint) == {"proxy header": 1}
    assert ends(house) == [End.BARRED]
    assert not factory.made


def test_refused_by_the_protocol_after_a_header(house: House) -> None:
    """It is one of the endpoint's connections then, and ends like them."""
    endpoint = house.run(TCP, stream=Probes(lambda: None), proxy_from=HERE, connections_per_source=1)
    client = house.connect(endpoint.listeners[0].address, HEADER + b"x")
    assert gone(house, client)
    client.close()
    house.until(lambda: not len(endpoint.connections))
    assert refused(endpoint) == {"by the protocol": 1}
    assert ends(house) == [End.REFUSED]
    assert counted(endpoint) == 0


@pytest.mark.parametrize("where", ["on_made", "on_data"])
def test_faulty_protocol_after_a_header(where: str, house: House) -> None:
    """It is told where it raised."""
    fault: dict[str, Any] = {where: raising(ZeroDivisionError("a bug"))}
    endpoint = house.run(TCP, stream=Probes(lambda: Probe(**fault)), proxy_from=HERE)
    house.connect(endpoint.listeners[0].address, HEADER + b"x")
    house.until(lambda: ends(house))
    assert ends(house) == [End.FAILED]
    what = {"on_made": "connectionMade", "on_data": "dataReceived"}[where]
    assert refused(endpoint) == {f"exception in {what}": 1}


def test_who_leaves_before_the_header_is_whole(house: House) -> None:
    """It never was at the protocol."""
    factory = Probes()
    endpoint = house.run(TCP, stream=factory, proxy_from=HERE)
    house.connect(endpoint.listeners[0].address, HEADER[:9]).close()
    house.until(lambda: ends(house))
    assert ends(house) == [End.PEER]
    assert not factory.made


# -- the identity


def test_identity_in_the_log(house: House) -> None:
    """Whom a client's certificate names is told when its connection ends."""
    authority = made("authority", authority=True)
    plan = tls_plan(client_ca=authority.chain, client_names=("anna.example",))
    endpoint = house.run(TLS, stream=Probes(), tls=plan)
    client = house.shaken(endpoint.listeners[0].address, certificate=made("anna.example", issuer="authority"))
    client.tls.close()
    house.until(lambda: ends(house))
    (event,) = house.log.named("connection ended")
    assert event["identity"] == "anna.example"
    assert f"{event['peer']} (anna.example) on tls://" in house.log.messages()[-1]
