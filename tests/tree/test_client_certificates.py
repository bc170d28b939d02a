"""What a client's certificate says holds for resumed sessions as for full handshakes, and later."""

import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from sockd.base.metrics import End
from sockd.plan.plan import TlsPlan
from sockd.transports.openssl import context
from sockd.tree import contexts
from sockd.tree.admission import Admission
from sockd.tree.endpoint import Endpoint
from tests.certificates import DAY, Made, made, tls_plan
from tests.tls_clients import Client
from tests.tree.house import House, Probes, ends

TLS = "tls://127.0.0.1:0"
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
BOTH = pytest.mark.parametrize("version", [V12, V13])
NAMED = pytest.mark.parametrize("names", [(), ("anna.example",)], ids=["any name", "named"])
AUTHORITY = made("authority", authority=True, days=300)
ANNA = made("anna.example", issuer="authority")


def plan(*names: str, authority: Made = AUTHORITY, **others: Any) -> TlsPlan:
    return tls_plan(client_ca=authority.chain, client_names=names, **others)


def asking(house: House, tls: TlsPlan) -> Endpoint:
    return house.run(TLS, stream=Probes(), tls=tls)


def later(endpoint: Endpoint, days: float) -> None:
    """Let so much time pass, to those that look at certificates again."""
    clients = endpoint.connections.admission.clients
    assert clients is not None
    wall = clients.wall
    clients.wall = lambda: wall() + days * DAY.total_seconds()


def resumable(house: House, endpoint: Endpoint, version: ssl.TLSVersion, options: int = 0) -> Any:
    """A client's context and session, after a full handshake; its connection has ended."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.options |= options
    how: dict[str, Any] = {"version": version, "certificate": ANNA, "context": context}
    first = house.shaken(endpoint.listeners[0].address, **how)
    session = first.tls.session
    first.tls.close()
    house.until(lambda: not len(endpoint.connections))
    house.log.events.clear()
    return context, session


def resume(house: House, endpoint: Endpoint, version: ssl.TLSVersion, context: Any, session: Any) -> Client:
    """A client that resumes the session; its handshake is done as far as it knows."""
    client = house.tls(endpoint.listeners[0].address, version=version, context=context)
    client.tls.session = session
    house.loop.until(client.shake, client.tls)
    return client


def refused(house: House, client: Client) -> str:
    """What the log says of a client that is closed after the handshake."""
    house.loop.until(lambda: client.has_some() and client.closed, client.tls)
    client.tls.close()
    house.until(lambda: ends(house))
    assert ends(house) == [End.BARRED]
    return house.log.messages()[-1]


@BOTH
@NAMED
@pytest.mark.parametrize("tickets", [True, False], ids=["ticket", "kept by the server"])
def test_an_expired_certificate_resumes_nothing(
    version: ssl.TLSVersion, names: tuple[str, ...], tickets: bool, house: House
) -> None:
    """Before its end the session is resumed, after it the client is refused, and the log says since when."""
    endpoint = asking(house, plan(*names))
    options = 0 if tickets else ssl.OP_NO_TICKET
    context, session = resumable(house, endpoint, version, options=options)
    client = resume(house, endpoint, version, context, session)
    house.until(lambda: all(server.ready for server in endpoint.connections) and len(endpoint.connections))
    assert client.tls.session_reused
    assert [server.identity for server in endpoint.connections] == ["anna.example"]
    client.tls.close()
    house.until(lambda: not len(endpoint.connections))
    house.log.events.clear()
    later(endpoint, 31)
    client = resume(house, endpoint, version, context, session)
    assert client.tls.session_reused
    assert "certificate dates: the client's certificate expired on 20" in refused(house, client)
    assert endpoint.listeners[0].counters.refused == {"TLS: certificate dates": 1}


@BOTH
def test_an_expired_issuer_resumes_nothing(version: ssl.TLSVersion, house: House) -> None:
    """Its dates hold as the client's own."""
    short = made("authority", authority=True, days=10)
    endpoint = asking(house, plan(authority=short))
    context, session = resumable(house, endpoint, version)
    later(endpoint, 11)
    client = resume(house, endpoint, version, context, session)
    assert ": the certificate of CN=authority expired on 20" in refused(house, client)


@BOTH
@pytest.mark.parametrize(
    "after",
    [
        plan("berta.example"),
        plan(authority=made("another authority", authority=True)),
        plan(min_version="1.2", recheck=60.0),
    ],
    ids=["names", "authority", "anything"],
)
def test_a_reload_ends_the_sessions(version: ssl.TLSVersion, after: TlsPlan, house: House) -> None:
    """Whatever of `tls` it changed: a session of before is not resumed, and the certificate is looked at."""
    endpoint = asking(house, plan())
    context, session = resumable(house, endpoint, version)
    endpoint.connections.admit_anew(Admission(house.plan(TLS, tls=after)))
    client = house.tls(endpoint.listeners[0].address, version=version, context=context, certificate=ANNA)
    client.tls.session = session

    def over() -> bool:
        return bool(client.alert()) or client.tls.session_reused is not None

    house.loop.until(over, client.tls)
    assert not client.tls.session_reused


@BOTH
def test_a_reload_of_the_rest_ends_none(version: ssl.TLSVersion, house: House) -> None:
    """What doesn't touch `tls` leaves the sessions as they are."""
    endpoint = asking(house, plan())
    context, session = resumable(house, endpoint, version)
    anew = Admission(house.plan(TLS, tls=plan(), connections_per_source=5))
    endpoint.connections.admit_anew(anew)
    client = resume(house, endpoint, version, context, session)
    assert client.tls.session_reused
    house.until(lambda: len(endpoint.connections) and all(one.ready for one in endpoint.connections))
    assert [server.identity for server in endpoint.connections] == ["anna.example"]


# -- connections that live on


@BOTH
def test_recheck_of_dates(version: ssl.TLSVersion, house: House) -> None:
    """A connection is closed once its client's certificate has expired, not before; the log says why."""
    endpoint = asking(house, plan(recheck=60.0))
    client = house.shaken(endpoint.listeners[0].address, version=version, certificate=ANNA)
    later(endpoint, 29)
    house.loop.advance(120)
    client.tls.send(b"y")
    house.loop.until(client.has_some, client.tls)
    assert client.data == b"y"
    later(endpoint, 2)
    house.run_clock(lambda: not all(not server.disconnecting for server in endpoint.connections))
    assert "certificate dates: the client's certificate expired on 20" in refused(house, client)
    assert endpoint.host.counters.refused == {"TLS: certificate dates": 1}


def test_recheck_of_a_resumed_session(house: House) -> None:
    """It proves what the first one did."""
    endpoint = asking(house, plan(recheck=60.0))
    resume(house, endpoint, V13, *resumable(house, endpoint, V13))
    house.until(lambda: len(endpoint.connections) and all(server.ready for server in endpoint.connections))
    later(endpoint, 31)
    house.run_clock(lambda: any(server.disconnecting for server in endpoint.connections))


def test_no_recheck(house: House) -> None:
    """Unless the file asks for it, a connection lives on."""
    endpoint = asking(house, plan())
    client = house.shaken(endpoint.listeners[0].address, certificate=ANNA)
    later(endpoint, 31)
    endpoint.connections.admit_anew(Admission(house.plan(TLS, tls=plan("berta.example"))))
    for _ in range(10):
        house.loop.advance(60)
        house.loop.turn()
    assert not any(server.disconnecting for server in endpoint.connections)
    client.tls.close()


# Certificates of an authority's that was renewed with its key, and of one that has another key.
RENEWED = made("authority", authority=True, days=200)
OTHER = made("another authority", authority=True)


@pytest.mark.parametrize(
    ("after", "why"),
    [
        (plan("anna.example", recheck=600.0), ""),
        (plan("berta.example", recheck=600.0), "for none of client_names; it is for anna.example"),
        (plan(authority=RENEWED, recheck=600.0), ""),
        (plan(authority=OTHER, recheck=600.0), "none of the authorities in client_ca has issued"),
        (plan(authority=ANNA, recheck=600.0), ""),
        (tls_plan(), ""),
    ],
    ids=[
        "same name",
        "other name",
        "renewed authority",
        "other authority",
        "the client's own",
        "no authority",
    ],
)
def test_recheck_after_a_reload(after: TlsPlan, why: str, house: House) -> None:
    """A connection is closed if its certificate would be refused now, and lives on if it would not."""
    endpoint = asking(house, plan())
    client = house.shaken(endpoint.listeners[0].address, certificate=ANNA)
    endpoint.connections.admit_anew(Admission(house.plan(TLS, tls=after)))
    (server,) = endpoint.connections
    for _ in range(10):
        if not server.disconnecting:
            house.loop.advance(1)
            house.loop.turn()
    assert server.disconnecting is bool(why)
    assert why in server.why
    client.tls.close()


def test_recheck_of_a_client_that_was_not_asked(house: House) -> None:
    """When certificates are asked for from now on, a client that has shown none is closed."""
    endpoint = asking(house, tls_plan())
    client = house.shaken(endpoint.listeners[0].address)
    endpoint.connections.admit_anew(Admission(house.plan(TLS, tls=plan(recheck=600.0))))
    house.run_clock(lambda: any(server.disconnecting for server in endpoint.connections))
    (server,) = endpoint.connections
    assert server.why.endswith(": the client has shown no certificate")
    client.tls.close()


# -- what is kept


def connected(house: House, endpoint: Endpoint, version: ssl.TLSVersion, options: int = 0) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.options |= options
    client = house.shaken(endpoint.listeners[0].address, version=version, context=context, certificate=ANNA)
    client.tls.close()
    house.clients.remove(client.tls)
    house.until(lambda: not len(endpoint.connections))


@pytest.mark.parametrize("tls", [tls_plan, plan], ids=["anybody", "certificates"])
def test_sessions_are_bounded(
    tls: Callable[[], TlsPlan], house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that OpenSSL keeps, as clients of TLS 1.2 take no tickets."""
    monkeypatch.setattr(contexts, "SESSIONS_LIMIT", 3)
    endpoint = asking(house, tls())
    numbers = []
    for _ in range(9):
        connected(house, endpoint, V12, ssl.OP_NO_TICKET)
        numbers.append(endpoint.connections.admission.sessions().context.session_stats()["number"])
    assert max(numbers) == 3
    assert numbers[-1] == 1


@pytest.mark.parametrize("tls", [tls_plan, plan], ids=["anybody", "certificates"])
def test_certificates_are_loaded_once(
    tls: Callable[[], TlsPlan], house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often connections get a new context: loading takes milliseconds for each certificate."""
    loaded = []

    def counted(*arguments: Any) -> ssl.SSLContext:
        loaded.append(arguments)
        return context(*arguments)

    monkeypatch.setattr(contexts, "SESSIONS_LIMIT", 3)
    monkeypatch.setattr(contexts, "context", counted)
    endpoint = asking(house, tls())
    sessions = set()
    for _ in range(9):
        connected(house, endpoint, V12, ssl.OP_NO_TICKET)
        sessions.add(endpoint.connections.admission.sessions())
    assert len(sessions) > 2
    assert len(loaded) == 1


def test_certificates_are_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that sessions have, and what is known of clients that come back."""
    monkeypatch.setattr(contexts, "CERTIFICATES_SIZE", 10_000)
    endpoint = asking(house, plan())
    made_anew = set()
    for _ in range(15):
        connected(house, endpoint, V12, ssl.OP_NO_TICKET)
        sessions = endpoint.connections.admission.sessions()
        assert sessions.size <= 10_000
        made_anew.add(id(sessions.context))
    assert len(made_anew) > 1


@BOTH
@pytest.mark.parametrize("count", [9, 10])
def test_a_long_chain(count: int, version: ssl.TLSVersion, house: House) -> None:
    """Certificates that lead nowhere are counted as well. OpenSSL has them only if it must."""
    endpoint = asking(house, plan())
    long = Made(ANNA.chain + made("extra").chain * count, ANNA.key)
    client = house.tls(endpoint.listeners[0].address, version=version, certificate=long)
    with suppress(ConnectionResetError):
        house.loop.until(client.shake, client.tls)
    if count < 10:
        house.until(lambda: len(endpoint.connections) and all(one.ready for one in endpoint.connections))
        return
    if version is V13:
        house.loop.until(lambda: client.has_some() and client.closed, client.tls)
    client.tls.close()
    house.until(lambda: ends(house))
    assert ends(house) == [End.HANDSHAKE if version is V12 else End.BARRED]
    assert "the client shows 11 certificates, and 10 are accepted" in house.log.messages()[-1]
