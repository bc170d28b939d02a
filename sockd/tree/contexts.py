"""OpenSSL's contexts for the certificates of an endpoint, and the sessions that may be resumed with them."""

import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

from sockd.plan.plan import CertificatePlan, TlsPlan
from sockd.transports.openssl import TlsError, context, with_certificate_of

if TYPE_CHECKING:
    from sockd.transports.chain import Chain

# Sessions of TLS 1.2 that OpenSSL keeps for clients that take no tickets; a kilobyte each. All of them are
# freed in one event: in 0.26 ms.
SESSIONS_LIMIT = 512
# Bytes of client certificates that are kept: by OpenSSL in such sessions, parsed, and by us. It takes 4 µs to
# free a session with a certificate of a usual size, of which there are 250 then.
CERTIFICATES_SIZE = 1024 * 1024
# Bytes that a certificate takes once OpenSSL has parsed it: so many, and so many times its own.
PARSED = 3 * 1024
PARSED_FACTOR = 3


# The first is what connections begin with; the client may ask for a name of another one (SNI, RFC 6066).
ServerContexts = tuple[ssl.SSLContext, ...]


class Sessions:
    """A context, and what clients have proved in sessions that can be resumed with this context alone."""

    def __init__(self, plan: TlsPlan, certified: ServerContexts) -> None:
        self.context = with_certificate_of(certified[0], plan.min_version, asks=plan.client_ca is not None)
        self.certified = certified
        self.chains: dict[bytes, Chain] = {}  # by the SHA-256 of the client's own certificate
        self.size = 0  # bytes of client certificates, in `chains` and in OpenSSL's sessions

    def keep(self, known: bytes, chain: "Chain") -> None:
        """A full handshake has proved this chain; the client's later ones take the place of earlier ones."""
        old = self.chains.get(known)
        self.size += chain.size - (old.size if old is not None else 0)
        self.chains[known] = chain

    def negotiate(self, protocols: tuple[str, ...]) -> None:
        """Agree on one of these protocols with clients whose handshakes begin from now on."""
        for each in self.certified:
            each.set_alpn_protocols(protocols)

    @property
    def full(self) -> bool:
        """Whether no more sessions are to be kept."""
        return self.size > CERTIFICATES_SIZE or self.context.session_stats()["number"] > SESSIONS_LIMIT


class Contexts:
    """The context for each new connection. TlsError where OpenSSL refuses something of the plan.

    OpenSSL would keep 20,480 sessions for two hours, and Python has no way to ask for fewer. So where there
    are enough, connections get a new context from then on, and the certificates of the first one: loading
    them again would take milliseconds. The sessions of the old one can't be resumed any more; it goes with
    the last connection that was made with it.
    """

    def __init__(self, plan: TlsPlan) -> None:
        self._plan = plan
        self._sessions = Sessions(plan, server_contexts(plan))
        self._protocols: tuple[str, ...] = ()

    def sessions(self, spoken: tuple[str, ...] = ()) -> Sessions:
        """For a connection that begins now, with a protocol that speaks these by ALPN."""
        if self._sessions.full:
            with suppress(ssl.SSLError):  # short of memory: it may succeed for the next connection
                self._sessions = Sessions(self._plan, self._sessions.certified)
        protocols = self._plan.alpn or spoken
        if protocols != self._protocols:
            self._protocols = protocols
            self._sessions.negotiate(protocols)
        return self._sessions


def server_contexts(plan: TlsPlan) -> ServerContexts:
    """A context for each certificate; the first one's changes to that with the name that the client asks for.

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
    return tuple(made for _, made in contexts)


def _context(plan: TlsPlan, certificate: CertificatePlan) -> ssl.SSLContext:
    try:
        return context(certificate.chain, certificate.key, plan.min_version, plan.client_ca)
    except TlsError as error:
        raise TlsError(f"{certificate.file}: {error}") from error
