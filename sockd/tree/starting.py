"""The TLS of an endpoint for connections whose protocol starts it midway: what `host.tls` is."""

import ssl
from collections.abc import Callable

from sockd.protocols.contract import StreamFactory
from sockd.transports.starting import StartableTls
from sockd.transports.tls_fields import TlsFields
from sockd.tree.connections import Connections
from sockd.tree.entry import proved


class EndpointTls(StartableTls):
    """The certificates and the rules that the endpoint has when TLS is started; `factory()` is its own."""

    def __init__(self, connections: Connections, factory: Callable[[], StreamFactory | None]) -> None:
        self._connections = connections
        self._factory = factory

    def __repr__(self) -> str:
        return f"<the TLS of {self._connections.endpoint}>"

    def begin(self, connection: TlsFields) -> tuple[ssl.SSLContext, Callable[[], bool]]:
        connections, admission = self._connections, self._connections.admission
        if admission.contexts is None:
            raise ValueError(f"{connections.endpoint} has no tls any more")
        sessions = connections.sessions(self._factory())
        return sessions.context, lambda: proved(connection, connections, admission, sessions)
