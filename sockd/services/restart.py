"""How long to wait before the next try: doubling, with jitter, forgotten after a time of success. Pure."""

from collections.abc import Callable

from sockd.plan import Restart

# Each delay is shortened by up to this part, so that what failed together doesn't come back together.
JITTER = 0.25


class BackOff:
    """The delays of one child; `random()` gives numbers from 0 up to 1."""

    def __init__(self, restart: Restart, random: Callable[[], float]) -> None:
        self._restart = restart
        self._random = random
        self._next = restart.delay

    def delay(self) -> float:
        """Seconds to wait now; never more than `max_delay`."""
        delay = min(self._next, self._restart.max_delay)
        self._next = min(delay * 2, self._restart.max_delay)
        return delay * (1 - JITTER * self._random())

    def stayed_up(self, seconds: float) -> None:
        """It ran for so long; after `max_delay` of that, begin with `delay` again."""
        if seconds >= self._restart.max_delay:
            self._next = self._restart.delay
