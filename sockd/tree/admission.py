"""Who may connect to an endpoint: what its plan says of peers, ready to be asked for each of them.

A peer is asked about in the order of what it costs sockd, and the first objection counts:

1. where the endpoint is behind proxies, whether the socket's peer is one of them (`is_proxy`);
2. `access`, by the address, or by the uid and groups that the kernel vouches for;
3. `connect_rate` of its source, then `connections_per_source`;
4. the handshake, and with it the name in the client's certificate (`entry`);
5. the protocol, which may have no protocol for this address.

All up to 3 is known from the address, and asked before anything is built for the peer (`streams`): in a
storm of connections a refusal costs an accept and a close. A peer behind a proxy goes through 2 and 3 once
its PROXY header is complete (`entry`); until then only its proxy is known, and no source is charged for it.
"""

from socket import socket
from typing import TYPE_CHECKING

from sockd.base.errors import SockdError
from sockd.base.peers import Peer
from sockd.limits.access import REFUSED, Access, Networks
from sockd.limits.sources import Sources
from sockd.plan.plan import EndpointPlan, TlsPlan
from sockd.transports.connection import Connection
from sockd.transports.sockets.unix import groups_of

if TYPE_CHECKING:
    from sockd.tree.clients import Clients
    from sockd.tree.contexts import Contexts, Sessions
    from sockd.tree.recheck import Recheck

# The counter's name of connections that don't come from a proxy, or don't begin with a valid header.
PROXY_HEADER = "proxy header"


class Admission:
    """The rules of one plan; TlsError where its TLS can't be set up.

    A reload makes another one, which takes the place of this one in one step (`succeed`).
    """

    def __init__(self, plan: EndpointPlan) -> None:
        limits = plan.limits
        self.access = Access(plan.access) if plan.access else None
        self._groups_matter = bool(plan.access and plan.access.groups)
        self._proxies = Networks((network, True) for network in plan.proxy_from) if plan.proxy_from else None
        self.proxied = self._proxies is not None  # connections over IP begin with a PROXY header
        self.sources = None
        self.source_limits = (limits.connections_per_source, limits.connect_rate, limits.exempt)
        if limits.connections_per_source is not None or limits.connect_rate is not None:
            self.sources = Sources(*self.source_limits)
        # By the accepted socket: it is there before its Connection is built, and as long.
        self.counted: dict[socket, Peer] = {}
        self.tls = plan.tls
        self.starts_tls = plan.tls is not None and plan.specification.starts_tls  # on plain connections
        self.contexts: Contexts | None = None
        self.clients: Clients | None = None  # None: clients show no certificate
        self.recheck: Recheck | None = None
        if plan.tls is not None:
            try:
                self._set_up(plan.tls)
            except SockdError as error:  # TlsError, which only OpenSSL's module has
                raise type(error)(f"{plan.name}: {error}") from error

    def _set_up(self, tls: TlsPlan) -> None:
        # OpenSSL only where it is used.
        from sockd.tree.contexts import Contexts  # noqa: PLC0415

        self.contexts = Contexts(tls)
        if tls.client_ca is None:
            return
        # Now, as it takes a tenth of a second, and not when the first client comes.
        from sockd.tree.clients import Clients  # noqa: PLC0415
        from sockd.tree.recheck import Recheck  # noqa: PLC0415

        self.clients = Clients(tls)
        if tls.recheck is not None:
            self.recheck = Recheck(self.clients, tls.recheck)

    @property
    def takes_time(self) -> bool:
        """Whether something comes before the protocol."""
        return self.contexts is not None or self.proxied

    def sessions(self, spoken: tuple[str, ...] = ()) -> "Sessions":
        """The context for a TLS connection that begins now, and its sessions; `spoken` are its protocols."""
        assert self.contexts is not None  # noqa: S101 - else the file was refused
        return self.contexts.sessions(spoken)

    def is_proxy(self, peer: Peer) -> bool:
        """Whether sockd believes the PROXY header of this peer."""
        return self._proxies is not None and not peer.local and self._proxies.best(peer.host) is not None

    def refusal(self, peer: Peer, sock: socket, now: float) -> str | None:
        """The counter's name of the reason to refuse this peer; without one its connection is counted.

        It is asked before anything is built for the peer, so that a refused one costs next to nothing.
        """
        reason = None if self.access is None else self.barred(peer, sock)
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

    def why(self, reason: str, peer: Peer) -> str:
        """What the counter's name of a refusal stands for with this peer, in words, right after it."""
        if reason == PROXY_HEADER:
            return "proxy_protocol.from doesn't name it"
        if reason == REFUSED and self.access is not None:
            return self.access.why(peer)
        return "" if self.sources is None else self.sources.why(reason, peer)

    def succeed(self, old: "Admission") -> None:
        """Take the place of another one; it is to `keep` each connection that this one has admitted."""
        if self.source_limits == old.source_limits:
            # A reload doesn't give a source back what it has used of its rate.
            self.sources, self.counted = old.sources, old.counted
        if self.tls == old.tls:
            # Sessions go on as long as `tls` stays as it is.
            self.contexts, self.clients, self.recheck = old.contexts, old.clients, old.recheck

    def keep(self, connection: Connection) -> None:
        """Count a connection that is there already, even if there are more than its source may have."""
        if self.sources is not None and connection.sock not in self.counted:
            self.sources.add(connection.peer)
            self.counted[connection.sock] = connection.peer

    def left(self, sock: socket) -> None:
        """The connection of this socket has ended."""
        peer = self.counted.pop(sock, None)
        if peer is not None and self.sources is not None:
            self.sources.release(peer)

    def forget(self, now: float) -> None:
        """Forget sources that have no connection, and whose rate has recovered."""
        if self.sources is not None:
            self.sources.forget(now)
