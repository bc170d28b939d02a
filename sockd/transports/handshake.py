"""The steps of a TLS handshake, and OpenSSL's words for what a peer does wrong."""

import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager


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
