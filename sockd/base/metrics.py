"""What is counted of what was served and refused, in the words that the log has for it."""

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class End(StrEnum):
    """Why a connection ended: the whole vocabulary of the log."""

    PEER = "peer closed"
    DONE = "done"  # the protocol closed it
    RESET = "reset by peer"
    IDLE = "idle"
    STALLED = "stalled"
    SLOW = "too slow a reader"
    DRAINED = "drained"  # we stop, and it had finished
    CUT = "cut"  # we stop, and it had not finished by the deadline
    KICKED = "kicked"  # by hand
    BARRED = "not allowed"  # by access, or by a limit of its source
    FIRST_BYTE = "silent from the start"
    LIFETIME = "lifetime over"
    TRUNCATED = "truncated"  # TLS: the peer closed without saying that it had finished
    TLS = "TLS failed"
    HANDSHAKE = "no handshake"
    FAILED = "protocol failed"
    REFUSED = "refused by the protocol"


def summary(counts: Counter[str]) -> str:
    """The most frequent first: `3 x idle, 1 x done`."""
    return ", ".join(f"{count} x {what}" for what, count in counts.most_common())


class Counters:
    """What one listener counts. Plain attributes, so that the hot path pays one addition for each."""

    __slots__ = (
        "accepted",
        "bytes_in",
        "bytes_out",
        "datagrams_in",
        "datagrams_out",
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

    def freeze(self) -> dict[str, Any]:
        """What was counted, for the program that goes on."""
        counted = {name: getattr(self, name) for name in self.__slots__ if name != "refused"}
        return {**counted, "refused": dict(self.refused)}

    def thaw(self, state: Mapping[str, Any]) -> None:
        """Go on from what another program counted."""
        for name in self.__slots__:
            if name == "refused":
                self.refused.update(state.get(name, {}))
            else:
                setattr(self, name, state.get(name, 0))
