"""What the connections of an endpoint's TLS begin with: a context for each certificate, chosen by name."""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from sockd.errors import SockdError
from sockd.plan import CertificatePlan, TlsPlan

# TLS 1.2's with forward secrecy and authenticated encryption (RFC 9325, 4.2); 1.3 has no others.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class TlsError(SockdError):
    """Why TLS can't be set up like this."""


def server_context(plan: TlsPlan) -> ssl.SSLContext:
    """The first certificate's context, which goes over to another's where the client asks for its name."""
    contexts = [(certificate, _context(plan, certificate)) for certificate in plan.certificates]
    first = contexts[0][1]
    names = {name: context for certificate, context in reversed(contexts) for name in certificate.names}

    def chosen(connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        if name is not None:
            name = name.lower()
            wildcard = f"*.{name.partition('.')[2]}"
            connection.context = names.get(name) or names.get(wildcard) or first

    if len(contexts) > 1:
        first.sni_callback = chosen
    return first


def _context(plan: TlsPlan, certificate: CertificatePlan) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[plan.min_version]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    try:
        context.set_ciphers(CIPHERS)
        with _in_memory(certificate.chain) as chain, _in_memory(certificate.key) as key:
            context.load_cert_chain(chain, key)
        if plan.client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=plan.client_ca.decode("ascii", "replace"))
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).lower().replace("_", " ")
        raise TlsError(f"{certificate.file}: {reason}") from error
    return context


@contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    """A path to a file with this content: OpenSSL reads keys from files only, and ours may have changed."""
    descriptor = os.memfd_create("sockd-key", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
