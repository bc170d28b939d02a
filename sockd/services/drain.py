"""Some connections that are to finish, and who waits for that."""

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred

from sockd.metrics import End
from sockd.transports.stream import Server


class Drain:
    """Some connections that are to finish; `done` fires when all have ended. `cut` counts those cut off."""

    def __init__(self, servers: Iterable[Server]) -> None:
        self.servers = dict.fromkeys(servers)
        self.finished = 0
        self.cut = 0
        self.done: Deferred[None] = Deferred()
        self.timer: Any = None

    def ended(self, server: Server, end: End) -> None:
        """One of them has ended, if it is one of them."""
        if server in self.servers:
            del self.servers[server]
            if end is End.CUT:
                self.cut += 1
            else:
                self.finished += 1

    def expired(self) -> None:
        """Their time is over."""
        self.timer = None
        for server in tuple(self.servers):
            server.cut(End.CUT)

    def close(self) -> None:
        """All have ended."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if not self.done.called:
            self.done.callback(None)
