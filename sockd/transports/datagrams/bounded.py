"""How much goes to UDP peers that have proved nothing: no more than came from them, whatever the protocol.

The source of a datagram over UDP may be forged, and the answer then goes to a victim.
So a peer that hasn't proved its address (`Peer.proved`) is sent no more bytes, in the event in which its
datagrams are handled, than came from it in that event, and the protocol's `answer_beyond` on top for
each datagram. What the protocol sends to such peers at other times, all together, is no more than what
came and was not answered, with `answer_beyond` for each datagram of a peer that got no answer at all, up to
UNANSWERED_KEPT. What is longer is refused, whatever protocol it is.
"""

from collections import Counter
from collections.abc import Sequence

from sockd.base.peers import Peer

AMPLIFIES = "longer than what was asked"  # the name under which refusals are counted
UNANSWERED_KEPT = 256 * 1024  # bytes: as many as one event reads

Batch = Sequence[tuple[bytes, Peer]]


class Bounded:
    """The part of a DatagramPort that bounds its answers, unless the kernel vouches for all its peers.

    `_asked` is the batch that is being handled, until it is answered as a whole by itself, as an echo does.
    `_credits` are the bytes that its peers may still be sent, by the identity of their Peers; they are
    counted once an answer needs to know, as most answer just what came.
    """

    __slots__ = ("_asked", "_bounded", "_credits", "_unanswered", "answer_beyond")

    def __init__(self, *, bounded: bool, beyond: int) -> None:
        self._bounded = bounded
        self.answer_beyond = beyond  # bytes
        self._asked: Batch = ()
        self._credits: dict[int, int] | None = None
        self._unanswered = 0  # bytes that were not sent when the datagrams were handled, and may be later

    def refuse(self, reason: str, peers: Sequence[Peer], why: str = "") -> None:
        """Count and log what is refused."""
        raise NotImplementedError

    def _barred(self, peer: Peer) -> bool:
        """Whether this peer is sent nothing, for another reason."""
        raise NotImplementedError

    def _afforded(self, replies: Batch) -> Batch:
        """The replies that their peers may be sent; the others are counted."""
        return [reply for reply in replies if reply[1].proved or self._affords(*reply)]

    def _affords(self, data: bytes, peer: Peer) -> bool:
        """Whether a peer that has proved nothing may be sent this; if not, that is counted."""
        if self._barred(peer):
            return True  # it will be refused for that reason
        if self._credits is None:
            self._credits = self._counted()
        size, left = len(data), self._credits.get(id(peer))
        if left is None:
            if size > self._unanswered:
                self.refuse(AMPLIFIES, (peer,), f"{size} bytes, and {self._unanswered} may be sent later")
                return False
            self._unanswered -= size
        elif size > left:
            self.refuse(AMPLIFIES, (peer,), f"{size} bytes, and {left} may be sent")
            return False
        else:
            self._credits[id(peer)] = left - size
        return True

    def _counted(self) -> dict[int, int]:
        credit: dict[int, int] = {}
        for datagram, each in self._asked:
            credit[id(each)] = credit.get(id(each), 0) + len(datagram) + self.answer_beyond
        return credit

    def _forget_asked(self) -> None:
        """What was asked has been handled: what was not answered may be answered later."""
        if self._bounded:
            self._unanswered = min(UNANSWERED_KEPT, self._unanswered + self._left())
        self._asked, self._credits = (), None

    def _left(self) -> int:
        """The bytes that were not sent; a peer that got an answer leaves nothing of `answer_beyond`."""
        credit = self._credits
        if credit is None:
            return sum([len(data) + self.answer_beyond for data, _ in self._asked])
        if not self.answer_beyond:
            return sum(credit.values())
        asked, whole = Counter(id(peer) for _, peer in self._asked), self._counted()
        return sum(
            left if left == whole[peer] else max(0, left - self.answer_beyond * asked[peer])
            for peer, left in credit.items()
        )
