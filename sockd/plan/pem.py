"""Reads certificates and keys from PEM files, within bounds."""

import os
import re
import stat
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sockd.base import descriptors
from sockd.base.errors import LACKING, SystemLacksError

MAX_FILE_SIZE = 2 * 2**20  # bytes; all authorities that a browser trusts are 220 KB

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey


class UnusableError(Exception):
    """A file can't be used; the text names it, and says why."""


def _read(file: Path) -> tuple[bytes, os.stat_result]:
    try:
        # Without O_NONBLOCK, opening a FIFO would wait for a writer.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        descriptor = descriptors.take(lambda: os.open(file, flags))
        try:
            what = os.fstat(descriptor)
            if not stat.S_ISREG(what.st_mode):
                raise UnusableError(f"{file}: this is not a regular file")
            with os.fdopen(descriptor, "rb", closefd=False) as opened:
                data = opened.read(MAX_FILE_SIZE + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise UnusableError(f"there is no file {file}") from None
    except OSError as error:
        if error.errno in LACKING:
            raise SystemLacksError(f"{file} can't be read: {error.strerror}") from None
        raise UnusableError(f"{file} can't be read: {error.strerror}") from None
    if len(data) > MAX_FILE_SIZE:
        raise UnusableError(f"{file}: more than {MAX_FILE_SIZE} bytes are not read")
    return data, what


def certificates(file: Path) -> list[x509.Certificate]:
    """All certificates of a file, in its order; UnusableError where there is none, or one is damaged."""
    data, _ = _read(file)
    if b"-----BEGIN CERTIFICATE-----" not in data:
        raise UnusableError(f"{file}: there is no certificate in it{_instead(data)}")
    try:
        found = x509.load_pem_x509_certificates(data)
        for one in found:
            one.subject, one.issuer, one.extensions  # noqa: B018 - which are parsed when they are asked for
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, x509.InvalidVersion):
        raise UnusableError(f"{file}: a certificate in it is damaged") from None
    return found


def _too_much(mode: int) -> str:
    """Who may do what with a key of this mode, in words, where that is too much."""
    if mode & stat.S_IRWXO:
        deed = "read" if mode & stat.S_IROTH else "write" if mode & stat.S_IWOTH else "execute"
        return f"others {deed}"
    return "its group write"


def private_key(file: Path) -> Key:
    """The key of a file; UnusableError also where others than its owner and group may read it."""
    data, what = _read(file)
    if what.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
        mode = stat.S_IMODE(what.st_mode)
        raise UnusableError(
            f"{file}: mode {mode:04o} lets {_too_much(mode)} the key: chmod {mode & 0o640:04o}"
        )
    if not re.search(rb"-----BEGIN ([A-Z0-9]+ )?PRIVATE KEY-----", data):
        raise UnusableError(f"{file}: there is no key in it{_instead(data)}")
    try:
        key = load_pem_private_key(data, None)
    except TypeError:
        raise UnusableError(
            f"{file}: the key is encrypted, and there is nobody to ask for the passphrase: `openssl pkey -in"
            " FILE -out OTHER` writes it without one"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableError(f"{file}: the key in it is damaged, or of a kind that is not known") from None
    if not isinstance(key, Key):
        raise UnusableError(f"{file}: this kind of key is not used in TLS: RSA, EC and Ed25519 are")
    return key


def _instead(data: bytes) -> str:
    """What the file has instead of what is looked for, in words."""
    labels = re.findall(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----", data)
    if labels:
        return f", only {labels[0].decode()}"
    return ", nor PEM: openssl can convert it" if data[:1] == b"\x30" else ""
