"""What is counted of connections and datagrams, in the words of the log."""

from collections import Counter
from enum import StrEnum

from sockd.base.frozen import Frozen
from sockd.base.units import counted


class End(StrEnum):
    """Why a connection ended, in the words of the log."""

    PEER = "peer closed"
    DONE = "done"  # the protocol closed it
    RESET = "reset by peer"
    IDLE = "idle"
    STALLED = "stalled"
    SLOW = "too slow a reader"
    DRAINED = "drained"  # it finished while sockd drained
    CUT = "closed by sockd"  # sockd stopped or drained, and it had not finished by the deadline
    KICKED = "kicked"  # by `sockd kick`
    BARRED = "not allowed"  # by access, or by a limit of its source
    FIRST_BYTE = "silent from the start"
    LIFETIME = "lifetime over"
    TRUNCATED = "truncated"  # TLS: the peer closed without saying that it had finished
    TLS = "TLS failed"
    HANDSHAKE = "no handshake"
    FAILED = "protocol failed"
    REFUSED = "refused by the protocol"


def summary(counts: Counter[str]) -> str:
    """The counts as text, the most frequent first: `3 x idle, 1 x done`."""
    return ", ".join(f"{count} x {what}" for what, count in counts.most_common())


def lost_bytes(counts: Counter[str]) -> str:
    """Counts of bytes as text, the largest first: `1840 bytes (drained), 12 bytes (done)`."""
    return ", ".join(f"{counted(count, 'byte')} ({why})" for why, count in counts.most_common())


class Counters:
    """What one listener counts: plain attributes, so that the hot path pays one addition for each."""

    __slots__ = (
        "accepted",
        "bytes_in",
        "bytes_out",
        "datagrams_in",
        "datagrams_out",
        "dropped",
        "empty",
        "refused",
    )

    def __init__(self) -> None:
        self.accepted = 0  # connections ever
        self.bytes_in = 0
        self.bytes_out = 0
        self.datagrams_in = 0
        self.datagrams_out = 0
        self.empty = 0  # datagrams without a byte
        self.refused: Counter[str] = Counter()  # reason -> how often
        # Bytes of connections that the kernel had acknowledged and no protocol was given: end -> how many.
        self.dropped: Counter[str] = Counter()

    def freeze(self) -> dict[str, int | dict[str, int]]:
        """The counts, for the program that takes over in an upgrade."""
        counted = {name: getattr(self, name) for name in self.__slots__}
        return {name: dict(count) if isinstance(count, Counter) else count for name, count in counted.items()}

    def thaw(self, state: Frozen) -> None:
        """Add what another program has counted."""
        for name in self.__slots__:
            counted = getattr(self, name)
            if isinstance(counted, Counter):
                counted.update(state.get(name, {}))
            else:
                setattr(self, name, state.get(name, 0))
