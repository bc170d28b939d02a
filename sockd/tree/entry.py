"""What an accepted connection goes through before its protocol: a PROXY header, then a TLS handshake.

By now the peer of the socket has been admitted, or is a proxy that may speak for others. Which steps follow
depends on the listener and on the endpoint's plan:

    plain                       build the protocol, start
    plain, behind a proxy       wait for the header, admit the peer that it names, build the protocol, start
    TLS                         handshake, check the client's name, build the protocol
    TLS, behind a proxy         wait for the header, admit the peer that it names, then as for TLS

A header comes before the handshake, in the clear. As long as a plain connection waits for one, the Entry is
its protocol; a TLS connection hands its first bytes to `_take` itself. Time is limited by the sweep
(`limits.handshake`), which knows by the connection's `ready` that it is still on its way.
"""

from typing import TYPE_CHECKING, cast

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from sockd.base.metrics import End
from sockd.base.peers import Peer
from sockd.protocols.contract import StreamFactory
from sockd.transports.connection import Connection
from sockd.transports.proxy import Header, ProxyError
from sockd.transports.twisted import TwistedProtocol, built
from sockd.tree.admission import PROXY_HEADER, Admission
from sockd.tree.connections import Connections

if TYPE_CHECKING:
    from sockd.transports.tls import TlsConnection
    from sockd.tree.contexts import Sessions


class Entry:
    """The way of one connection to its protocol; `sessions` are those of its TLS context, if it has one."""

    def __init__(
        self,
        connection: Connection,
        factory: StreamFactory,
        connections: Connections,
        sessions: "Sessions | None",
    ) -> None:
        self._connection = connection
        self._factory = factory
        self._connections = connections
        # Of the context that the handshake is with: a reload in between is for later connections.
        self._admission = connections.admission
        self._sessions = sessions
        self._header: Header | None = None  # while it is waited for

    def begin(self) -> None:
        """Go on with the handshake, if there is one, and the protocol."""
        if self._connection.secure:
            self._connections.add(self._connection, self._shaken)
            return
        protocol = self._build()
        if protocol is not None:
            self._connections.add(self._connection, protocol)

    def _build(self) -> TwistedProtocol:
        """The protocol; None, with the reason counted, where there is none."""
        connection, end = self._connection, End.REFUSED
        try:
            protocol = built(self._factory, connection.peer)
        except BaseException:  # noqa: BLE001 - whatever a third party raises
            self._connections.protocol_failed("buildProtocol")
            protocol, end = None, End.FAILED
        else:
            if protocol is None:
                self._connections.refused(connection, "by the protocol")
        if protocol is None:
            self._connections.reject(connection, end)
        return protocol

    def _shaken(self) -> TwistedProtocol:
        """After the handshake: the client's certificate, and the protocol."""
        assert self._sessions is not None  # noqa: S101 - there was a handshake
        if not proved(self._connection, self._connections, self._admission, self._sessions):
            return None
        return self._build()

    # -- a header

    def wait_for_header(self) -> None:
        """Go on once the PROXY header is complete."""
        connection = self._connection
        self._header = Header()
        connection.ready = connection.admitted = False
        if connection.secure:
            cast("TlsConnection", connection).begin_with(self._take)
            self._connections.add(connection, self._shaken)
        else:
            self._connections.add(connection, self)

    def _take(self, data: bytes) -> bytes | None:
        """The bytes after the header; None while it isn't complete, or where it ends the connection."""
        connection = self._connection
        assert self._header is not None  # noqa: S101 - it is waited for
        try:
            found = self._header.feed(data)
        except ProxyError as error:
            self._refuse(PROXY_HEADER, str(error))
            return None
        if found is None:
            return None
        admission = self._connections.admission
        if not admission.is_proxy(connection.peer):  # any more, after a reload
            self._refuse(PROXY_HEADER, admission.why(PROXY_HEADER, connection.peer))
            return None
        info, rest = found
        if info.source is not None:
            connection.peer = Peer.inet(info.source)
            connection.destination = info.destination
        reason = self._connections.refusal(connection.peer, connection.sock)
        if reason is not None:
            self._refuse(reason, admission.why(reason, connection.peer))
            return None
        connection.admitted = True
        return rest

    def _refuse(self, reason: str, why: str) -> None:
        self._connections.refused(self._connection, reason, why)
        self._connection.cut(End.BARRED)

    # -- the protocol of a plain connection, until the header is complete

    def makeConnection(self, transport: Connection) -> None:  # noqa: N802
        """It only waits."""

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        rest = self._take(data)
        if rest is None:
            return
        connection = self._connection
        # The header is not the protocol's.
        connection.counters.bytes_in -= connection.received - len(rest)
        connection.received = len(rest)
        connection.begins()
        protocol = self._build()
        if protocol is None:
            return
        connection.start(protocol)
        if rest:
            connection.give(rest)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """There was no protocol yet."""


def proved(
    connection: Connection, connections: Connections, admission: Admission, sessions: "Sessions"
) -> bool:
    """Whether a client, after its handshake with a context of these sessions, has proved what is asked of it.

    If it has not, its connection is refused.
    """
    if admission.clients is None:
        return True
    # It imports cryptography: only where clients show certificates.
    from sockd.tree.clients import ClientRefusedError  # noqa: PLC0415

    try:
        admission.clients.admit(cast("TlsConnection", connection), sessions)
    except ClientRefusedError as error:
        connections.refused(connection, error.counter, str(error))
        connections.reject(connection, End.BARRED)
        return False
    return True
