"""What a connection knows of the listener that accepted it."""

from sockd.base.metrics import Counters


class Listening:
    """One listening address: its name, as logs and the status show it, and what is counted there.

    Connections refer to it, and so are found by their listener. A listener that takes the place of another
    at the same address takes this over too, and the connections are then its own.
    """

    __slots__ = ("connections", "counters", "name")

    def __init__(self, name: str, counters: Counters | None = None) -> None:
        self.name = name
        self.counters = counters or Counters()
        self.connections = 0  # that it has now
