"""Members and the rooms they are in."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Member:
    """Somebody in the chat. `send` takes whole lines; `close` ends how they come by, after what was sent."""

    send: Callable[[bytes], object]
    close: Callable[[], object]
    name: str = ""
    room: "Room | None" = None
    present: bool = False


class Room:
    """Who is in it, in the order of coming, and its last lines, bounded in number and in bytes."""

    __slots__ = ("_bytes", "_held", "_lines", "history", "members", "name")

    def __init__(self, name: str, lines: int, size: int) -> None:
        self.name = name
        self.members: dict[Member, None] = {}
        self.history: deque[bytes] = deque()
        self._lines = lines
        self._bytes = size
        self._held = 0

    def remember(self, line: bytes) -> None:
        self.history.append(line)
        self._held += len(line)
        while len(self.history) > self._lines or self._held > self._bytes:
            self._held -= len(self.history.popleft())
