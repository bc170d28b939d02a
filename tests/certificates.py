"""Certificates for tests, made once each and kept in memory."""

import datetime as dt
import os
import ssl
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Made:
    """A certificate and its key, as PEM."""

    chain: bytes
    key: bytes

    def load_into(self, context: ssl.SSLContext) -> None:
        """For a side that shows it."""
        paths = []
        for data in (self.chain, self.key):
            descriptor = os.memfd_create("test")
            os.write(descriptor, data)
            paths.append((descriptor, f"/proc/self/fd/{descriptor}"))
        context.load_cert_chain(paths[0][1], paths[1][1])
        for descriptor, _ in paths:
            os.close(descriptor)


@cache
def _key(name: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@cache
def made(*names: str, issuer: str | None = None, days: float = 30, authority: bool = False) -> Made:
    """A certificate for these DNS names or IP addresses, by itself or by the authority of that name."""
    now = dt.datetime.now(dt.UTC)
    key = _key(names[0])
    alternatives: list[x509.GeneralName] = []
    for name in names:
        try:
            alternatives.append(x509.IPAddress(ip_address(name)))
        except ValueError:
            alternatives.append(x509.DNSName(name))
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(names[0]))
        .issuer_name(_name(issuer or names[0]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY * days)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    certificate = builder.sign(_key(issuer or names[0]), hashes.SHA256())
    return Made(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
