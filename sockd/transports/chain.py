"""The certificates that a client's handshake proved: for how long they hold, and under which authorities.

Imported only where clients show certificates: it imports cryptography.
"""

import ssl
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from sockd.base.text import visible
from sockd.transports.identity import claimed_name
from sockd.transports.inspection import CERTIFICATES

# Certificates that a client may show at most; as a rule they are two or three, of a kilobyte each.
CHAIN_LENGTH = CERTIFICATES
# Characters that are shown of a certificate's name.
_SHOWN_LENGTH = 255


class Chain:
    """A client's certificate, those of its issuers, and last the authority's, all as DER.

    Times are wall clock, in seconds.
    """

    __slots__ = ("_since", "_until", "certificates")

    def __init__(self, certificates: Sequence[bytes]) -> None:
        self.certificates = tuple(certificates)
        parsed = [x509.load_der_x509_certificate(one) for one in certificates]
        self._since = max(one.not_valid_before_utc.timestamp() for one in parsed)
        self._until = min(one.not_valid_after_utc.timestamp() for one in parsed)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(map(len, self.certificates))

    def holds(self, now: float) -> bool:
        """Whether each of its certificates is within its dates; to OpenSSL their very end is too late."""
        return self._since <= now < self._until

    def fault(self, now: float) -> str:
        """Which of its certificates is out of its dates, in words; there is one."""
        for number, der in enumerate(self.certificates):
            one = x509.load_der_x509_certificate(der)
            whose = "the client's certificate" if not number else f"the certificate of {_named(one.subject)}"
            if now >= one.not_valid_after_utc.timestamp():
                return f"{whose} expired on {_minute(one.not_valid_after_utc)}"
            if now < one.not_valid_before_utc.timestamp():
                return f"{whose} is not valid before {_minute(one.not_valid_before_utc)}"
        return ""

    def under(self, authorities: Sequence[x509.Certificate], now: float) -> "Chain | None":
        """The part of it that leads to one of these authorities, now that they are trusted, if one does."""
        for number, der in enumerate(self.certificates):
            one = x509.load_der_x509_certificate(der)
            for authority in authorities:
                if authority == one:
                    return Chain(self.certificates[: number + 1])
                if authority.subject == one.issuer and _signed(one, authority):
                    whole = authority.public_bytes(Encoding.DER)
                    found = Chain([*self.certificates[: number + 1], whole])
                    if found.holds(now):
                        return found
        return None


def _signed(one: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        one.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _named(name: x509.Name) -> str:
    text = name.rfc4514_string()
    return visible(text if len(text) <= _SHOWN_LENGTH else f"{text[: _SHOWN_LENGTH - 1]}…")


def _minute(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def described(message: bytes, now: float) -> str:
    """What is to be said of certificates that were refused: whose, by whom, and since when they are no good.

    `message` is the one of the handshake that has them, if it is known.
    """
    try:
        chain = [x509.load_der_x509_certificate(der) for der in _in_message(message)]
        if not chain:
            return ""
        own = chain[0]
        text = f"it is for {claimed_name(own)}, by {_named(own.issuer)}"
        fault = Chain([one.public_bytes(Encoding.DER) for one in chain]).fault(now)
    except Exception:  # noqa: BLE001  # of several families, depending on what is wrong
        return "it can't be read"
    return f"{text}; {fault}" if fault else text


def _in_message(message: bytes) -> list[bytes]:
    """The certificates in a message of TLS 1.3 (RFC 8446, 4.4.2), or of 1.2 (RFC 5246, 7.4.2), as DER."""
    newer = int.from_bytes(message[5:8], "big") == len(message) - 8 and not message[4]
    at, found = (8 if newer else 7), []
    while at + 3 <= len(message):
        size = int.from_bytes(message[at : at + 3], "big")
        found.append(message[at + 3 : at + 3 + size])
        at += 3 + size
        if newer:
            at += 2 + int.from_bytes(message[at : at + 2], "big")
    return found[:CHAIN_LENGTH]


def verified(tls: ssl.SSLObject) -> Chain:
    """What OpenSSL has verified in a full handshake, up to the authority."""
    return Chain(_certificates(tls, "get_verified_chain"))


def shown(tls: ssl.SSLObject) -> list[bytes]:
    """All certificates that the client has sent in a full handshake, as DER."""
    return _certificates(tls, "get_unverified_chain")


# Any: Python 3.13 has these methods, with DER; until then they are there, but neither public nor typed.
def _certificates(tls: Any, method: str) -> list[bytes]:
    # Any: bytes, or an object that isn't public.
    get: Callable[[], list[Any] | None] | None = getattr(tls, method, None)
    if get is None:
        get = getattr(tls._sslobj, method)  # noqa: SLF001 - see above
    return [
        one if isinstance(one, bytes) else ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in get() or ()
    ]
