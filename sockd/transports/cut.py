"""What a protocol is told of a connection that we ended."""

from twisted.internet.error import ConnectionLost


class ConnectionCutError(ConnectionLost):
    """We ended the connection without waiting for the peer; `reason` is a word of `metrics.End`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
