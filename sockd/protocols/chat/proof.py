"""That a UDP peer is where its datagrams say: a code to send back, which costs us no memory.

The challenge tells to send the code without its dashes. So a service that returns what it gets, whole, with a
text before it or line by line, never answers it; only somebody who read it does. RFC 9000, section 8.1.3, has
the same idea for machines. Who sends the code with its dashes is told so, in words that don't hold it.
"""

from collections.abc import Container
from hashlib import blake2b
from ipaddress import ip_address

from sockd.base.peers import Peer
from sockd.base.units import Rate
from sockd.limits.rates import Bucket
from sockd.limits.reflection import no_client

PROVE = b"/prove"
VALID = 60.0  # seconds; a code is good for this long at least, and for twice as long at most
ALL = Rate(100, 1.0)  # challenges to everybody together
EACH = Rate(10, 60.0)  # challenges to one source
SOURCES = (
    1024  # how many sources are told apart; others share, which an attacker can't steer without the secret
)

_ASK = "-- to join, send /prove {}-{}-{} without the dashes\n"
_AGAIN = b"-- nearly: send it once more, without the dashes\n"
_ASKED = b"without the dashes"  # in all of our words


class Proof:
    """`secret` is nobody else's, `ours` are our open UDP ports. Time is passed in, in seconds.

    A new program that has the secret knows the codes that were sent.
    """

    def __init__(self, secret: bytes, now: float, ours: Container[int] = ()) -> None:
        self._ours = ours
        self._secret = secret
        self._all = Bucket(ALL, now)
        self._each: dict[int, Bucket] = {}

    def given(self, data: bytes, peer: Peer, now: float) -> bool:
        """Whether the first line of a datagram is the code that this peer was sent."""
        return _sent(data) in self._codes(peer, now)

    def challenge(self, data: bytes, peer: Peer, now: float) -> bytes | None:
        """What to send to a peer that has proved nothing, at most 64 bytes; None where silence is better."""
        if not data or _ASKED in data.lower():
            return None  # our own words come back: an answer could go on for ever
        code = _sent(data)
        dashed = b"-" in code
        if dashed and code.replace(b"-", b"") not in self._codes(peer, now):
            return None  # a part of our words that comes back late: the same
        if no_client(peer, self._ours):
            return None  # a service, not somebody who could join
        address = ip_address(peer.host)
        # One customer's network is a /64 in IPv6.
        source = address.packed[:8] if address.version == 6 else address.packed
        place = int.from_bytes(self._digest(source, 4)) % SOURCES
        each = self._each.get(place)
        if each is None:
            each = self._each[place] = Bucket(EACH, now)
        if each.delay(now) or self._all.delay(now):
            return None
        each.take(now)
        self._all.take(now)
        if dashed:
            return _AGAIN
        new = self._code(peer, int(now // VALID)).decode()
        return _ASK.format(new[:4], new[4:8], new[8:]).encode()

    def _codes(self, peer: Peer, now: float) -> tuple[bytes, bytes]:
        """Those that are good now."""
        period = int(now // VALID)
        return self._code(peer, period), self._code(peer, period - 1)

    def _code(self, peer: Peer, period: int) -> bytes:
        return self._digest(repr((period, peer.sockaddr, peer.control)).encode(), 6).hex().encode()

    def _digest(self, data: bytes, size: int) -> bytes:
        return blake2b(data, digest_size=size, key=self._secret).digest()


def _sent(data: bytes) -> bytes:
    """The code in the first line of a datagram, or nothing."""
    word, _, code = data.partition(b"\n")[0].strip().partition(b" ")
    return code.strip().lower() if word == PROVE else b""
