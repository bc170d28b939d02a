"""Whose certificate it is: names looked for as service_identity matches them, and names that are told."""

from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sockd.transports.identity import IdentityError, Name, verified_name

KEY = ec.generate_private_key(ec.SECP256R1())


def unchecked(kind: Any, names: tuple[str, ...]) -> list[x509.GeneralName]:
    """As a broken issuer writes them too."""
    return [kind._init_without_validation(name) for name in names]  # noqa: SLF001 - the public way checks


def dns(*names: str) -> list[x509.GeneralName]:
    return unchecked(x509.DNSName, names)


def uri(*names: str) -> list[x509.GeneralName]:
    return unchecked(x509.UniformResourceIdentifier, names)


def ip(*names: str) -> list[x509.GeneralName]:
    return [x509.IPAddress(ip_address(name)) for name in names]


def certificate(*alternatives: x509.GeneralName, common_name: str = "", organization: str = "") -> bytes:
    """DER."""
    subject = []
    if organization:
        subject.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    if common_name:
        subject.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an issuer")]))
        .public_key(KEY.public_key())
        .serial_number(0xABC)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2040, 1, 1, tzinfo=UTC))
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    ("alternatives", "name"),
    [
        (dns("client.example.org"), "client.example.org"),
        (dns("client.example.org"), "Client.Example.ORG"),
        (dns("Client.Example.ORG"), "client.example.org"),
        (dns("a.example.org", "b.example.org"), "b.example.org"),
        (dns("*.example.org"), "client.example.org"),
        (dns("xn--bcher-kva.example"), "xn--bcher-kva.example"),
        (ip("192.0.2.1"), "192.0.2.1"),
        (ip("2001:db8::1"), "2001:DB8:0::1"),
        (uri("sip:client.example.org"), "sip:client.example.org"),
        (uri("SIP:Client.example.org"), "sip:client.example.org"),
        (uri("spiffe://example.org/ns/prod/sa/web"), "spiffe://example.org/ns/prod/sa/web"),
        (uri("spiffe://example.org"), "spiffe://example.org"),
        (
            uri("urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
            "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        ),
        (uri("https://example.org:8443/a"), "https://example.org:8443/a"),
        # What can't be read stands in nobody's way.
        (uri("urn:a:b", "no colon") + dns("", "1.2.3.4", "*.*.org", "a.example.org"), "a.example.org"),
    ],
)
def test_good_for(alternatives: list[x509.GeneralName], name: str) -> None:
    """DNS names and wildcards, IP addresses, URIs of scheme and host, and any other URI to the letter."""
    der = certificate(*alternatives)
    assert verified_name(der, (name,)) == name
    assert verified_name(der, ("other.example.net", name, "192.0.2.250")) == name


@pytest.mark.parametrize(
    ("alternatives", "name"),
    [
        (dns("client.example.org"), "other.example.org"),
        (dns("client.example.org"), "example.org"),
        (dns("*.example.org"), "example.org"),
        (dns("*.example.org"), "a.b.example.org"),
        (dns("*.example.org"), "xn--bcher-kva.example.org"),
        (dns("*.org"), "example.org"),
        (dns("*"), "localhost"),
        (dns("a*.example.org"), "ab.example.org"),
        (dns("a.*.org"), "a.example.org"),
        (dns("192.0.2.1"), "192.0.2.1"),  # an address that is written as a name is none
        (dns("client.example.org\x00.example.net"), "client.example.org"),
        (ip("192.0.2.1"), "192.0.2.2"),
        (ip("192.0.2.1"), "::ffff:192.0.2.1"),
        (uri("sip:client.example.org"), "xmpp:client.example.org"),
        (uri("sip:client.example.org"), "sip:other.example.org"),
        (uri("sip:client.example.org"), "client.example.org"),
        (dns("client.example.org"), "sip:client.example.org"),
        (uri("spiffe://example.org/a"), "spiffe://example.org/A"),
        (uri("spiffe://example.org/a"), "spiffe://example.org"),
        (uri("spiffe://example.org"), "spiffe://example.org/a"),
        ([x509.RFC822Name("root@example.org")], "example.org"),
        ([], "client.example.org"),
    ],
)
def test_not_good_for(alternatives: list[x509.GeneralName], name: str) -> None:
    """Not by the common name either, which nothing has matched since RFC 9525."""
    with pytest.raises(IdentityError) as told:
        verified_name(certificate(*alternatives, common_name=name.replace("\x00", "")), (name,))
    assert str(told.value).startswith("the client's certificate is for none of client_names; it is for ")
    assert str(told.value).isprintable()


@pytest.mark.parametrize(
    ("der", "name"),
    [
        (certificate(*dns("a.example.org"), *ip("192.0.2.1"), common_name="c"), "a.example.org"),
        (certificate(*ip("2001:db8::1"), *dns("a.example.org")), "2001:db8::1"),
        (certificate(*uri("spiffe://example.org/a")), "spiffe://example.org/a"),
        (certificate(x509.RFC822Name("root@example.org")), "root@example.org"),
        (certificate(x509.RegisteredID(x509.ObjectIdentifier("1.2.3")), common_name="Jo"), "Jo"),
        (certificate(*dns(" "), common_name="Jo"), "Jo"),
        (certificate(common_name="Jörg", organization="Example"), "Jörg"),
        (certificate(common_name=" ", organization="Example"), "CN=\\ ,O=Example"),
        (certificate(organization="Example"), "O=Example"),
        (certificate(), "serial number abc"),
        (certificate(common_name="a\x1b[2J\nb\u202ec"), "a\\x1b[2J\\x0ab\\u{202e}c"),
        (certificate(*dns("x" * 300)), "x" * 254 + "…"),
    ],
)
def test_what_it_says_of_itself(der: bytes, name: str) -> None:
    """The first name in it, safe to be shown and not too long; there is always one."""
    assert verified_name(der, ()) == name


def test_unreadable() -> None:
    """One line for what is no certificate, and for one whose names make no sense."""
    odd = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\x30\x03\x82\x01")
    der = certificate(*dns("a.example.org"))
    broken = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2040, 1, 1, tzinfo=UTC))
        .add_extension(odd, critical=False)
        .sign(KEY, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )
    for data in (b"", b"\x30", der[:-1], der + b"\0", broken):
        with pytest.raises(IdentityError, match="can't be read"):
            verified_name(data, ("a.example.org",))


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "*.example.org", "a/b", "sip: x y", "a_b\x1b", "tru\u0308be.\u202e"]
)
def test_no_names(name: str) -> None:
    """What can't be looked for is told when the file is read, in a line that is safe to be shown."""
    with pytest.raises(IdentityError) as told:
        Name(name)
    assert str(told.value).endswith("is no DNS name, IP address or URI")
    assert str(told.value).isprintable()
