"""Numbers the members of a datagram protocol, which has no connections that could be told apart by theirs."""

from collections.abc import Hashable, Iterator
from itertools import islice
from math import isfinite

from sockd.base.peers import NAME_LIMIT, Peer
from sockd.protocols.contract import DatagramProtocol, Member

# Members of one protocol that are listed at most: it may be a third party's, and produce them for ever.
_LISTED = 100_000


class Members:
    """Gives each member a number of `numbers` when it is listed for the first time, until it has gone.

    A peer that goes and comes back is another member, known by the time at which it came.
    """

    def __init__(self, numbers: Iterator[int]) -> None:
        self._numbers = numbers
        self._known: dict[Hashable, int] = {}

    def of(self, protocol: DatagramProtocol) -> list[tuple[int, Member]]:
        """The members that the protocol has now, each with its number."""
        found: dict[Hashable, tuple[int, Member]] = {}
        for each in islice(protocol.members(), _LISTED):
            member = _checked(each)
            key = member.peer, member.since
            found[key] = self._known.get(key) or next(self._numbers), member
        self._known = {key: number for key, (number, _) in found.items()}
        return list(found.values())


def _checked(member: Member) -> Member:
    """A member as a third party gave it, in values that can be shown; TypeError or ValueError else."""
    peer, name, since, idle = member.peer, member.name, float(member.since), float(member.idle)
    if not isinstance(peer, Peer) or not isinstance(name, str):
        raise TypeError("a member has a Peer, and a name that is a str")
    if not (isfinite(since) and isfinite(idle)):
        raise ValueError("a member's times are finite numbers of seconds")
    return Member(peer, name[:NAME_LIMIT], since, idle)
