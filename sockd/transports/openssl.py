"""OpenSSL's side of a certificate: a context that shows it, with the versions and ciphers that we speak."""

import os
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sockd.base import descriptors
from sockd.base.errors import SockdError

# TLS 1.2's with forward secrecy and authenticated encryption (RFC 9325, 4.2); 1.3 has no others.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class TlsError(SockdError):
    """Why OpenSSL doesn't take a certificate, its key or the authorities; nothing of a key is in it."""


def context(
    chain: bytes, key: bytes, min_version: str = "1.2", client_ca: bytes | None = None
) -> ssl.SSLContext:
    """For servers with this certificate; clients show one of `client_ca` if that is given. All are PEM."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = _VERSIONS[min_version]
    made.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    # OpenSSL's two cost a tenth of a handshake each; one that is taken up brings the next.
    made.num_tickets = 1
    try:
        made.set_ciphers(CIPHERS)
        descriptors.take(lambda: _load(made, chain, key))
        if client_ca is not None:
            made.verify_mode = ssl.CERT_REQUIRED
            # Whoever is named there is trusted, a root or not: roots may know clients that aren't ours.
            made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            made.load_verify_locations(cadata=client_ca.decode("ascii", "replace"))
    except ssl.SSLError as error:
        raise TlsError((error.reason or str(error)).lower().replace("_", " ")) from error
    except OSError as error:  # descriptors or memory ran out
        raise TlsError(f"it can't be handed to OpenSSL: {error.strerror}") from error
    return made


def _load(made: ssl.SSLContext, chain: bytes, key: bytes) -> None:
    with _in_memory(chain) as chain_path, _in_memory(key) as key_path:
        made.load_cert_chain(chain_path, key_path)


@contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    """A path to a file with this content: OpenSSL reads keys from files only, and ours may have changed."""
    descriptor = os.memfd_create("sockd-key", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def step(tls: ssl.SSLObject, *, named: bool) -> bool:
    """Go on with what has come; whether it is done. SSLError: it failed.

    `named`: the context's is a callback that gets the name which the client asks for.
    """
    try:
        if named:
            with _contained():
                tls.do_handshake()
        else:
            tls.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


@contextmanager
def _contained() -> Iterator[None]:
    """Of a name that isn't ASCII Python would show a traceback, too; that the handshake fails is enough."""
    shown = sys.unraisablehook

    def show(unraisable: "sys.UnraisableHookArgs") -> None:
        if not isinstance(unraisable.exc_value, UnicodeDecodeError):
            shown(unraisable)

    sys.unraisablehook = show
    try:
        yield
    finally:
        sys.unraisablehook = shown


def words(error: ssl.SSLError) -> str:
    """What was wrong."""
    why = (error.reason or "unknown").lower().replace("_", " ")
    if isinstance(error, ssl.SSLCertVerificationError):
        why += f": {error.verify_message}"
    return why


# A record holds at most this much (RFC 8446, 5.1): who reads so much leaves nothing of it behind.
RECORD = 16 * 1024
# After so many records others have their turn: 128 KiB of records with a byte each took 5 ms in one event.
MANY = 512


def read_on(tls: ssl.SSLObject, bio: ssl.MemoryBIO, data: bytes) -> tuple[bytes, bytes, ssl.SSLError | None]:
    """Read what follows this in `bio`, and leave it empty.

    Gives all data, the cipher text that is for a later turn, and what else than data ended it;
    SSLZeroReturnError is the peer's close_notify.
    """
    pieces = []
    why: ssl.SSLError
    try:
        while data:
            pieces.append(data)
            if not bio.pending:  # to be told so by an exception takes longer than all the rest
                return b"".join(pieces), b"", None
            if len(pieces) > MANY:
                return b"".join(pieces), bio.read(), None
            data = tls.read(RECORD)
    except ssl.SSLError as error:
        why = error
    else:
        why = ssl.SSLZeroReturnError()
    bio.read()
    return b"".join(pieces), b"", why
