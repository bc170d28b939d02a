"""Token buckets: rates that recover by themselves, for one and for many sources, in bounded memory."""

from array import array
from collections import OrderedDict
from collections.abc import Callable, Hashable
from math import inf
from typing import Any, Generic, TypeVar

from sockd.base.units import Rate

Source = TypeVar("Source", bound=Hashable)

# So many sources have buckets of their own at once (about 10 MB of them); those beyond share these.
SOURCES = 65_536
SHARED = 1024
# Sums of times are not exact: a bucket may hold so much less than one and still give it.
_ROUNDING = 1e-6


class Bucket:
    """Holds one second's worth of a rate (at least one), filled evenly."""

    __slots__ = ("_at", "_level", "burst", "per_second")

    def __init__(self, rate: Rate, now: float) -> None:
        self.per_second = rate.per_second
        self.burst = max(1.0, self.per_second)
        self._level = self.burst
        self._at = now

    def take(self, now: float) -> bool:
        """Take one at this time (seconds, any monotonic origin); False when there is none."""
        return self.take_many(1, now) == 1

    def take_many(self, count: int, now: float) -> int:
        """Take so many at once, or as many as there are; how many that was."""
        level = min(self.burst, self._level + (now - self._at) * self.per_second)
        taken = min(count, int(level))
        self._at = now
        self._level = level - taken
        return taken


class Buckets(Generic[Source]):
    """A bucket for each source, kept as the time at which it is full again, and then forgotten.

    Nobody gets out of a bucket by the number of others: once there are `most`, those who come new share
    buckets, all `neighbours` of one the same; so that who has a whole network uses up few of them.
    """

    def __init__(
        self, rate: Rate, most: int = SOURCES, neighbours: Callable[[Source], Hashable] | None = None
    ) -> None:
        self._per_second = rate.per_second
        self._each = 1 / rate.per_second  # seconds in which one is filled in
        self._bearable = (max(1.0, rate.per_second) - 1.0 + _ROUNDING) * self._each
        self._most = most
        self._neighbours = neighbours or hash
        # In the order of use. Each is full again within the time in which an empty one fills, so that none
        # is kept for longer than that by one in front of it.
        self._full: OrderedDict[Source, float] = OrderedDict()
        self._shared = array("d", [-inf]) * SHARED

    def __len__(self) -> int:
        return len(self._full)

    def take(self, source: Source, now: float) -> bool:
        """Take one of this source's, as `Bucket.take` does."""
        return self.take_many(source, 1, now) == 1

    def take_many(self, source: Source, count: int, now: float) -> int:
        """Take so many of this source's, or as many as there are, as `Bucket.take_many` does."""
        self.forget(now, 2)
        times = self._full
        full = times.get(source)
        if full is None:
            slot = hash(self._neighbours(source)) % SHARED
            full = self._shared[slot]
            # Who shared a bucket stays with it until it is full, lest it have two.
            if full > now or len(times) >= self._most:
                taken, self._shared[slot] = self._taken(full, count, now)
                return taken
        taken, full = self._taken(full, count, now)
        if taken:
            times[source] = full
            times.move_to_end(source)
        return taken

    def forget(self, now: float, most: int = SOURCES) -> None:
        """Forget some that are full again, those used longest ago first."""
        times = self._full
        while times and most:
            source = next(iter(times))
            if times[source] > now:
                return
            del times[source]
            most -= 1

    def _taken(self, full: float, count: int, now: float) -> tuple[int, float]:
        """How many can be taken of a bucket, and when it is full again then; GCRA's virtual scheduling."""
        bearable = self._bearable - (full - now if full > now else 0.0)
        if bearable < 0.0:
            return 0, full
        taken = min(count, int(bearable * self._per_second) + 1)
        return taken, max(full, now) + taken * self._each


_INSTANT = 1e-6  # seconds; less is rounding, not worth a timer


class Pace:
    """`rate.count` at once and no more than `rate` in the long run. Time is passed in, in seconds."""

    __slots__ = ("_full_at", "_interval", "_per", "_tolerance", "rate")

    def __init__(self, rate: Rate, now: float) -> None:
        self.rate = rate
        self._per = rate.per
        self._interval = rate.per / rate.count
        self._tolerance = rate.per - self._interval
        self._full_at = now

    def freeze(self) -> dict[str, Any]:
        return {"count": self.rate.count, "per": self.rate.per, "full_at": self._full_at}

    @classmethod
    def thaw(cls, state: dict[str, Any]) -> "Pace":
        """The one of which this was frozen; its times are of a clock that goes on."""
        return cls(Rate(int(state["count"]), float(state["per"])), float(state["full_at"]))

    def delay(self, now: float) -> float:
        """Seconds until one more is allowed; 0 when it is now."""
        wait = self._full_at - self._tolerance - now
        return wait if wait > _INSTANT else 0.0

    def in_debt(self, now: float) -> bool:
        """Whether more was taken than was allowed."""
        return self.delay(now) > self._interval + _INSTANT

    def rested(self, now: float) -> bool:
        """Whether nothing that was taken counts any more."""
        return now >= self._full_at

    def take(self, now: float, count: int = 1) -> None:
        """Count what came, even beyond what is allowed; the debt is bounded, so that the wait is."""
        full_at = max(self._full_at, now) + count * self._interval
        self._full_at = min(full_at, max(self._full_at, now + 2 * self._per))
