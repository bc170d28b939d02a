"""What an endpoint asks of its clients' certificates, after each handshake and while connections live on.

In a full handshake OpenSSL verifies the client's chain. In a resumed one it looks at nothing: a session goes
on as long as its ticket, however long ago the certificate expired. So what a full handshake proved is kept
with the context that its sessions belong to, and is held against the time of day when one of them is resumed.
After a reload that changed anything of `tls` the context is another, and nobody can resume.

A connection that lives on keeps what it proved. With `tls.recheck` the sweep asks from time to time whether
that still holds, and whether the plan of the day would accept it (`recheck`).
"""

import time
from collections.abc import Callable
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography import x509

from sockd.plan.plan import TlsPlan
from sockd.transports.chain import CHAIN_LENGTH, shown, verified
from sockd.transports.identity import IdentityError, verified_name
from sockd.tree.contexts import PARSED, PARSED_FACTOR, Sessions

if TYPE_CHECKING:
    from sockd.transports.tls import TlsConnection


class ClientRefusedError(Exception):
    """Why a client's certificate is not accepted; `counter` is the name of the reason among the counters."""

    def __init__(self, counter: str, why: str) -> None:
        super().__init__(why)
        self.counter = counter


class Clients:
    """The rules of one plan for clients that show certificates; `wall()` is the time of day."""

    def __init__(self, plan: TlsPlan, wall: Callable[[], float] = time.time) -> None:
        assert plan.client_ca is not None  # noqa: S101 - else nobody shows one
        self._authorities_pem = plan.client_ca
        self._names = plan.client_names
        self.wall = wall

    @cached_property
    def _authorities(self) -> list[x509.Certificate]:
        return x509.load_pem_x509_certificates(self._authorities_pem)

    def admit(self, connection: "TlsConnection", sessions: Sessions) -> None:
        """Give a connection its identity after its handshake. ClientRefusedError where it is to have none."""
        tls = connection.session
        own = tls.getpeercert(True)
        assert own is not None  # noqa: S101 - the handshake demands one
        known = sha256(own).digest()
        if tls.session_reused:
            chain = sessions.chains.get(known)
        else:
            certificates = shown(tls)
            if tls.version() == "TLSv1.2":  # also of clients that are refused
                sessions.size += sum(PARSED + PARSED_FACTOR * len(one) for one in certificates)
            _measure(certificates)
            chain = verified(tls)
            sessions.keep(known, chain)
        if chain is None:
            raise ClientRefusedError("TLS: certificate", "nothing is known of the session's certificate")
        if not chain.holds(self.wall()):
            raise ClientRefusedError("TLS: certificate dates", chain.fault(self.wall()))
        connection.identity = self._name(own)
        connection.chain, connection.admitted_by = chain, self

    def _name(self, certificate: bytes) -> str:
        try:
            return verified_name(certificate, self._names)
        except IdentityError as error:
            raise ClientRefusedError("TLS: certificate name", str(error)) from None

    def review(self, connection: "TlsConnection") -> None:
        """Look again at what a connection proved. ClientRefusedError if it would no longer be accepted."""
        now = self.wall()
        chain = connection.chain
        if chain is None:
            raise ClientRefusedError("TLS: certificate", "the client has shown no certificate")
        if connection.admitted_by is not self:
            chain = chain.under(self._authorities, now)
            if chain is None:
                text = "none of the authorities in client_ca has issued the client's certificate"
                raise ClientRefusedError("TLS: certificate authority", text)
            self._name(chain.certificates[0])
            connection.chain, connection.admitted_by = chain, self
        if not chain.holds(now):
            raise ClientRefusedError("TLS: certificate dates", chain.fault(now))


def _measure(certificates: list[bytes]) -> None:
    """ClientRefusedError where a client has shown too many; in TLS 1.2 it wouldn't have come so far."""
    if len(certificates) > CHAIN_LENGTH:
        text = f"the client shows {len(certificates)} certificates, and {CHAIN_LENGTH} are accepted"
        raise ClientRefusedError("TLS: certificate chain", text)
