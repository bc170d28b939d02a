"""A TLS handshake, a step at a time, and why one failed, in words."""

import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sockd.transports.openssl import SHOWN

# An alert in the clear, for a peer that OpenSSL knows nothing of yet (RFC 8446, 6): fatal, handshake_failure.
HANDSHAKE_FAILURE = bytes.fromhex("15 0303 0002 02 28")
# How a PROXY header begins, in both of its versions.
PROXY_HEADERS = (b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n")


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
    """What was wrong, in OpenSSL's words, for the counters."""
    why = (error.reason or "unknown").lower().replace("_", " ")
    if isinstance(error, ssl.SSLCertVerificationError):
        why += f": {error.verify_message}"
    return why


def explanation(error: ssl.SSLError, tls: ssl.SSLObject, first: bytes, version: bytes) -> str:
    """What to make of it, for the log; empty where OpenSSL's words say it all.

    `first` are the first bytes that came, and `version` is the one that a ClientHello names.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        # It imports cryptography: only where clients show certificates.
        from sockd.transports.chain import described  # noqa: PLC0415

        return described(getattr(tls, SHOWN, b""), time.time())
    if error.reason == "WRONG_VERSION_NUMBER" and first.startswith(PROXY_HEADERS):
        return "a PROXY header came, and proxy_protocol expects none"
    if error.reason == "UNSUPPORTED_PROTOCOL":
        oldest = _VERSIONS.get(version)
        return f"the client speaks {oldest} at most" if oldest is not None else ""
    return _EXPLANATIONS.get(error.reason or "", "")


_VERSIONS = {b"\3\0": "SSL 3.0", b"\3\1": "TLS 1.0", b"\3\2": "TLS 1.1", b"\3\3": "TLS 1.2"}
_EXPLANATIONS = {
    "HTTP_REQUEST": "the client speaks HTTP without TLS",
    "HTTPS_PROXY_REQUEST": "the client takes this for a proxy of HTTP",
    "WRONG_VERSION_NUMBER": "what came is no TLS",
    "NO_SHARED_CIPHER": "the client speaks none of sockd's ciphers",
}
