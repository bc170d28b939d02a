"""What was said and what came of it, counted by one side of each matter and checked against the other."""

import threading
from collections import Counter
from dataclasses import dataclass, field

EXAMPLES = 10  # that are described


@dataclass
class Sending:
    """The lines that one connection, or one sender of datagrams, sent to be logged."""

    sent: int = 0
    clean: bool = False  # we ended it, and the daemon ended it after that: nothing of it may be missing
    open: bool = True
    seen: bytearray = field(default_factory=bytearray)  # how often each line was found, up to 255

    def missing(self) -> list[int]:
        """The numbers of lines that were not found."""
        seen = self.seen.ljust(self.sent, b"\0")
        return [number for number in range(self.sent) if not seen[number]]

    @property
    def found(self) -> int:
        return sum(map(bool, self.seen))


class Ledger:
    """Lines that were sent to be logged, and records that were found. Senders are threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sendings: dict[tuple[str, int], Sending] = {}
        self.records = 0
        self.cut_off = 0  # connections that ended otherwise than cleanly
        self.faults: list[str] = []  # duplicates, and records of what nobody sent

    def begin(self, sender: str, connection: int) -> Sending:
        with self._lock:
            return self._sendings.setdefault((sender, connection), Sending())

    def end(self, sending: Sending, *, clean: bool) -> None:
        with self._lock:
            sending.clean, sending.open = clean, False
            self.cut_off += not clean

    def found(self, sender: str, connection: int, number: int) -> None:
        """A record of this line is there."""
        with self._lock:
            self.records += 1
            sending = self._sendings.get((sender, connection))
            if sending is None:
                self.faults.append(f"a record of {sender}.{connection}.{number}, which nobody sent")
                return
            seen = sending.seen
            if len(seen) <= number:
                seen.extend(bytes(number + 1 - len(seen)))
            seen[number] = min(255, seen[number] + 1)
            if seen[number] > 1:
                self.faults.append(
                    f"line {number} of {sender}, connection {connection}, is there {seen[number]} times"
                )

    @property
    def sent(self) -> int:
        with self._lock:
            return sum(sending.sent for sending in self._sendings.values())

    def lost(self) -> list[str]:
        """Lines of streams that were closed cleanly and are not there: what, where."""
        told = []
        for (sender, connection), sending in sorted(self._sendings.items()):
            if sending.clean and (missing := sending.missing()):
                told.append(
                    f"{len(missing)} of {sending.sent} lines of {sender}, connection {connection}, are not in"
                    f" the log, the first of them {missing[0]}"
                )
        return told

    def beyond(self) -> list[str]:
        """Records of lines that were never sent as a whole."""
        return [
            f"a record of line {len(sending.seen) - 1} of {sender}.{connection}, which has {sending.sent}"
            for (sender, connection), sending in sorted(self._sendings.items())
            if not sending.open and len(sending.seen) > sending.sent
        ]

    def missing(self, senders: set[str]) -> int:
        """How many lines of these senders are not there."""
        return sum(
            len(sending.missing()) for (sender, _), sending in self._sendings.items() if sender in senders
        )


@dataclass
class Book:
    """How often each thing happened to one sort of clients, with some examples of what should not have."""

    what: str
    counts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def fault(self, what: str, example: str) -> None:
        self.counts[what] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(f"{what}: {example}")


@dataclass
class Account:
    """The lines that are shown in the end, and those that make it a failure."""

    lines: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def tell(self, line: str) -> None:
        self.lines.append(line)

    def check(self, right: bool, line: str, *details: str) -> None:
        """The line says what is; where it is not right, the details say what was lost where."""
        self.lines.append(f"{'ok  ' if right else 'LOST'}  {line}")
        if not right:
            more = len(details) - EXAMPLES
            self.lines += [f"        {detail}" for detail in details[:EXAMPLES]]
            if more > 0:
                self.lines.append(f"        and {more} more")
            self.failures.append(line)
