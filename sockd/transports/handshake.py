"""A TLS handshake, a step at a time, and why one failed, in words."""

import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# An alert in the clear, for a peer that OpenSSL knows nothing of yet (RFC 8446, 6): fatal, handshake_failure.
HANDSHAKE_FAILURE = bytes.fromhex("15 0303 0002 02 28")


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
