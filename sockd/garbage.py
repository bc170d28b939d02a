"""When Python looks for garbage that reference counts don't find: everybody waits for it."""

import gc
from typing import Any

# Of Python's own accord: what is young often, as it is little, and everything after a growth of some 350,000
# objects. By its own rule it would look through everything after each growth by a quarter, which takes 40 ms
# with 10,000 connections. An ended connection leaves nothing behind; a third party's protocol may.
THRESHOLDS = (700, 5, 100)
# Seconds between two looks at everything, if there were so many at what is young meanwhile.
EVERY = 60.0
ENOUGH = 10


class Garbage:
    """From `start` on this daemon's rules hold, for the process."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._timer: Any = None

    def start(self) -> None:
        """What lives now mostly lives to the end, and is never looked at again."""
        gc.freeze()
        gc.set_threshold(*THRESHOLDS)
        gc.enable()
        self._timer = self._reactor.callLater(EVERY, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = self._reactor.callLater(EVERY, self._look)
        if gc.get_count()[2] >= ENOUGH:
            gc.collect()
