"""TLS of an endpoint: which certificate is shown, whose are taken, which versions and ciphers are spoken."""

import ssl
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
from cryptography import x509
from twisted.internet.interfaces import (
    IHandshakeListener,
    INegotiated,
    IProtocolNegotiationFactory,
    ISSLTransport,
)
from twisted.protocols.policies import WrappingFactory
from zope.interface import directlyProvides, implementer

from sockd.base.metrics import End
from sockd.plan.plan import CertificatePlan
from sockd.transports.openssl import TlsError
from sockd.tree.admission import Admission
from sockd.tree.contexts import server_contexts
from sockd.tree.endpoint import Endpoint
from tests.certificates import made, tls_plan
from tests.tls_clients import Client
from tests.transports.loop import Probe, broken, echo
from tests.tree.house import House, Probes, ends

TLS = "tls://127.0.0.1:0"
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
BOTH = pytest.mark.parametrize("version", [V12, V13])


def planned(*names: str) -> CertificatePlan:
    return made(*names).plan(*names)


def shown(client: Client) -> bytes | None:
    """The certificate that the server showed."""
    return client.tls.getpeercert(True)


def der(*names: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert(made(*names).chain.decode())


# -- server names


@BOTH
@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("a.example", ("a.example", "192.0.2.1")),
        ("B.Example", ("b.example", "*.b.example")),
        ("x.b.example", ("b.example", "*.b.example")),
        ("special.b.example", ("special.b.example",)),
        ("x.x.b.example", ("a.example", "192.0.2.1")),
        ("elsewhere.example", ("a.example", "192.0.2.1")),
        ("example", ("a.example", "192.0.2.1")),
        (None, ("a.example", "192.0.2.1")),
        ("192.0.2.1", ("a.example", "192.0.2.1")),
    ],
)
def test_certificate_by_server_name(
    asked: str | None, answer: tuple[str, ...], version: ssl.TLSVersion, house: House
) -> None:
    """The name itself, else a wildcard for one label, else the first; clients of an IP address name none."""
    plan = tls_plan(
        planned("a.example", "192.0.2.1"), planned("b.example", "*.b.example"), planned("special.b.example")
    )
    endpoint = house.run(TLS, stream=Probes(), tls=plan)
    client = house.shaken(endpoint.listeners[0].address, version=version, name=asked)
    assert shown(client) == der(*answer)


def test_first_of_two_for_one_name(house: House) -> None:
    """The order in the file decides."""
    plan = tls_plan(planned("a.example"), planned("c.example", "b.example"), planned("b.example"))
    endpoint = house.run(TLS, stream=Probes(), tls=plan)
    client = house.shaken(endpoint.listeners[0].address, name="b.example")
    assert shown(client) == der("c.example", "b.example")


def hello(name: bytes) -> bytes:
    """A ClientHello that asks for this name."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls = context.wrap_bio(incoming, outgoing, server_hostname="x" * len(name))
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read().replace(b"x" * len(name), name)


@pytest.mark.parametrize("name", [b"\xff\xfe", b"b\xc3\xa4r", b"a\nb", b"a\0b", b".", b"*.b", b"xn--\x80"])
def test_odd_server_names(name: bytes, house: House, capsys: pytest.CaptureFixture[str]) -> None:
    """They are answered with the first certificate or an alert; nothing is printed, whatever they are."""
    endpoint = house.run(TLS, stream=Probes(), tls=tls_plan(planned("a"), planned("b")))
    client = house.connect(endpoint.listeners[0].address, hello(name))
    assert house.receive(client, 1) in (b"\x15", b"\x16")
    client.close()
    house.until(lambda: not len(endpoint.connections))
    assert capsys.readouterr() == ("", "")
    house.shaken(endpoint.listeners[0].address)


# -- clients' certificates


def asking(house: House, *client_names: str) -> Endpoint:
    """An endpoint that wants certificates of an authority, with one of these names if there are any."""
    plan = tls_plan(client_ca=made("authority", authority=True).chain, client_names=client_names)
    return house.run(TLS, stream=Probes(), tls=plan, connections_per_source=1)


def refusal(house: House, endpoint: Endpoint, **how: Any) -> str:
    """The alert that a client gets; the end is counted once, its source free again, and no protocol made."""
    client = house.tls(endpoint.listeners[0].address, **how)
    alerts: list[str] = []

    def told() -> bool:
        alert = client.alert()
        if alert:
            alerts.append(alert)
        return bool(alert) or client.closed

    house.loop.until(told, client.tls)
    client.tls.close()
    house.until(lambda: not len(endpoint.connections))
    assert not endpoint.connections.admission.counted
    assert endpoint.host.counters.refused.total() + endpoint.listeners[0].counters.refused.total() == 1
    return alerts[0] if alerts else ""


@BOTH
def test_no_certificate(version: ssl.TLSVersion, house: House) -> None:
    """Who shows none is told what is wrong."""
    endpoint = asking(house)
    alert = refusal(house, endpoint, version=version)
    assert "certificate required" in alert or "handshake failure" in alert
    assert endpoint.listeners[0].counters.refused == {"TLS: peer did not return a certificate": 1}
    assert ends(house) == [End.HANDSHAKE]


@BOTH
@pytest.mark.parametrize(
    ("certificate", "why", "more"),
    [
        (made("stranger"), "self-signed certificate", "it is for stranger, by CN=stranger"),
        (
            made("guest", issuer="other authority"),
            "unable to get local issuer certificate",
            "it is for guest, by CN=other authority",
        ),
        (
            made("late", issuer="authority", days=-0.5),
            "certificate has expired",
            "it is for late, by CN=authority; the client's certificate expired on 20",
        ),
        (
            made("early", issuer="authority", start=1),
            "certificate is not yet valid",
            "it is for early, by CN=authority; the client's certificate is not valid before 20",
        ),
        (
            made("odd\x1b[31m\n", issuer="o\x1b\nther"),
            "unable to get local issuer certificate",
            "it is for odd\\x1b[31m\\x0a, by CN=o\\x1b\\x0ather",
        ),
    ],
    ids=["self-signed", "other authority", "expired", "not yet valid", "control characters"],
)
def test_certificate_that_is_not_trusted(
    certificate: Any, why: str, more: str, version: ssl.TLSVersion, house: House
) -> None:
    """The reason is counted; the log has it with the certificate's name, its issuer's and its dates."""
    endpoint = asking(house)
    assert refusal(house, endpoint, version=version, certificate=certificate)
    assert endpoint.listeners[0].counters.refused == {f"TLS: certificate verify failed: {why}": 1}
    assert ends(house) == [End.HANDSHAKE]
    assert f"no handshake (certificate verify failed: {why}; {more}" in house.log.messages()[-1]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "http request; the client speaks HTTP without TLS"),
        (
            b"CONNECT a:443 HTTP/1.1\r\n",
            "https proxy request; the client takes this for a proxy of HTTP",
        ),
        (b"EHLO example.org\r\n", "wrong version number; what came is no TLS"),
        (
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "wrong version number; a PROXY header came, and proxy_protocol expects none",
        ),
        (
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12),
            "wrong version number; a PROXY header came, and proxy_protocol expects none",
        ),
    ],
    ids=["HTTP", "HTTP proxy", "SMTP", "PROXY 1", "PROXY 2"],
)
def test_what_is_no_tls(data: bytes, why: str, house: House) -> None:
    """The log says what it looks like."""
    endpoint = house.run(TLS, stream=Probes(), tls=tls_plan())
    client = house.connect(endpoint.listeners[0].address, data)
    house.receive(client, 100)
    client.close()
    house.until(lambda: ends(house))
    assert f"no handshake ({why})" in house.log.messages()[-1]


@BOTH
def test_wrong_name(version: ssl.TLSVersion, house: House) -> None:
    """It is trusted, but not meant."""
    endpoint = asking(house, "anna.example", "a.example.org")
    berta = made("berta.example", issuer="authority")
    assert refusal(house, endpoint, version=version, certificate=berta) == ""
    assert endpoint.listeners[0].counters.refused == {"TLS: certificate name": 1}
    assert ends(house) == [End.BARRED]
    assert "none of client_names; it is for berta.example)" in house.log.messages()[-1]


@BOTH
@pytest.mark.parametrize("names", [(), ("berta.example", "anna.example")])
def test_right_certificate(names: tuple[str, ...], version: ssl.TLSVersion, house: House) -> None:
    """Whom it names is the connection's identity; the protocol can see it."""
    endpoint = asking(house, *names)
    anna = made("anna.example", issuer="authority")
    client = house.shaken(endpoint.listeners[0].address, version=version, certificate=anna)
    (server,) = endpoint.connections
    assert server.identity == "anna.example"
    client.tls.close()


@BOTH
def test_resumed_session_has_its_identity(version: ssl.TLSVersion, house: House) -> None:
    """A client that comes back by a ticket is who it was."""
    endpoint = asking(house, "anna.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    how: dict[str, Any] = {"version": version, "context": context}
    first = house.shaken(
        endpoint.listeners[0].address, certificate=made("anna.example", issuer="authority"), **how
    )
    session = first.tls.session
    first.tls.close()
    house.until(lambda: not len(endpoint.connections))
    second = house.tls(endpoint.listeners[0].address, **how)
    second.tls.session = session
    house.loop.until(second.shake, second.tls)
    house.until(lambda: all(server.ready for server in endpoint.connections))
    assert second.tls.session_reused
    assert [server.identity for server in endpoint.connections] == ["anna.example"]


# -- versions and ciphers


@pytest.mark.parametrize("least", ["1.2", "1.3"])
@pytest.mark.parametrize("version", [V12, V13])
def test_least_version(least: str, version: ssl.TLSVersion, house: House) -> None:
    """Older ones are refused by an alert that says so."""
    endpoint = house.run(TLS, stream=Probes(), tls=tls_plan(min_version=least))
    address = endpoint.listeners[0].address
    if least == "1.3" and version is V12:
        client = house.tls(address, version=version)
        house.loop.until(client.alert, client.tls)
        assert endpoint.listeners[0].counters.refused == {"TLS: unsupported protocol": 1}
    else:
        house.shaken(address, version=version)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_versions_that_are_over(version: ssl.TLSVersion, house: House) -> None:
    """Whatever the client would do for it."""
    endpoint = house.run(TLS, stream=Probes(), tls=tls_plan())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("ALL:@SECLEVEL=0")
    client = house.tls(endpoint.listeners[0].address, version=version, context=context)
    house.loop.until(client.alert, client.tls)
    assert endpoint.listeners[0].counters.refused == {"TLS: unsupported protocol": 1}
    client.tls.close()
    house.until(lambda: ends(house))
    newest = {ssl.TLSVersion.TLSv1: "TLS 1.0", ssl.TLSVersion.TLSv1_1: "TLS 1.1"}[version]
    assert f"unsupported protocol; the client speaks {newest} at most" in house.log.messages()[-1]


def negotiable(house: House, version: ssl.TLSVersion, ciphers: str) -> set[str]:
    """Which of these the endpoint agrees to, one after the other, each alone."""
    endpoint = house.run(TLS, stream=Probes(), tls=tls_plan())
    found = set()
    listed = subprocess.run(
        ["openssl", "ciphers", "-s", "-tls1_2", ciphers], capture_output=True, text=True, check=True
    )
    for cipher in listed.stdout.strip().split(":"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.set_ciphers(f"{cipher}:@SECLEVEL=0")
        except ssl.SSLError:
            continue
        client = house.tls(endpoint.listeners[0].address, version=version, context=context)
        alerts: list[str] = []

        def over(client: Client = client, alerts: list[str] = alerts) -> bool:
            if alert := client.alert():
                alerts.append(alert)
            return bool(alerts) or (client.tls.version() is not None and client.shake())

        house.loop.until(over, client.tls)
        if not alerts:
            found.add(cipher)
        client.tls.close()
        house.until(lambda: not len(endpoint.connections))
    return found


def test_no_weak_cipher(house: House) -> None:
    """Of all that OpenSSL has for 1.2: forward secrecy and authenticated encryption only."""
    assert negotiable(house, V12, "ALL:COMPLEMENTOFALL:@SECLEVEL=0") == {
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
    }


def test_ciphers_of_the_latest_version(house: House) -> None:
    """None with a short tag (RFC 8446, appendix B.4, has two of these)."""
    (context,) = server_contexts(tls_plan())
    of_13 = {cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] == "TLSv1.3"}
    assert of_13 == {"TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"}


def test_key_that_openssl_refuses(house: House) -> None:
    """The reason names the file, and none of its content."""
    one, other = made("one"), made("other")
    wrong = CertificatePlan((), 0.0, "", one.chain, other.key, one.plan().file)
    with pytest.raises(TlsError, match=r"^test\.pem: key values mismatch$"):
        server_contexts(tls_plan(wrong))


# -- what Twisted's protocols see


class Spoken(Probes):
    """Says what it speaks, as twisted.web's Site does."""

    def __init__(self, *names: bytes, error: Exception | None = None) -> None:
        super().__init__()
        directlyProvides(self, IProtocolNegotiationFactory)
        self.names = names
        self.error = error

    def acceptableProtocols(self) -> list[bytes]:
        if self.error is not None:
            raise self.error
        return list(self.names)


def offering(*names: str) -> ssl.SSLContext:
    """A client's context that offers these."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(names)
    return context


@BOTH
@pytest.mark.parametrize(
    ("factory", "alpn", "offered", "chosen"),
    [
        (Spoken(b"h2", b"http/1.1"), (), ("http/1.1", "h2"), "h2"),
        (Spoken(b"h2", b"http/1.1"), (), ("http/1.1",), "http/1.1"),
        (Spoken(b"h2", b"http/1.1"), ("http/1.1",), ("h2", "http/1.1"), "http/1.1"),
        (Spoken(b"h2"), (), ("irc",), None),
        (Spoken(b"h2"), (), (), None),
        (Probes(), ("irc", "imap"), ("imap", "irc"), "irc"),
        (Probes(), (), ("h2",), None),
        (WrappingFactory(Spoken(b"h2")), (), ("h2",), "h2"),
    ],
    ids=["factory", "client", "file", "none in common", "none offered", "plain", "no names", "wrapped"],
)
def test_alpn(
    factory: Any,
    alpn: tuple[str, ...],
    offered: tuple[str, ...],
    chosen: str | None,
    version: Any,
    house: House,
) -> None:
    """The endpoint's `alpn`, or what the factory speaks; the protocol can see what was chosen."""
    endpoint = house.run(TLS, stream=factory, tls=tls_plan(alpn=alpn))
    client = house.shaken(endpoint.listeners[0].address, version=version, context=offering(*offered))
    assert client.tls.selected_alpn_protocol() == chosen
    (connection,) = endpoint.connections
    assert INegotiated.providedBy(connection)
    assert connection.negotiatedProtocol == (chosen and chosen.encode())


@pytest.mark.parametrize(
    "factory", [Spoken(error=ZeroDivisionError()), Spoken(b""), Spoken(b"x" * 256), Spoken("ü".encode())]
)
def test_alpn_of_a_faulty_factory(factory: Spoken, house: House) -> None:
    """It is counted and logged, and connections go on without."""
    endpoint = house.run(TLS, stream=factory, tls=tls_plan())
    client = house.shaken(endpoint.listeners[0].address, context=offering("h2"))
    assert client.tls.selected_alpn_protocol() is None
    assert endpoint.host.counters.refused == {"exception in acceptableProtocols": 1}


class Everything(Probes):
    """Has every attribute, such as the factory that it would wrap."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return Everything()


def test_alpn_of_a_factory_with_every_attribute(house: House) -> None:
    """It is not taken for a wrapper, nor looked into without end."""
    endpoint = house.run(TLS, stream=Everything(), tls=tls_plan())
    client = house.shaken(endpoint.listeners[0].address, context=offering("h2"))
    assert client.tls.selected_alpn_protocol() is None
    assert endpoint.host.counters.refused == {}


def test_alpn_after_a_reload(house: House) -> None:
    """What the new file says holds for connections that come later."""
    endpoint = house.run(TLS, stream=Spoken(b"h2"), tls=tls_plan())
    address = endpoint.listeners[0].address
    before = house.shaken(address, context=offering("h2", "irc"))
    endpoint.admit_anew(Admission(house.plan(TLS, tls=tls_plan(alpn=("irc",)))))
    after = house.shaken(address, context=offering("h2", "irc"))
    assert [one.tls.selected_alpn_protocol() for one in (before, after)] == ["h2", "irc"]


def test_alpn_of_every_certificate(house: House) -> None:
    """Whatever server name the client asks for."""
    plan = tls_plan(planned("a.example"), planned("b.example"), alpn=("irc",))
    endpoint = house.run(TLS, stream=Probes(), tls=plan)
    client = house.shaken(endpoint.listeners[0].address, name="b.example", context=offering("irc"))
    assert client.tls.selected_alpn_protocol() == "irc"


@BOTH
@pytest.mark.parametrize("installed", [False, True], ids=["without pyOpenSSL", "with pyOpenSSL"])
def test_peer_certificate(
    installed: bool, version: ssl.TLSVersion, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """cryptography's, or what Twisted's own transports return where pyOpenSSL is there."""

    class X509:
        @classmethod
        def from_cryptography(cls, certificate: x509.Certificate) -> str:
            return f"pyOpenSSL's of {certificate.serial_number}"

    module = ModuleType("OpenSSL.crypto")
    module.X509 = X509  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "OpenSSL", ModuleType("OpenSSL") if installed else None)
    monkeypatch.setitem(sys.modules, "OpenSSL.crypto", module if installed else None)
    endpoint = asking(house)
    anna = made("anna.example", issuer="authority")
    house.shaken(endpoint.listeners[0].address, version=version, certificate=anna)
    (connection,) = endpoint.connections
    certificate = x509.load_pem_x509_certificate(anna.chain)
    wanted = f"pyOpenSSL's of {certificate.serial_number}" if installed else certificate
    assert ISSLTransport(connection).getPeerCertificate() == wanted


@implementer(IHandshakeListener)
class Listening(Probe):
    """Notes that the handshake is done."""

    def __init__(self, on_made: Any = None) -> None:
        super().__init__(echo, on_made)
        self.completed = 0

    def handshakeCompleted(self) -> None:
        self.completed += 1


@pytest.mark.parametrize("fails", [False, True])
def test_the_handshake_is_completed(fails: bool, house: House) -> None:
    """A listener is called after connectionMade, unless that has ended the connection."""
    listening = Listening(broken if fails else None)
    endpoint = house.run(TLS, stream=Probes(lambda: listening), tls=tls_plan())
    client = house.tls(endpoint.listeners[0].address)
    house.loop.until(client.shake, client.tls)
    house.until(lambda: listening.made)
    house.loop.settle()
    assert listening.completed == (not fails)


def test_no_peer_certificate(house: House) -> None:
    """Where none is asked for, there is none."""
    endpoint = house.run(TLS, stream=Probes(), tls=tls_plan())
    house.shaken(endpoint.listeners[0].address)
    (connection,) = endpoint.connections
    assert ISSLTransport.providedBy(connection)
    assert ISSLTransport(connection).getPeerCertificate() is None


def test_wrappers_show_it(house: House) -> None:
    """Twisted's ProtocolWrapper provides what its transport does."""
    inner = Probes()
    endpoint = house.run(TLS, stream=WrappingFactory(inner), tls=tls_plan())
    house.shaken(endpoint.listeners[0].address)
    assert ISSLTransport.providedBy(inner.made[0].transport)
