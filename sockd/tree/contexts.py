"""OpenSSL's context for each certificate of an endpoint, chosen by the name that the client asks for."""

import ssl

from sockd.plan.plan import CertificatePlan, TlsPlan
from sockd.transports.openssl import TlsError, context


def server_context(plan: TlsPlan) -> ssl.SSLContext:
    """The first certificate's context, unless the client asks for a name of another one (SNI, RFC 6066).

    A name may be a wildcard, `*.example.org`; the exact name comes first. TlsError where OpenSSL refuses one.
    """
    contexts = [(certificate, _context(plan, certificate)) for certificate in plan.certificates]
    first = contexts[0][1]
    names = {name: made for certificate, made in reversed(contexts) for name in certificate.names}

    def chosen(connection: ssl.SSLObject, name: str | None, _first: ssl.SSLContext) -> None:
        if name is not None:
            name = name.lower()
            wildcard = f"*.{name.partition('.')[2]}"
            connection.context = names.get(name) or names.get(wildcard) or first

    if len(contexts) > 1:
        first.sni_callback = chosen
    return first


def _context(plan: TlsPlan, certificate: CertificatePlan) -> ssl.SSLContext:
    try:
        return context(certificate.chain, certificate.key, plan.min_version, plan.client_ca)
    except TlsError as error:
        raise TlsError(f"{certificate.file}: {error}") from error
