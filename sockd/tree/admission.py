"""Who may connect to an endpoint, and what comes before the protocol: access, PROXY headers, sources, TLS."""

from collections.abc import Iterable
from socket import socket
from typing import TYPE_CHECKING

from sockd.base.peers import Peer
from sockd.limits.access import Access, Networks
from sockd.limits.sources import Sources
from sockd.plan.plan import EndpointPlan
from sockd.transports.connection import Connection
from sockd.transports.sockets.unix import groups_of

if TYPE_CHECKING:
    import ssl

# The counter's name of connections that come from no proxy, or begin with no header.
PROXY_HEADER = "proxy header"


class Admission:
    """What one plan of an endpoint says; TlsError where its TLS can't be set up."""

    def __init__(self, plan: EndpointPlan) -> None:
        limits = plan.limits
        self.access = Access(plan.access) if plan.access else None
        self._groups_matter = bool(plan.access and plan.access.groups)
        self._proxies = Networks((network, True) for network in plan.proxy_from) if plan.proxy_from else None
        self.sources = None
        self.source_limits = limits.of_a_source
        if limits.connections_per_source is not None or limits.connect_rate is not None:
            self.sources = Sources(*self.source_limits)
        # By the accepted socket: it is there before its Connection is built, and as long.
        self.counted: dict[socket, Peer] = {}
        self.context: ssl.SSLContext | None = None
        self.client_names: tuple[str, ...] | None = None  # None: clients show no certificate
        if plan.tls is not None:
            # OpenSSL only where it is used.
            from sockd.transports.openssl import TlsError  # noqa: PLC0415
            from sockd.tree.contexts import server_context  # noqa: PLC0415

            try:
                self.context = server_context(plan.tls)
            except TlsError as error:
                raise TlsError(f"{plan.name}: {error}") from error
            if plan.tls.client_ca is not None:
                # Now, and not when the first client comes: that takes a while.
                import sockd.transports.identity  # noqa: F401, PLC0415

                self.client_names = plan.tls.client_names

    @property
    def takes_time(self) -> bool:
        """Whether something comes before the protocol."""
        return self.context is not None or self.proxied

    @property
    def proxied(self) -> bool:
        """Whether connections over IP begin with a PROXY header."""
        return self._proxies is not None

    def is_proxy(self, peer: Peer) -> bool:
        """Whether a header is believed that comes from here."""
        return self._proxies is not None and not peer.local and self._proxies.best(peer.host) is not None

    def refusal(self, peer: Peer, sock: socket, now: float) -> str | None:
        """The counter's name of the reason to refuse this peer; without one its connection is counted.

        It is asked before anything is built for the peer, so that a refused one costs next to nothing.
        """
        reason = self.barred(peer, sock)
        if reason is None and self.sources is not None:
            reason = self.sources.take(peer, now)
            if reason is None:
                self.counted[sock] = peer
        return reason

    def barred(self, peer: Peer, sock: socket) -> str | None:
        """The counter's name of the reason if `access` bars this peer; `sock` is connected to it."""
        if self.access is None:
            return None
        groups = groups_of(sock) if self._groups_matter and peer.local else None
        return self.access.refusal(peer, groups)

    def succeed(self, old: "Admission", connections: Iterable[Connection]) -> None:
        """Take the place of another one, whose connections these are."""
        if self.source_limits == old.source_limits:
            # What a source has used up of its rate is not given back to it by a reload.
            self.sources, self.counted = old.sources, old.counted
        else:
            self.keep(connections)

    def keep(self, connections: Iterable[Connection]) -> None:
        """Count connections that are there already."""
        if self.sources is not None:
            for connection in connections:
                self.sources.add(connection.peer)
                self.counted[connection.sock] = connection.peer

    def left(self, sock: socket) -> None:
        """The connection of this socket has ended."""
        peer = self.counted.pop(sock, None)
        if peer is not None and self.sources is not None:
            self.sources.release(peer)

    def forget(self, now: float) -> None:
        """Let go of sources that have been silent for long enough."""
        if self.sources is not None:
            self.sources.forget(now)
