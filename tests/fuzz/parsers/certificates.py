"""Certificates: those that the file names, and those that clients show."""

import atexit
import base64
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sockd.plan import certificates
from sockd.transports.identity import IdentityError, verified_name
from tests.fuzz.parsers.checks import is_message

KEY = ec.derive_private_key(1_795_150_800, ec.SECP256R1())  # of the certificates that are kept
NOW = 1_795_150_800.0  # they are valid then

_BEGIN, _END = b"-----BEGIN CERTIFICATE-----\n", b"\n-----END CERTIFICATE-----\n"
_NAMES = ("a.example", "192.0.2.1", "https://a.example/x")
_scratch: list[tempfile.TemporaryDirectory[str]] = []


def inspect_certificate(data: bytes) -> None:
    """A plan or findings, each a line, of a PEM file; what is no PEM is taken for DER."""
    directory = _directory()
    file, key = directory / "server.pem", directory / "server.key"
    file.write_bytes(data if data.startswith(b"-----") else _BEGIN + base64.b64encode(data) + _END)
    plan, found = certificates.certificate(file, key, NOW)
    authorities, more = certificates.authorities(file, NOW)
    for finding in (*found, *more):
        is_message(finding.text)
    assert plan is not None or any(not finding.warning for finding in found)
    assert authorities is not None or any(not finding.warning for finding in more)
    if plan is not None:
        again, _ = certificates.certificate(file, key, NOW)
        assert again == plan
        for name in plan.names:
            assert name


def identify(data: bytes) -> None:
    """Who shows a certificate has a name that is safe to be shown, or is refused in a line."""
    for names in ((), _NAMES):
        with suppress(IdentityError):
            name = verified_name(data, names)
            is_message(name)
            assert not names or name in names
    try:
        verified_name(data, ("b.example",))
    except IdentityError as error:
        is_message(str(error))


def _directory() -> Path:
    if not _scratch:
        _scratch.append(tempfile.TemporaryDirectory(prefix="sockd-fuzz-"))
        atexit.register(_scratch[0].cleanup)
        key = Path(_scratch[0].name) / "server.key"
        with os.fdopen(os.open(key, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
            file.write(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return Path(_scratch[0].name)
