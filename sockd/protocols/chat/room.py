"""A room of a chat: the members who are in it, in the order in which they came, under its last lines."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

LONGEST_IDENTITY = 100  # characters of an identity that others are shown


def _ignore(_name: str) -> None:
    """What a member is called matters to nobody but the chat."""


@dataclass(slots=True, eq=False)
class Member:
    """One member of the chat, whichever way it came.

    `send` takes whole lines. `close` ends the connection behind the member, after what was sent. `named` is
    called with each name that the member gets. `replay` is
    how many bytes of a room's history the member is shown at a time; `identity` is the name in its verified
    client certificate, if it has one. `present` is true from its admission to its departure.
    """

    send: Callable[[bytes], object]
    close: Callable[[], object]
    named: Callable[[str], object] = _ignore
    identity: str = ""
    name: str = ""
    room: "Room | None" = None
    present: bool = False
    replay: int = 0

    @property
    def known_as(self) -> str:
        """The name, followed by the identity where there is one."""
        if not self.identity:
            return self.name
        identity = self.identity
        if len(identity) > LONGEST_IDENTITY:
            identity = f"{identity[: LONGEST_IDENTITY - 1]}…"
        return f"{self.name} ({identity})"


class Room:
    """Its members, in the order of coming, and its last lines, bounded in number and in bytes.

    Lower bounds hold immediately for what `recent` returns; what is kept beyond them goes with the next
    `trim`, so that a reload can be undone until then.
    """

    __slots__ = ("_held", "_kept", "_shown", "history", "members", "name", "unannounced")

    def __init__(self, name: str, lines: int, size: int) -> None:
        self.name = name
        self.members: dict[Member, None] = {}
        self.history: deque[bytes] = deque()
        self.unannounced: list[str] = []  # names of members whose departure nobody was told of yet
        self._shown = self._kept = (lines, size)
        self._held = 0  # bytes in the history

    def enter(self, member: Member) -> None:
        self.members[member] = None
        member.room = self

    def remember(self, line: bytes) -> None:
        """Add a line to the history."""
        self.history.append(line)
        self._held += len(line)
        self._drop_oldest()

    def bound(self, lines: int, size: int) -> None:
        """Show no more than this many lines and bytes from now on."""
        self._shown = (lines, size)
        self._kept = (max(self._kept[0], lines), max(self._kept[1], size))

    def trim(self) -> None:
        """Forget the lines beyond the bounds."""
        self._kept = self._shown
        self._drop_oldest()

    def _drop_oldest(self) -> None:
        lines, size = self._kept
        while len(self.history) > lines or self._held > size:
            self._held -= len(self.history.popleft())

    def recent(self, size: int) -> deque[bytes]:
        """The last lines, of at most `size` bytes."""
        lines, most = self._shown
        left = min(size, most)
        shown: deque[bytes] = deque()
        for line in islice(reversed(self.history), lines):
            left -= len(line)
            if left < 0:
                break
            shown.appendleft(line)
        return shown
