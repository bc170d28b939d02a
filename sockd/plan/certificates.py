"""Checks certificates and keys: whether TLS can use them, and peers would accept them."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import AuthorityInformationAccessOID

from sockd.base.units import counted
from sockd.config.values import shown
from sockd.plan import pem
from sockd.plan.pem import UnusableError
from sockd.plan.plan import CertificatePlan, TlsPlan
from sockd.transports.openssl import TlsError, context

DAY = 86400.0  # seconds
EXPIRY_WARNING = 14 * DAY  # before the end of a certificate
# The fewest bits of a key that OpenSSL takes at its security level 2, and browsers too.
MIN_RSA_BITS = 2048
MIN_EC_BITS = 224
# Those of TLS 1.3 (RFC 8446, 4.2.3). Of the others OpenSSL's clients, curl's and browsers ask for none.
_CURVES = ("secp256r1", "secp384r1", "secp521r1")

_PUBLIC = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, or only odd, with the file that this key of `tls` names."""

    key: str  # certificate, key or client_ca
    text: str
    warning: bool = False


def certificate(file: Path, key_file: Path, now: float) -> tuple[CertificatePlan | None, list[Finding]]:
    """The certificate with its key, or None where they are unusable, and findings; `now` is wall clock."""
    found: list[Finding] = []
    own = key = None
    chain: list[x509.Certificate] = []
    try:
        chain = pem.certificates(file)
        own = chain[0]
        found += _of_chain(file, chain, now)
    except UnusableError as error:
        found.append(Finding("certificate", str(error)))
    try:
        key = pem.private_key(key_file)
        if own and _other_key(own, key):
            found.append(Finding("key", f"{key_file}: this is not the key of the certificate in {file}"))
    except UnusableError as error:
        found.append(Finding("key", str(error)))
    if not own or not key or _any_errors(found):
        return None, found
    plan = CertificatePlan(
        names=_names(own),
        not_after=own.not_valid_after_utc.timestamp(),
        fingerprint=own.fingerprint(hashes.SHA256()).hex(),
        chain=_as_pem(chain),
        key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        file=Path(os.path.abspath(file)),
        key_file=Path(os.path.abspath(key_file)),
    )
    try:
        context(plan.chain, plan.key)
    except TlsError as error:  # because of the security level that the system sets, for example
        found.append(Finding("certificate", f"{file}: OpenSSL refuses it: {error}"))
        return None, found
    return plan, found


def authorities(file: Path, now: float) -> tuple[bytes | None, list[Finding]]:
    """The authorities of a file as PEM, or None where they can't be used, and the findings."""
    try:
        certificates = pem.certificates(file)
    except UnusableError as error:
        return None, [Finding("client_ca", str(error))]
    found = list(_of_authorities(file, certificates, now))
    return None if _any_errors(found) else _as_pem(certificates), found


def grown_old(tls: TlsPlan, now: float) -> Iterator[Finding]:
    """Findings about the dates of certificates that were in order when they were read."""
    for each in tls.certificates:
        yield from _of_age(each.file, x509.load_pem_x509_certificates(each.chain), now)
    if tls.client_ca is not None and tls.client_ca_file is not None:
        certificates = x509.load_pem_x509_certificates(tls.client_ca)
        found = _of_authorities(tls.client_ca_file, certificates, now)
        # Bundles hold authorities that have expired from the start: they matter only when all have.
        yield from (each for each in found if not each.warning)


def _any_errors(found: list[Finding]) -> bool:
    return any(not finding.warning for finding in found)


def _as_pem(certificates: list[x509.Certificate]) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def good_for(name: str, names: Iterable[str]) -> bool:
    """Whether a certificate with these names is good for a name: a wildcard stands for one label."""
    known = set(names)
    return name in known or (not _is_ip(name) and f"*.{name.partition('.')[2]}" in known)


# -- what is wrong -----------------------------------------------------------------------------------------


def _of_chain(file: Path, chain: list[x509.Certificate], now: float) -> Iterator[Finding]:
    own, last = chain[0], chain[-1]
    yield from _of_age(file, chain, now)
    for one in chain:
        for text in weaknesses(one):
            yield Finding("certificate", f"{_whose(file, chain, one)}: {text}")
    for one, following in pairwise(chain):
        if not _signed_by(one, following):
            text = (
                f"{file}: the certificate of {_shown(one.subject)} was signed by {_shown(one.issuer)}, but"
                f" that of {_shown(following.subject)} follows: one is missing, or they are out of order"
            )
            yield Finding("certificate", text)
    where = _issuer_at(last)
    if own is last and where:
        text = (
            f"{file}: the certificate of its issuer, {_shown(own.issuer)}, is missing in it, and peers may"
            f" not have it: it is at {shown(where)}"
        )
        yield Finding("certificate", text, warning=True)
    curve = _curve(own)
    if curve not in (None, *_CURVES):
        text = f"{file}: its key is on the curve {curve}, which hardly a client takes: make one on P-256"
        yield Finding("certificate", text, warning=True)
    if not _names(own):
        text = f"{file}: it names no host (subjectAltName), so peers can't tell whether it is the right one"
        yield Finding("certificate", text, warning=True)


def _of_age(file: Path, chain: list[x509.Certificate], now: float) -> Iterator[Finding]:
    for one in chain:
        whose = _whose(file, chain, one)
        for text in _of_dates(one, now):
            yield Finding("certificate", f"{whose}: {text}")
        if _date(now) <= one.not_valid_after_utc < _date(now + EXPIRY_WARNING):
            yield Finding(
                "certificate", f"{whose}: it expires on {_day(one)}, {_days(one, now)}", warning=True
            )


def _of_authorities(file: Path, certificates: list[x509.Certificate], now: float) -> Iterator[Finding]:
    if all(one.not_valid_after_utc < _date(now) for one in certificates):
        yield Finding("client_ca", f"{file}: all of it has expired, last on {_day(certificates[-1])}")
        return
    for one in certificates:
        for text in _of_dates(one, now):
            whole = f"{file}: the certificate of {_shown(one.subject)}: {text}"
            yield Finding("client_ca", whole, warning=True)


def _of_dates(one: x509.Certificate, now: float) -> Iterator[str]:
    if _date(now) < one.not_valid_before_utc:
        yield f"it is not valid before {one.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    if one.not_valid_after_utc < _date(now):
        yield f"it expired on {_day(one)}"


def weaknesses(one: x509.Certificate) -> Iterator[str]:
    """Why peers no longer accept its key or its signature."""
    try:
        key, algorithm = one.public_key(), one.signature_hash_algorithm
    except (UnsupportedAlgorithm, ValueError):
        yield "its key or its signature is of a kind that is not known"
        return
    if not isinstance(key, _PUBLIC):
        yield "this kind of key is not used in TLS: RSA, EC and Ed25519 are"
    elif isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        yield f"an RSA key of {key.key_size} bits is too weak: {MIN_RSA_BITS} are needed"
    elif isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < MIN_EC_BITS:
        yield f"an EC key of {key.key_size} bits is too weak: {MIN_EC_BITS} are needed"
    # No peer checks the signature of a root on itself.
    if isinstance(algorithm, hashes.MD5 | hashes.SHA1) and one.subject != one.issuer:
        yield f"its signature, with {algorithm.name.upper()}, is too weak: SHA256 is needed"


def _curve(one: x509.Certificate) -> str | None:
    """The curve of a key that is strong enough; None where it has none."""
    with suppress(UnsupportedAlgorithm, ValueError):
        key = one.public_key()
        if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size >= MIN_EC_BITS:
            return key.curve.name
    return None


def _signed_by(one: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        one.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _issuer_at(one: x509.Certificate) -> str:
    """Where the certificate says that its issuer's can be fetched; roots say nothing of the kind."""
    with suppress(x509.ExtensionNotFound):
        access = one.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
        for description in access:
            if description.access_method == AuthorityInformationAccessOID.CA_ISSUERS:
                return str(description.access_location.value)
    return ""


# -- words -------------------------------------------------------------------------------------------------


def _names(one: x509.Certificate) -> tuple[str, ...]:
    with suppress(x509.ExtensionNotFound):
        names = one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
        return (*hosts, *map(str, names.get_values_for_type(x509.IPAddress)))
    return ()


def _whose(file: Path, chain: list[x509.Certificate], one: x509.Certificate) -> str:
    return f"{file}" if one is chain[0] else f"{file}: the certificate of {_shown(one.subject)}"


def _shown(name: x509.Name) -> str:
    return shown(name.rfc4514_string())


def _date(now: float) -> datetime:
    return datetime.fromtimestamp(now, UTC)


def _day(one: x509.Certificate) -> str:
    return f"{one.not_valid_after_utc:%Y-%m-%d}"


def _days(one: x509.Certificate, now: float) -> str:
    days = int((one.not_valid_after_utc.timestamp() - now) // DAY)
    return f"in {counted(days, 'day')}" if days else "in less than a day"


def _other_key(own: x509.Certificate, key: pem.Key) -> bool:
    """Whether the certificate is of another key; one that can't be read has been reported already."""
    with suppress(UnsupportedAlgorithm, ValueError):
        return _public(own.public_key()) != _public(key.public_key())
    return False


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _is_ip(name: str) -> bool:
    with suppress(ValueError):
        return bool(ip_address(name))
    return False
