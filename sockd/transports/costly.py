"""Sources whose clients have shown certificates that cost OpenSSL much and were refused.

OpenSSL parses all the certificates that a client shows before it looks at who has signed them, a third of a
millisecond for each. In TLS 1.3 they are encrypted, so that nobody else can count them first. Where that took
long and came to nothing, the source can't do it again before a hundred times as long has passed: so it has a
hundredth of the time at most.
"""

from sockd.base.peers import Peer
from sockd.limits.sources import Source, source

# Seconds that a failed step of a handshake may take without consequences.
CHEAP = 0.002
# Bytes of a client's certificates and signature that are never refused for this.
SMALL_FLIGHT = 2 * 1024
_TIMES = 100  # what the step took
_SOURCES_LIMIT = 1024


class CostlySources:
    """Until when each of the last sources may not show long certificates; times in seconds."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[Source, float] = {}

    def failed(self, peer: Peer, took: float, now: float) -> None:
        """A step of its handshake has failed, and took so long."""
        if took <= CHEAP:
            return
        one = source(peer)
        self._until.pop(one, None)
        self._until[one] = now + _TIMES * took
        if len(self._until) > _SOURCES_LIMIT:
            del self._until[next(iter(self._until))]

    def bars(self, peer: Peer, now: float) -> bool:
        """Whether it has to wait."""
        return bool(self._until) and self._until.get(source(peer), now) > now
