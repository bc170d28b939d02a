"""The name that a client's certificate proves. Imported only where TLS is used: it imports cryptography."""

from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from ipaddress import ip_address

from cryptography import x509
from cryptography.x509.oid import NameOID
from service_identity import CertificateError, VerificationError
from service_identity.hazmat import (
    DNS_ID,
    URI_ID,
    CertificatePattern,
    DNSPattern,
    IPAddress_ID,
    IPAddressPattern,
    ServiceID,
    URIPattern,
    verify_service_identity,
)

from sockd.base.text import visible

# Characters that are shown of a name that a certificate claims.
_SHOWN_LENGTH = 255


class IdentityError(Exception):
    """Why a certificate is not accepted, or a name can't be looked for in one; one line."""


class Name:
    """A name of `client_names`: an IP address, a URI (with a colon), or else a DNS name.

    IdentityError if it is none of them. It has no wildcards: only certificates may.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._uri = False
        self._id: ServiceID | None = None
        with suppress(ValueError):
            self._id = IPAddress_ID(text)
            return
        self._uri = ":" in text
        try:
            self._id = URI_ID(text) if self._uri else DNS_ID(text)
        except (ValueError, ImportError):  # ImportError: not ASCII, and the package idna is missing
            # RFC 6125 compares a URI's scheme and host; spiffe://… and urn:… must be the same as a whole.
            if not self._uri or any(character.isspace() for character in text):
                raise IdentityError(f"{visible(text)!r} is no DNS name, IP address or URI") from None

    def among(self, patterns: list[CertificatePattern], uris: list[str]) -> bool:
        """Whether a certificate with these patterns and URIs is for this name."""
        if self._uri and self.text in uris:
            return True
        if self._id is None or not patterns:
            return False
        try:
            verify_service_identity(patterns, [self._id], [])
        except VerificationError:
            return False
        return True


def verified_name(der: bytes, names: tuple[str, ...]) -> str:
    """The first of the names that this certificate is for; without names, the one it claims itself.

    The handshake has verified its issuer already. What is returned is safe to be shown. IdentityError where
    the certificate is for none of the names, or can't be read.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        claimed = claimed_name(certificate)  # here, as names are parsed lazily
        alternatives = _alternatives(certificate)
    except Exception:  # noqa: BLE001  # of several families, depending on what is wrong
        raise IdentityError("the client's certificate can't be read") from None
    if not names:
        return claimed
    patterns, uris = list(_patterns(alternatives)), _uris(alternatives)
    for name in names:
        if _parsed(name).among(patterns, uris):
            return name
    raise IdentityError(f"the client's certificate is for none of client_names; it is for {claimed}")


def claimed_name(certificate: x509.Certificate) -> str:
    """The first name in a certificate, which nobody may have verified; safe to be shown."""
    return _shown(next(_claimed(certificate, _alternatives(certificate))))


# Parsing names takes longer than all the rest: fifty of them took 0.4 ms of each handshake.
_parsed = lru_cache(maxsize=1024)(Name)


def _alternatives(certificate: x509.Certificate) -> list[x509.GeneralName]:
    with suppress(x509.ExtensionNotFound):
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    return []


def _patterns(alternatives: list[x509.GeneralName]) -> Iterator[CertificatePattern]:
    """The names that service_identity can compare; one that it calls invalid is skipped."""
    for alternative in alternatives:
        with suppress(CertificateError, ValueError):
            if isinstance(alternative, x509.DNSName):
                yield DNSPattern.from_bytes(alternative.value.encode())
            elif isinstance(alternative, x509.UniformResourceIdentifier):
                yield URIPattern.from_bytes(alternative.value.encode())
            elif isinstance(alternative, x509.IPAddress):
                yield IPAddressPattern(ip_address(str(alternative.value)))


def _uris(alternatives: list[x509.GeneralName]) -> list[str]:
    return [one.value for one in alternatives if isinstance(one, x509.UniformResourceIdentifier)]


def _claimed(certificate: x509.Certificate, alternatives: list[x509.GeneralName]) -> Iterator[str]:
    """The certificate's names: the alternative ones, the common ones, and at last its subject or number."""
    for alternative in alternatives:
        if isinstance(alternative, _SHOWN) and str(alternative.value).strip():
            yield str(alternative.value)
    for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        if str(attribute.value).strip():
            yield str(attribute.value)
    yield certificate.subject.rfc4514_string() or f"serial number {certificate.serial_number:x}"


_SHOWN = (x509.DNSName, x509.IPAddress, x509.UniformResourceIdentifier, x509.RFC822Name)


def _shown(name: str) -> str:
    return visible(name if len(name) <= _SHOWN_LENGTH else f"{name[: _SHOWN_LENGTH - 1]}…")
