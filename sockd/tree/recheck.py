"""Has the sweep check the certificates of connected clients again, as `tls.recheck` says.

OpenSSL looks at a certificate in the handshake only, and a connection may live on for months. So each of them
is checked again every so often, and immediately after a reload.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from sockd.base.metrics import End
from sockd.transports.connection import Connection
from sockd.tree.clients import ClientRefusedError, Clients

if TYPE_CHECKING:
    from sockd.transports.tls import TlsConnection


class Recheck:
    """When connections are to be checked again, by which rules, and what becomes of them. Times: seconds."""

    def __init__(self, clients: Clients, interval: float) -> None:
        self.interval = interval
        self._clients = clients
        self._due = 0.0

    def begins(self, now: float) -> bool:
        """Whether the sweep that begins now is to check all connections."""
        if now < self._due:
            return False
        self._due = now + self.interval
        return True

    def check(self, connection: Connection, count: Callable[[Connection, str, str], None]) -> None:
        """Close a connection whose client is no longer allowed, or cut it if it was closed the last time.

        `count(connection, counter, why)` accounts for it.
        """
        if not connection.secure or not connection.ready or not connection.connected:
            return
        one = cast("TlsConnection", connection)
        if one.disconnecting:
            if one.end is End.BARRED and not one.lingering:
                one.cut(End.BARRED)  # it takes its time to take what is unsent
            return
        try:
            self._clients.review(one)
        except ClientRefusedError as error:
            count(one, error.counter, str(error))
            one.dismiss(End.BARRED)
