"""How long a child that failed waits until it is started again."""

from collections.abc import Callable

from sockd.config.model import Restart

# The part of a delay that chance may take off, so that children that failed together, because a disk was full
# or an address had gone, don't all come back in the same instant.
JITTER = 0.25


class BackOff:
    """The delays of one child: each twice the one before, from `delay` up to `max_delay`.

    `random()` returns numbers from 0 up to 1.
    """

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
        """The child ran for so long; after `max_delay` of that, begin with `delay` again."""
        if seconds >= self._restart.max_delay:
            self._next = self._restart.delay
