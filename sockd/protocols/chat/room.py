"""Members and the rooms they are in."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

_SHOWN = 100  # characters of an identity


@dataclass(slots=True, eq=False)
class Member:
    """Somebody in the chat. `send` takes whole lines; `close` ends how they come by, after what was sent.

    `replay` is how many bytes of a room's history it is shown at a time, `identity` whom its certificate
    names, if it showed one that was verified.
    """

    send: Callable[[bytes], object]
    close: Callable[[], object]
    name: str = ""
    room: "Room | None" = None
    present: bool = False
    replay: int = 0
    identity: str = ""

    @property
    def known_as(self) -> str:
        """The name, and whose it is."""
        if not self.identity:
            return self.name
        whose = self.identity if len(self.identity) <= _SHOWN else f"{self.identity[: _SHOWN - 1]}…"
        return f"{self.name} ({whose})"


class Room:
    """Who is in it, in the order of coming, and its last lines, bounded in number and in bytes.

    Bounds that are lowered hold at once for what `recent` shows, for what is kept from the next `trim` on.
    """

    __slots__ = ("_held", "_kept", "_shown", "history", "members", "name")

    def __init__(self, name: str, lines: int, size: int) -> None:
        self.name = name
        self.members: dict[Member, None] = {}
        self.history: deque[bytes] = deque()
        self._shown = self._kept = (lines, size)
        self._held = 0

    def enter(self, member: Member) -> None:
        self.members[member] = None
        member.room = self

    def remember(self, line: bytes) -> None:
        self.history.append(line)
        self._held += len(line)
        self._cut()

    def bound(self, lines: int, size: int) -> None:
        self._shown = (lines, size)
        self._kept = (max(self._kept[0], lines), max(self._kept[1], size))

    def trim(self) -> None:
        self._kept = self._shown
        self._cut()

    def _cut(self) -> None:
        lines, size = self._kept
        while len(self.history) > lines or self._held > size:
            self._held -= len(self.history.popleft())

    def recent(self, size: int) -> deque[bytes]:
        """The last lines, of so many bytes at most."""
        lines, most = self._shown
        left = min(size, most)
        shown: deque[bytes] = deque()
        for line in islice(reversed(self.history), lines):
            left -= len(line)
            if left < 0:
                break
            shown.appendleft(line)
        return shown
