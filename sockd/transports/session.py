"""Shows a protocol the session of its TLS connection, as Twisted's interfaces have it."""

import ssl
from typing import Any


class TlsSession:
    """What ISSLTransport and INegotiated ask beyond ITCPTransport."""

    __slots__ = ()

    @property
    def session(self) -> ssl.SSLObject:
        """What was agreed on: version, cipher, the peer's certificate, the server name that it asked for."""
        raise NotImplementedError

    # Any: an interface of zope's has no types, and pyOpenSSL may be missing.
    def getPeerCertificate(self) -> Any:  # noqa: N802
        """The certificate that the client has shown; None where it was asked for none (`tls.client_ca`).

        It is pyOpenSSL's X509, as on Twisted's own transports, where pyOpenSSL is installed, and else the
        Certificate of cryptography.x509.
        """
        shown = self.session.getpeercert(True)
        if shown is None:
            return None
        # cryptography is loaded where clients show certificates.
        from cryptography.x509 import load_der_x509_certificate  # noqa: PLC0415

        certificate = load_der_x509_certificate(shown)
        try:
            from OpenSSL.crypto import X509  # noqa: PLC0415 - no package that sockd needs
        except ImportError:
            return certificate
        return X509.from_cryptography(certificate)

    @property
    def negotiatedProtocol(self) -> bytes | None:  # noqa: N802
        """The protocol that ALPN has chosen (RFC 7301); None without one, or before it has."""
        chosen = self.session.selected_alpn_protocol()
        return None if chosen is None else chosen.encode("ascii", "surrogateescape")
