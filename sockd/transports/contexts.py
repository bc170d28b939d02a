"""OpenSSL's side of a certificate: a context that shows it, with the versions and ciphers that we speak."""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from sockd import reserve
from sockd.errors import SockdError

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
        reserve.take(lambda: _load(made, chain, key))
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
