"""The proof that a UDP peer is where its datagrams claim: a code to send back, which costs us no memory.

The source of a datagram can be forged, so a member's messages must not go to an address that never asked for
them. The code is a keyed hash of the peer's address and of the minute, which only a reader at that address
can know; RFC 9000, section 8.1.3, has the same idea for machines.

Here people answer, and other services must never do so by accident. So the challenge shows the code with
dashes and asks for it without them: a service that returns what it gets, whole, with a text before it, or
line by line, proves nothing. A peer that sends the code with its dashes is told what is missing, in words
that don't hold the code.
"""

from collections.abc import Container
from hashlib import blake2b
from ipaddress import ip_address

from sockd.base.peers import Peer
from sockd.base.units import Rate
from sockd.limits.rates import Bucket
from sockd.limits.reflection import no_client

PROVE = b"/prove"
CODE_PERIOD = 60.0  # seconds that a code is valid at least; at most it is valid for twice as long
CHALLENGE_RATE = Rate(100, 1.0)  # to all peers together
CHALLENGE_RATE_PER_SOURCE = Rate(10, 60.0)
# Sources share these by a keyed hash, so that an attacker can't choose whom to share with.
SOURCE_SLOTS = 1024

_CHALLENGE = "-- to join, send /prove {}-{}-{} without the dashes\n"
_REMINDER = b"-- nearly: send it once more, without the dashes\n"
_IN_BOTH = b"without the dashes"


class AddressProof:
    """Challenges peers and accepts their codes.

    `secret` is known to nobody else: a new program that has it knows the codes of the old one. `udp_ports`
    are those that the daemon itself listens on. Times are in seconds of any clock that never goes back.
    """

    def __init__(self, secret: bytes, now: float, udp_ports: Container[int] = ()) -> None:
        self._udp_ports = udp_ports
        self._secret = secret
        self._rate = Bucket(CHALLENGE_RATE, now)
        self._source_rates: dict[int, Bucket] = {}  # at most SOURCE_SLOTS

    @property
    def sources_kept(self) -> int:
        """How many sources, or groups of them, have a rate of their own; SOURCE_SLOTS at most."""
        return len(self._source_rates)

    def accepts(self, data: bytes, peer: Peer, now: float) -> bool:
        """Whether the first line of a datagram is the code that this peer was sent."""
        return _code_in(data) in self._valid_codes(peer, now)

    def challenge(self, data: bytes, peer: Peer, now: float) -> bytes | None:
        """What to send to a peer that has proved nothing, at most 64 bytes; None where silence is better."""
        if not data or _IN_BOTH in data.lower():
            return None  # our own words come back: to answer them could go on for ever
        code = _code_in(data)
        dashed = b"-" in code
        if dashed and code.replace(b"-", b"") not in self._valid_codes(peer, now):
            return None  # part of an old challenge comes back
        if no_client(peer, self._udp_ports):
            return None  # a service, which can't want to join
        address = ip_address(peer.host)
        # One customer's network is a /64 in IPv6.
        source = address.packed[:8] if address.version == 6 else address.packed
        slot = int.from_bytes(self._digest(source, 4)) % SOURCE_SLOTS
        source_rate = self._source_rates.get(slot)
        if source_rate is None:
            source_rate = self._source_rates[slot] = Bucket(CHALLENGE_RATE_PER_SOURCE, now)
        if source_rate.delay(now) or self._rate.delay(now):
            return None
        source_rate.spend(now)
        self._rate.spend(now)
        if dashed:
            return _REMINDER
        new = self._code(peer, int(now // CODE_PERIOD)).decode()
        return _CHALLENGE.format(new[:4], new[4:8], new[8:]).encode()

    def _valid_codes(self, peer: Peer, now: float) -> tuple[bytes, bytes]:
        period = int(now // CODE_PERIOD)
        return self._code(peer, period), self._code(peer, period - 1)

    def _code(self, peer: Peer, period: int) -> bytes:
        return self._digest(repr((period, peer.sockaddr, peer.control)).encode(), 6).hex().encode()

    def _digest(self, data: bytes, size: int) -> bytes:
        return blake2b(data, digest_size=size, key=self._secret).digest()


def _code_in(data: bytes) -> bytes:
    """The code in the first line of a datagram; empty where there is none."""
    word, _, code = data.partition(b"\n")[0].strip().partition(b" ")
    return code.strip().lower() if word == PROVE else b""
