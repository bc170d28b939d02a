"""What sockd asks of OpenSSL: contexts for certificates, steps of a handshake, records of a read."""

import os
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sockd.base import descriptors
from sockd.base.errors import SockdError

# The ciphers of TLS 1.2 with forward secrecy and authenticated encryption (RFC 9325, 4.2); 1.3 has no others.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class TlsError(SockdError):
    """Why OpenSSL refuses a certificate, its key or the authorities; it never holds any part of a key."""


def context(
    chain: bytes, key: bytes, min_version: str = "1.2", client_ca: bytes | None = None
) -> ssl.SSLContext:
    """A context for servers with this certificate. All three are PEM; TlsError where OpenSSL refuses them.

    With `client_ca` clients must show a certificate that one of these authorities has signed.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = _VERSIONS[min_version]
    made.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    # Each of OpenSSL's two tickets would cost a tenth of a handshake; one that is used brings the next.
    made.num_tickets = 1
    try:
        made.set_ciphers(CIPHERS)
        descriptors.take(lambda: _load(made, chain, key))
        if client_ca is not None:
            made.verify_mode = ssl.CERT_REQUIRED
            # Each authority in it is trusted, root or not: a root may have signed clients that aren't ours.
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
    """A path to this content. OpenSSL reads keys from files only, and the real file may have changed."""
    descriptor = os.memfd_create("sockd-key", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def step(tls: ssl.SSLObject, *, named: bool) -> bool:
    """Go on with the handshake; whether it is done. SSLError where it failed.

    `named` says that the context has a callback for the server name that the client asks for.
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
    """Keep Python from printing a traceback for a name that isn't ASCII: the failed handshake is enough."""
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
    """What was wrong, in OpenSSL's words, for the log and the counters."""
    why = (error.reason or "unknown").lower().replace("_", " ")
    if isinstance(error, ssl.SSLCertVerificationError):
        why += f": {error.verify_message}"
    return why


# Bytes of data in a record at most (RFC 8446, 5.1): reading so much leaves nothing of a record behind.
RECORD_SIZE = 16 * 1024
# Records that one event reads, before others have their turn: 128 KiB of records of a byte took 5 ms.
RECORDS_PER_EVENT = 512


def read_on(tls: ssl.SSLObject, bio: ssl.MemoryBIO, data: bytes) -> tuple[bytes, bytes, ssl.SSLError | None]:
    """Read on after `data`, and leave `bio` empty.

    The result is all data, this included; the cipher text that is left for a later event; and the exception
    that ended the data, if one did. SSLZeroReturnError is the peer's close_notify.
    """
    pieces = []
    why: ssl.SSLError
    try:
        while data:
            pieces.append(data)
            if not bio.pending:  # OpenSSL says so with an exception, which takes longer than all the rest
                return b"".join(pieces), b"", None
            if len(pieces) > RECORDS_PER_EVENT:
                return b"".join(pieces), bio.read(), None
            data = tls.read(RECORD_SIZE)
    except ssl.SSLError as error:
        why = error
    else:
        why = ssl.SSLZeroReturnError()
    bio.read()
    return b"".join(pieces), b"", why
