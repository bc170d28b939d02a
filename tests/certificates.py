"""Certificates for tests, made once each and kept in memory."""

import datetime as dt
import hashlib
import os
import ssl
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sockd.plan.plan import CertificatePlan, TlsPlan

DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Made:
    """A certificate and its key, as PEM, and when it ends (seconds since the epoch)."""

    chain: bytes
    key: bytes
    not_after: float = 0.0

    def write(self, directory: Path, name: str = "server") -> None:
        """As NAME.pem and NAME.key, which only we may read."""
        (directory / f"{name}.pem").write_bytes(self.chain)
        key = directory / f"{name}.key"
        key.touch(0o600)
        key.write_bytes(self.key)

    def plan(self, *names: str) -> CertificatePlan:
        """What the plan has of it; these are the names that it is chosen for."""
        fingerprint = hashlib.sha256(self.chain).hexdigest()
        return CertificatePlan(names, self.not_after, fingerprint, self.chain, self.key, Path("test.pem"))

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


_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


@cache
def _key(name: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@cache
def made(
    *names: str,
    issuer: str | None = None,
    start: float = -1,
    days: float = 30,
    authority: bool = False,
    purpose: x509.ObjectIdentifier | None = None,
) -> Made:
    """A certificate for these DNS names or IP addresses, by itself or by the authority of that name.

    It is valid from `start` to `days` days from now, and good for this purpose alone, if one is given.
    """
    now = dt.datetime.now(dt.UTC)
    key, signer = _key(names[0]), _key(issuer or names[0])
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
        .not_valid_before(now + DAY * start)
        .not_valid_after(now + DAY * days)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        # Python 3.13 and newer verify strictly (VERIFY_X509_STRICT) and ask for these (RFC 5280, 4.2.1).
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if authority:
        builder = builder.add_extension(_SIGNS_CERTIFICATES, critical=True)
    if purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    certificate = builder.sign(signer, hashes.SHA256())
    return Made(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        (now + DAY * days).timestamp(),
    )


def tls_plan(*certificates: CertificatePlan, **others: Any) -> TlsPlan:
    """An endpoint's TLS; by default with one certificate, and for clients that show none."""
    usual: dict[str, Any] = {"client_ca": None, "client_names": (), "min_version": "1.2"}
    return TlsPlan(certificates or (made("localhost").plan("localhost"),), **usual | others)
