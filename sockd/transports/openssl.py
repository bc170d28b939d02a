"""What sockd asks of OpenSSL once for each certificate: a context for servers."""

import ssl
from functools import cache
from typing import Any

from sockd.base import descriptors
from sockd.base.anonymous import path_to
from sockd.base.errors import SockdError

# The ciphers of TLS 1.2 with forward secrecy and authenticated encryption (RFC 9325, 4.2); 1.3 has no others.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


# The attribute of an SSLObject that has the message with its client's certificates, once that came.
SHOWN = "client_certificates"
_HANDSHAKE, _CERTIFICATES = 22, 11  # the types of its record, and of that message


class TlsError(SockdError):
    """Why OpenSSL refuses a certificate, its key or the authorities; it never holds any part of a key."""


def context(
    chain: bytes, key: bytes, min_version: str = "1.2", client_ca: bytes | None = None
) -> ssl.SSLContext:
    """A context for servers with this certificate. All three are PEM; TlsError where OpenSSL refuses them.

    With `client_ca` clients must show a certificate that one of these authorities has signed.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _set_up(made, min_version, asks=client_ca is not None)
    try:
        descriptors.take(lambda: _load(made, chain, key))
        if client_ca is not None:
            made.load_verify_locations(cadata=client_ca.decode("ascii", "replace"))
    except ssl.SSLError as error:
        raise TlsError((error.reason or str(error)).lower().replace("_", " ")) from error
    except OSError as error:  # descriptors or memory ran out
        raise TlsError(f"it can't be handed to OpenSSL: {error.strerror}") from error
    return made


def _set_up(made: ssl.SSLContext, min_version: str, *, asks: bool) -> None:
    """Give it all that a context for servers has but its certificate; `asks`: for the client's.

    The sessions of a connection belong to the context that it was made with. It may have the certificate and
    the authorities of another one all the same, as with SNI, and loading them takes most of the time.
    """
    made.minimum_version = _VERSIONS[min_version]
    made.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    # Each of OpenSSL's two tickets would cost a tenth of a handshake; one that is used brings the next.
    made.num_tickets = 1
    made.set_ciphers(CIPHERS)
    if asks:
        made.verify_mode = ssl.CERT_REQUIRED
        # Each authority in it is trusted, root or not: a root may have signed clients that aren't ours.
        made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        # Python has no public way to see the messages of a handshake.
        made._msg_callback = _note_certificates  # type: ignore[attr-defined]  # noqa: SLF001 - see above


class SessionContext(ssl.SSLContext):
    """Has the sessions of its connections, whose certificate and authorities are those of `certified`."""

    certified: ssl.SSLContext

    def wrap_bio(self, *arguments: Any, **named: Any) -> ssl.SSLObject:  # Any: as ssl.SSLContext has them
        tls = super().wrap_bio(*arguments, **named)
        tls.context = self.certified
        return tls


def with_certificate_of(certified: ssl.SSLContext, min_version: str, *, asks: bool) -> SessionContext:
    """A context with no sessions yet, and the certificate of another one."""
    made = SessionContext(ssl.PROTOCOL_TLS_SERVER)
    _set_up(made, min_version, asks=asks)
    made.certified = certified
    return made


def hush(tls: ssl.SSLObject) -> None:
    """Have OpenSSL report no more messages of a connection whose handshake is done."""
    tls.context = _hushed()


@cache
def _hushed() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def _note_certificates(
    tls: ssl.SSLObject, direction: str, _version: object, content: object, message: object, data: bytes
) -> None:
    """Keep the client's certificates in a handshake: of one that OpenSSL refuses it says nothing but why.

    Python has this for debugging, and calls it for each record; hence `hush`.
    """
    if direction == "read" and content == _HANDSHAKE and message == _CERTIFICATES:
        setattr(tls, SHOWN, data)


def _load(made: ssl.SSLContext, chain: bytes, key: bytes) -> None:
    # OpenSSL reads keys from files only, and the real file may have changed.
    with path_to(chain, "sockd-chain") as chain_path, path_to(key, "sockd-key") as key_path:
        made.load_cert_chain(chain_path, key_path)
