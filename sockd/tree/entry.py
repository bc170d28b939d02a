"""What a connection goes through before its protocol: a PROXY header, access and sources, a handshake."""

from typing import Any

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from sockd.base.metrics import Counters, End
from sockd.base.peers import Peer
from sockd.transports.connection import Connection
from sockd.transports.proxy import Header, ProxyError
from sockd.transports.twisted import twisted_address
from sockd.tree.admission import PROXY_HEADER
from sockd.tree.connections import Connections


class Opening:
    """One connection's. As long as it waits for a header it is the protocol of a plain connection."""

    def __init__(self, factory: Any, connections: Connections, counters: Counters) -> None:
        self._factory = factory
        self._connections = connections
        self._counters = counters
        # Of the context that the handshake is with: a reload in between is for later connections.
        self._client_names = connections.admission.client_names
        self._server: Any = None
        self._header: Header | None = None  # while it is waited for

    def begin(self, connection: Any) -> None:
        """Go on with the handshake, if there is one, and the protocol."""
        if connection.secure:
            self._server = connection
            self._connections.add(connection, self._shaken)
            return
        protocol = self._build(connection)
        if protocol is not None:
            self._connections.add(connection, protocol)

    def _build(self, connection: Connection) -> Any:
        """The protocol; None, and the reason counted, where there is none."""
        end = End.REFUSED
        try:
            protocol = self._factory.buildProtocol(
                twisted_address(connection.sock.family, connection.peer.sockaddr)
            )
        except BaseException:  # noqa: BLE001
            self._connections.protocol_failed("buildProtocol")
            protocol, end = None, End.FAILED
        else:
            if protocol is None:
                self._counters.refused["by the protocol"] += 1
        if protocol is None:
            self._connections.reject(connection, end)
        return protocol

    def _shaken(self) -> Any:
        """After the handshake: who it is, and the protocol."""
        if self._client_names is not None:
            from sockd.transports.identity import IdentityError, verified_name  # noqa: PLC0415 - brings much

            try:
                der = self._server.session.getpeercert(True)
                self._server.identity = verified_name(der, self._client_names)
            except IdentityError:
                self._counters.refused["TLS: certificate name"] += 1
                self._connections.reject(self._server, End.BARRED)
                return None
        return self._build(self._server)

    # -- a header

    def with_header(self, connection: Any) -> None:
        """Wait for the header, within `limits.handshake`."""
        self._server = connection
        self._header = Header()
        connection.ready = connection.admitted = False
        if connection.secure:
            connection.begin_with(self._take)
            self._connections.add(connection, self._shaken)
        else:
            self._connections.add(connection, self)

    def _take(self, data: bytes) -> bytes | None:
        """The bytes after the header; None while it isn't whole, or where the connection ends for it."""
        connection = self._server
        assert self._header is not None  # noqa: S101 - it is waited for
        try:
            found = self._header.feed(data)
        except ProxyError:
            self._refuse(PROXY_HEADER)
            return None
        if found is None:
            return None
        if not self._connections.admission.is_proxy(connection.peer):  # any more, after a reload
            self._refuse(PROXY_HEADER)
            return None
        info, rest = found
        if info.source is not None:
            connection.peer = Peer.inet(info.source)
        reason = self._connections.refusal(connection.peer, connection.sock)
        if reason is not None:
            self._refuse(reason)
            return None
        connection.admitted = True
        return rest

    def _refuse(self, reason: str) -> None:
        self._counters.refused[reason] += 1
        self._server.cut(End.BARRED)

    # -- the protocol of a plain connection, until the header has come

    def makeConnection(self, transport: Any) -> None:  # noqa: N802
        """It only waits."""

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        rest = self._take(data)
        if rest is None:
            return
        connection = self._server
        # The header is not the protocol's.
        self._counters.bytes_in -= connection.received - len(rest)
        connection.received = len(rest)
        connection.begins()
        protocol = self._build(connection)
        if protocol is None:
            return
        connection.start(protocol)
        if rest:
            connection.give(rest)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """There was no protocol yet."""
