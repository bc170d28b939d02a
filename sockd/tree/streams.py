"""A listener for streams: accepts connections, unless the peer is refused before anything is built for it."""

import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from sockd.base.peers import Peer, Sockaddr
from sockd.base.units import Rate
from sockd.limits.suppression import LogLimiter
from sockd.plan.plan import ListenerPlan
from sockd.protocols.contract import StreamFactory
from sockd.transports.acceptor import Acceptor
from sockd.transports.connection import Connection
from sockd.transports.sockets.inet import OpenError, read_urgent
from sockd.transports.sockets.opening import Opened
from sockd.transports.sockets.unix import credentials
from sockd.tree.admission import PROXY_HEADER, Admission
from sockd.tree.entry import Entry
from sockd.tree.listener import Common, Listener
from sockd.tree.states import Effect

if TYPE_CHECKING:
    from sockd.tree.contexts import Sessions

_SHORTAGES_LOGGED = Rate(1, 60.0)  # of descriptors or memory


class StreamListener(Listener):
    """Accepts connections for the protocols of a factory; `factory()` returns it once there is one."""

    def __init__(
        self,
        plan: ListenerPlan,
        number: int,
        common: Common,
        failed: Callable[[BaseException], None],
        factory: Callable[[], StreamFactory | None],
    ) -> None:
        super().__init__(plan, number, common, failed)
        self._factory = factory
        self._acceptor: Acceptor | None = None
        self._shortages = LogLimiter(self._reactor, _SHORTAGES_LOGGED)

    @property
    def descriptor(self) -> Acceptor | None:
        return self._acceptor

    def serve(self, effect: Effect) -> None:
        self._effect = effect
        if self._acceptor is not None:
            self._acceptor.accept(effect.accepts)

    def _begin(self, opened: Opened) -> None:
        if self._common.specification.stream is None:
            raise OpenError("the protocol does not speak over streams")
        room = self._common.connections.room
        self._acceptor = Acceptor(opened.sock, self._reactor, self._take, room, self._short, self.lost)

    def _leave(self, *, queued: bool) -> None:
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is not None:
            if queued and self._effect.reads and self._factory() is not None:
                acceptor.take_queued(self.plan.socket.backlog)
            acceptor.leave()

    # -- a peer comes

    def _take(self, sock: socket.socket, sockaddr: Sockaddr) -> None:
        self.counters.accepted += 1
        local = not isinstance(sockaddr, tuple)  # quicker than `sock.family`, which Python looks up by value
        if local:
            read_urgent(sock)  # over TCP it has this from the listening socket
            peer = Peer.unix(*credentials(sock), sockaddr)
        else:
            peer = Peer.inet(sockaddr)
        connections, admission = self._common.connections, self._common.connections.admission
        header = admission.proxied and not local
        if header:
            reason = None if admission.is_proxy(peer) else PROXY_HEADER
        else:
            reason = connections.refusal(peer, sock)
        if reason is not None:
            self.refuse(reason, (peer,), partial(admission.why, reason, peer))
            sock.close()
            return
        try:
            factory = self._the_factory()
            sessions = connections.sessions(factory) if self.plan.tls else None
            entry = Entry(self._build(sock, peer, sessions), factory, connections, sessions)
        except BaseException:
            admission.left(sock)  # it was counted, and there is no connection that could end
            sock.close()
            raise
        if header:
            entry.wait_for_header()
        else:
            entry.begin()

    def _the_factory(self) -> StreamFactory:
        factory = self._factory()
        assert factory is not None  # noqa: S101 - nothing is accepted before there is one
        return factory

    def _build(self, sock: socket.socket, peer: Peer, sessions: "Sessions | None") -> Connection:
        flusher, connections = self._common.flusher, self._common.connections
        if sessions is None:
            return plain(connections.admission)(sock, peer, flusher, connections, self.listening)
        from sockd.transports.tls import TlsConnection  # noqa: PLC0415 - OpenSSL only where it is used

        return TlsConnection(sock, peer, flusher, connections, self.listening, sessions.context)

    def _short(self, error: OSError) -> None:
        self.counters.refused["accepting failed"] += 1
        if self._shortages.allows("short"):
            self._common.log.error(
                "{endpoint}: {address} can't accept: {why}; new connections wait in the kernel's backlog",
                endpoint=self._common.connections.endpoint, address=str(self.address), why=error.strerror,
                event="short",
            )  # fmt: skip


def plain(admission: Admission) -> type[Connection]:
    """The class of connections that don't begin with a handshake."""
    if not admission.starts_tls:
        return Connection
    from sockd.transports.starting import StartableConnection  # noqa: PLC0415 - OpenSSL only where it is used

    return StartableConnection
