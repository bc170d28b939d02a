"""What a protocol is told of a connection that we ended."""

from twisted.internet.error import ConnectionLost

from sockd.base.metrics import End
from sockd.transports.connection import ConnectionCutError


def test_a_cut_is_a_lost_connection() -> None:
    """Protocols that ask Twisted's way find a lost connection; those that know us find the reason."""
    error = ConnectionCutError(End.SLOW)
    assert isinstance(error, ConnectionLost)
    assert error.reason is End.SLOW
    assert "too slow a reader" in str(error)
