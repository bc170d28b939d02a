"""Certificates and keys as users have them, right and wrong, made once each."""

import datetime as dt
from collections.abc import Callable
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

NOW = dt.datetime(2030, 6, 1, tzinfo=dt.UTC).timestamp()
_FROM, _UNTIL = dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.datetime(2099, 1, 1, tzinfo=dt.UTC)

# Signed with SHA-1, which the library no longer does.
SHA1 = b"""\
-----BEGIN CERTIFICATE-----
MIIBgDCCASagAwIBAgIUd7SgwCba3ehI5my6Qf4jbSM1cd0wCQYHKoZIzj0EATAR
MQ8wDQYDVQQDDAZvbGQtY2EwIBcNMjYxMTIwMTAwNTM0WhgPMjEyNjEwMjcxMDA1
MzRaMA4xDDAKBgNVBAMMA29sZDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABEAS
F2/hLXeIw0pG44xLzNI542mP2PgZsxtqLt2zB99WuUCImFvFKGelefyMMxVD8EvR
NiKoF8lVfoebTsIMKASjXjBcMBoGA1UdEQQTMBGCD29sZC5leGFtcGxlLm9yZzAd
BgNVHQ4EFgQU+jzdC//Kep+8HKV2IF7hF5Fz9vEwHwYDVR0jBBgwFoAUxRfEQ39p
xE6sQ50+dT4P2DCvRC0wCQYHKoZIzj0EAQNJADBGAiEAvkm6Ie88NsjPIXOTo7Cv
lRwURGSUAXwAs9lGSbv9QyYCIQDviAzVMBYkxYO2nSLT9EjE4+mXu3mvX9nYXVaB
rdGvKg==
-----END CERTIFICATE-----
"""

_KEYS: dict[str, Callable[[], Any]] = {
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "weak rsa": lambda: rsa.generate_private_key(65537, 1024),
    "weak ec": lambda: ec.generate_private_key(ec.SECP192R1()),
    "odd ec": lambda: ec.generate_private_key(ec.SECP256K1()),
    "p-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "dsa": lambda: dsa.generate_private_key(1024),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}


@cache
def key(name: str) -> Any:
    """The key of this name; all but a few are of the same kind."""
    return _KEYS.get(name, lambda: ec.generate_private_key(ec.SECP256R1()))()


@cache
def certificate(
    name: str,
    *names: str,
    issuer: str = "root",
    signed_with: str = "",
    start: dt.datetime = _FROM,
    end: dt.datetime = _UNTIL,
    issuer_at: str | None = None,
) -> x509.Certificate:
    """A certificate of this name for these DNS names and IP addresses."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(key(name).public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )
    if names:
        alternatives = x509.SubjectAlternativeName([_host(one) for one in names])
        builder = builder.add_extension(alternatives, critical=False)
    if issuer_at is not None:
        places = {AuthorityInformationAccessOID.OCSP: "http://ocsp.example"}
        if issuer_at:
            places[AuthorityInformationAccessOID.CA_ISSUERS] = issuer_at
        access = [
            x509.AccessDescription(method, x509.UniformResourceIdentifier(place))
            for method, place in places.items()
        ]
        builder = builder.add_extension(x509.AuthorityInformationAccess(access), critical=False)
    signer = key(signed_with or issuer)
    return builder.sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def key_pem(
    name: str,
    form: PrivateFormat = PrivateFormat.PKCS8,
    encryption: KeySerializationEncryption | None = None,
) -> bytes:
    return bytes(key(name).private_bytes(Encoding.PEM, form, encryption or NoEncryption()))


def leaf() -> x509.Certificate:
    """The usual one: for two names and an address, by an intermediate authority."""
    return certificate("leaf", "example.org", "*.Example.org", "192.0.2.1", issuer="middle")


def middle() -> x509.Certificate:
    return certificate("middle")


def root() -> x509.Certificate:
    return certificate("root")


# What a wrong file's parts may be made of: `--- a.pem = chain`.
FIXTURES: dict[str, Callable[[], bytes]] = {
    "chain": lambda: pem(leaf(), middle()),
    "key": lambda: key_pem("leaf"),
    "other-key": lambda: key_pem("other"),
    "encrypted-key": lambda: key_pem("leaf", encryption=BestAvailableEncryption(b"secret")),
    "gap": lambda: pem(leaf(), root()),
    "expired": lambda: pem(certificate("leaf", "a.org", end=dt.datetime(2021, 5, 4, tzinfo=dt.UTC))),
    "future": lambda: pem(certificate("leaf", "a.org", start=dt.datetime(2098, 1, 1, tzinfo=dt.UTC))),
    "weak": lambda: pem(certificate("weak rsa", "a.org")),
    "weak-key": lambda: key_pem("weak rsa"),
    "sha1": lambda: SHA1,
    "authorities": lambda: pem(root(), middle()),
    "der": lambda: leaf().public_bytes(Encoding.DER),
    "damaged": lambda: pem(leaf()).replace(b"MII", b"MIJ"),
}


def write(directory: Path, name: str, data: bytes, mode: int = 0o600) -> Path:
    file = directory / name
    file.write_bytes(data)
    file.chmod(mode)
    return file
