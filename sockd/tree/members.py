"""Numbers the members of a datagram protocol, which has no connections that could be told apart by theirs."""

from collections.abc import Hashable, Iterator
from itertools import islice, takewhile
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
        # The number of each, and the last listing that it was met in, or that had begun by then. Those that
        # were met last are at the end.
        self._known: dict[Hashable, tuple[int, int]] = {}
        self._listings = 0

    def of(self, protocol: DatagramProtocol) -> Iterator[tuple[int, Member]]:
        """The members that the protocol has, each with its number.

        It may be iterated over in many turns of the reactor, and by several callers at a time. A member that
        no listing has met since this one began has gone.
        """
        known, listed = self._known, set[int]()
        self._listings += 1
        began = self._listings
        for each in islice(protocol.members(), _LISTED):
            member = _checked(each)
            key = member.peer, member.since
            number = known.pop(key, (0, 0))[0] or next(self._numbers)
            known[key] = number, self._listings
            if number not in listed:
                listed.add(number)
                yield number, member
        for gone in tuple(takewhile(lambda one: known[one][1] < began, known)):
            del known[gone]


def _checked(member: Member) -> Member:
    """A member as a third party gave it, in values that can be shown; TypeError or ValueError else."""
    peer, name, since, idle = member.peer, member.name, float(member.since), float(member.idle)
    if not isinstance(peer, Peer) or not isinstance(name, str):
        raise TypeError("a member has a Peer, and a name that is a str")
    if not (isfinite(since) and isfinite(idle)):
        raise ValueError("a member's times are finite numbers of seconds")
    return Member(peer, name[:NAME_LIMIT], since, idle)
