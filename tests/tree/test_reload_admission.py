"""Reloads of what comes before the protocol: keys, access, limits of sources, TLS and back on one socket."""

import ssl
from ipaddress import ip_network
from typing import Any

import pytest

from sockd.base.addresses import Address, Kind
from sockd.base.metrics import End
from sockd.base.units import Rate
from sockd.plan.plan import AccessPlan, CertificatePlan, EndpointPlan
from sockd.transports.openssl import TlsError
from sockd.tree.endpoint import Endpoint
from tests.certificates import made, tls_plan
from tests.tls_clients import Client
from tests.tree.house import House, ends
from tests.tree.reloads import Reloads
from tests.tree.trees import free_ports, inode

HERE = (ip_network("127.0.0.1"),)
NOBODY = AccessPlan((), (ip_network("0.0.0.0/0"),), frozenset(), frozenset())
HEADER = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n"


def der(name: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert(made(name).chain.decode())


def showing(name: str, **more: Any) -> Any:
    return tls_plan(made(name).plan(name), **more)


def plan(reloads: Reloads, kind: str, port: int = 0, protocol: str = "plain", **more: Any) -> EndpointPlan:
    """One endpoint at one address, which answers with `u` and what it was sent."""
    return reloads.plan("one", protocol, f"{kind}://127.0.0.1:{port}", **more)


def spoken(house: House, client: Client) -> bytes:
    """What a TLS client is answered."""
    client.tls.send(b"?")
    house.loop.until(lambda: client.has_some() and (len(client.data) > 1 or client.closed), client.tls)
    data = bytes(client.data)
    client.data.clear()
    return data


def new_client(reloads: Reloads, **how: Any) -> Client:
    client = reloads.house.tls(reloads.address("one"), **how)
    reloads.house.loop.until(client.shake, client.tls)
    return client


# -- keys


def test_new_keys_are_for_later_connections(reloads: Reloads) -> None:
    """Those that are there keep theirs, and the listener its socket."""
    house = reloads.house
    reloads.start(plan(reloads, "tls", tls=showing("old")))
    before = new_client(reloads)
    in_handshake = house.tls(reloads.address("one"))
    house.loop.until(lambda: len(reloads["one"].connections) == 2)
    number = inode(reloads["one"].listeners[0].opened)
    assert reloads.reload(plan(reloads, "tls", tls=showing("new"))) == ""
    assert inode(reloads["one"].listeners[0].opened) == number
    after = new_client(reloads)
    house.loop.until(in_handshake.shake, in_handshake.tls)
    assert [client.tls.getpeercert(True) for client in (before, in_handshake, after)] == [
        der("old"), der("old"), der("new"),
    ]  # fmt: skip
    assert [spoken(house, client) for client in (before, in_handshake, after)] == [b"u?"] * 3


def test_ticket_of_before_is_of_no_use(reloads: Reloads) -> None:
    """With other authorities, a client of before has to show its certificate to them."""
    house = reloads.house
    old = showing("server", client_ca=made("old authority", authority=True).chain)
    new = showing("server", client_ca=made("new authority", authority=True).chain)
    reloads.start(plan(reloads, "tls", tls=old))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    first = new_client(reloads, context=context, certificate=made("anna", issuer="old authority"))
    assert spoken(house, first) == b"u?"
    session = first.tls.session
    assert reloads.reload(plan(reloads, "tls", tls=new)) == ""
    second = house.tls(reloads.address("one"), context=context)
    second.tls.session = session
    house.loop.until(lambda: second.alert() or second.closed, second.tls)
    assert not second.tls.session_reused
    refused = reloads["one"].listeners[0].counters.refused
    assert refused == {"TLS: certificate verify failed: unable to get local issuer certificate": 1}


def test_key_that_is_refused_changes_nothing(reloads: Reloads) -> None:
    """The endpoint and the file are named, the old key goes on."""
    reloads.start(plan(reloads, "tls", tls=showing("old")))
    right, other = made("new").plan(), made("other")
    wrong = CertificatePlan((), 0.0, "", right.chain, other.key, right.file)
    refused = reloads.reload(plan(reloads, "tls", tls=tls_plan(wrong)))
    assert refused == "one: test.pem: key values mismatch"
    assert new_client(reloads).tls.getpeercert(True) == der("old")


def test_key_of_a_new_endpoint_that_is_refused(reloads: Reloads) -> None:
    """It is the same where the endpoint wasn't there before."""
    reloads.start(plan(reloads, "tls", tls=showing("old")))
    right, other = made("new").plan(), made("other")
    wrong = tls_plan(CertificatePlan((), 0.0, "", right.chain, other.key, right.file))
    two = reloads.plan("two", "plain", "tls://127.0.0.1:0", tls=wrong)
    with pytest.raises(TlsError, match=r"^two: test\.pem: key values mismatch$"):
        reloads.begin(plan(reloads, "tls", tls=showing("old")), two)


def test_client_certificates_are_asked_of_later_connections(reloads: Reloads) -> None:
    """Whose handshake had begun is served by what was asked of it, with a certificate or without."""
    house = reloads.house
    authority = made("authority", authority=True).chain
    known = made("client.example", issuer="authority")
    asking = showing("a", client_ca=authority, client_names=("client.example",))
    names = []
    reloads.start(plan(reloads, "tls", tls=showing("a")))
    for tls in (asking, showing("a")):
        client = house.tls(reloads.address("one"), certificate=known)
        assert not client.shake()
        house.until(lambda: len(reloads["one"].connections) == 1)
        assert reloads.reload(plan(reloads, "tls", tls=tls)) == ""
        house.loop.until(client.shake, client.tls)
        assert spoken(house, client) == b"u?"
        (server,) = reloads["one"].connections
        names.append(server.identity)
        client.tls.close()
        house.until(lambda: not len(reloads["one"].connections))
    assert names == ["", "client.example"]


# -- tls and tcp on one socket


@pytest.mark.parametrize("protocol", ["plain", "keen"])
def test_tcp_to_tls_and_back(protocol: str, reloads: Reloads) -> None:
    """The socket stays; who was there before is drained."""
    house = reloads.house
    (port,) = free_ports(1)
    reloads.start(plan(reloads, "tcp", port, protocol))
    number = inode(reloads["one"].listeners[0].opened)
    plain = house.connect(reloads.address("one"), b"?")
    assert house.receive(plain, 2) == b"u?"
    reconciliation = reloads.begin(plan(reloads, "tls", port, protocol, tls=showing("a")))
    assert reloads.prepare(reconciliation) == ""
    reloads.commit(reconciliation)
    assert inode(reloads["one"].listeners[0].opened) == number
    assert reloads["one"].listeners[0].address.kind is Kind.TLS
    assert spoken(house, new_client(reloads)) == b"u?"
    house.run_clock(lambda: any(server.lingering for server in reloads["one"].connections))
    assert plain.recv(1) == b""
    plain.close()
    assert reloads.reload(plan(reloads, "tcp", port, protocol)) == ""
    assert inode(reloads["one"].listeners[0].opened) == number
    assert reloads.ask("one") == b"u?"


def test_tls_to_tcp_with_somebody_in_the_handshake(reloads: Reloads) -> None:
    """It ends as TLS; what comes next is plain."""
    house = reloads.house
    (port,) = free_ports(1)
    reloads.start(plan(reloads, "tls", port, tls=showing("a")))
    client = house.tls(reloads.address("one"))
    house.until(lambda: len(reloads["one"].connections))
    reconciliation = reloads.begin(plan(reloads, "tcp", port))
    assert reloads.prepare(reconciliation) == ""
    reloads.commit(reconciliation)
    house.loop.until(client.shake, client.tls)
    assert spoken(house, client) == b"u?"
    assert reloads.ask("one") == b"u?"


def test_tls_to_tcp_with_somebody_in_the_backlog(reloads: Reloads) -> None:
    """It is served as who came before, also where the address goes to another endpoint."""
    house = reloads.house
    (port,) = free_ports(1)
    reloads.start(plan(reloads, "tls", port, tls=showing("a")))
    client = house.tls(reloads.address("one"))
    assert not client.shake()
    reconciliation = reloads.begin(reloads.plan("two", "plain", f"tcp://127.0.0.1:{port}"))
    assert reloads.prepare(reconciliation) == ""
    reloads.commit(reconciliation)
    house.loop.until(client.shake, client.tls)
    assert spoken(house, client) == b"u?"
    assert reloads.ask("two") == b"u?"
    reloads.drain_gone()


@pytest.mark.parametrize("pause", range(4))
def test_nobody_is_refused_meanwhile(pause: int, reloads: Reloads) -> None:
    """At whatever step a client comes, it is served by one of the two."""
    house = reloads.house
    (port,) = free_ports(1)
    reloads.start(plan(reloads, "tcp", port))
    for kind, more in (("tls", {"tls": showing("a")}), ("tcp", {})) * 2:
        address = Address(Kind.TCP, "127.0.0.1", port)
        reconciliation = reloads.begin(plan(reloads, kind, port, **more))
        clients = [house.connect(address) for _ in range(pause)]
        assert reloads.prepare(reconciliation) == ""
        clients += [house.connect(address) for _ in range(pause)]
        reloads.commit(reconciliation)
        if kind == "tcp":
            late = house.connect(address, b"?")
            assert house.receive(late, 2) == b"u?"
            late.close()
        for client in clients:
            client.close()
        house.until(lambda: not len(reloads["one"].connections))


# -- access


def test_access_is_applied_to_the_living(reloads: Reloads) -> None:
    """Whom it doesn't allow any more is cut and counted; the others stay."""
    house = reloads.house
    reloads.start(plan(reloads, "tcp", protocol="streams"))
    client = house.connect(reloads.address("one"), b"?")
    assert house.receive(client, 2) == b"u?"
    assert reloads.reload(plan(reloads, "tcp", protocol="streams", access=NOBODY)) == ""
    house.loop.settle()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert ends(house) == [End.BARRED]
    assert reloads["one"].host.counters.refused == {"access": 1}
    allowed = AccessPlan(HERE, (), frozenset(), frozenset())
    assert reloads.reload(plan(reloads, "tcp", protocol="streams", access=allowed)) == ""
    client = house.connect(reloads.address("one"), b"?")
    assert house.receive(client, 2) == b"u?"
    assert reloads.reload(plan(reloads, "tcp", protocol="streams")) == ""
    client.send(b"?")
    assert house.receive(client, 2) == b"u?"


def test_access_in_the_handshake(reloads: Reloads) -> None:
    """Who is known by then is asked at once; who has its header to send is asked when it came."""
    house = reloads.house
    usual: dict[str, Any] = {"tls": showing("a")}
    reloads.start(plan(reloads, "tls", **usual))
    house.connect(reloads.address("one"))
    house.until(lambda: len(reloads["one"].connections))
    assert reloads.reload(plan(reloads, "tls", **usual, access=NOBODY)) == ""
    house.run_clock(lambda: not len(reloads["one"].connections))
    assert ends(house) == [End.BARRED]


def test_access_before_the_header(reloads: Reloads) -> None:
    """It isn't the proxy that is meant."""
    house = reloads.house
    reloads.start(plan(reloads, "tcp", proxy_from=HERE))
    client = house.connect(reloads.address("one"))
    house.until(lambda: len(reloads["one"].connections))
    no_proxies = AccessPlan((), HERE, frozenset(), frozenset())
    assert reloads.reload(plan(reloads, "tcp", proxy_from=HERE, access=no_proxies)) == ""
    client.send(HEADER + b"?")
    assert house.receive(client, 2) == b"u?"


def test_who_is_no_proxy_any_more(reloads: Reloads) -> None:
    """The header that it was about to send isn't believed."""
    house = reloads.house
    reloads.start(plan(reloads, "tcp", proxy_from=HERE))
    client = house.connect(reloads.address("one"))
    house.until(lambda: len(reloads["one"].connections))
    assert reloads.reload(plan(reloads, "tcp")) == ""
    client.send(HEADER + b"?")
    house.until(lambda: not len(reloads["one"].connections))
    assert ends(house) == [End.BARRED]
    assert reloads["one"].listeners[0].counters.refused == {"proxy header": 1}


# -- sources


def counts(endpoint: Endpoint) -> int:
    sources = endpoint.connections.admission.sources
    assert sources is not None
    assert sources.connections == len(endpoint.connections.admission.counted)
    return len(endpoint.connections.admission.counted)


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_limits_of_sources_hold_for_who_is_there(kind: str, reloads: Reloads) -> None:
    """They count from the beginning, were they one too many; each ends once."""
    house = reloads.house
    usual: dict[str, Any] = {"tls": showing("a") if kind == "tls" else None}
    reloads.start(plan(reloads, kind, **usual))
    clients = [house.connect(reloads.address("one")) for _ in range(3)]
    house.until(lambda: len(reloads["one"].connections) == 3)
    for most, counted in ((2, 3), (5, 3), (5, 3), (1, 3)):
        assert reloads.reload(plan(reloads, kind, **usual, connections_per_source=most)) == ""
        assert counts(reloads["one"]) == counted
    assert house.receive(house.connect(reloads.address("one")), 1) == b""
    for client in clients:
        client.close()
    house.until(lambda: not len(reloads["one"].connections))
    assert counts(reloads["one"]) == 0
    assert reloads["one"].listeners[0].counters.refused["connections_per_source"] == 1


def test_reload_gives_no_rate_back(reloads: Reloads) -> None:
    """Of something else: who has used up its rate has to wait."""
    house = reloads.house
    usual: dict[str, Any] = {"connect_rate": Rate(1, 1.0), "connections_per_source": 9}
    reloads.start(plan(reloads, "tcp", **usual))
    assert reloads.ask("one") == b"u?"
    assert (
        reloads.reload(plan(reloads, "tcp", **usual, access=AccessPlan(HERE, (), frozenset(), frozenset())))
        == ""
    )
    assert reloads.ask("one") == b""
    house.until(lambda: not len(reloads["one"].connections))
    assert counts(reloads["one"]) == 0
    house.loop.advance(1.0)
    assert reloads.ask("one") == b"u?"


def test_limits_of_sources_go(reloads: Reloads) -> None:
    """Whoever was counted is not, and ends as ever."""
    house = reloads.house
    reloads.start(plan(reloads, "tcp", connections_per_source=1))
    client = house.connect(reloads.address("one"), b"?")
    assert house.receive(client, 2) == b"u?"
    assert reloads.reload(plan(reloads, "tcp")) == ""
    assert reloads.ask("one") == b"u?"
    client.close()
    house.until(lambda: not len(reloads["one"].connections))
