"""Token buckets: rates that recover by themselves, for one and for many sources, in bounded memory."""

from array import array
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from math import inf
from typing import Generic, TypeVar

from sockd.base.units import Rate

Source = TypeVar("Source", bound=Hashable)

# So many sources have buckets of their own at once (about 10 MB of them); those beyond share these.
SOURCES = 65_536
SHARED = 1024
# Sums of times are not exact: one is given all the same where no more than this part of it is missing.
_ROUNDING = 1e-6
_INSTANT = 1e-6  # seconds; a shorter wait is rounding, not worth a timer


class Bucket:
    """A `Rate` for one source: `rate.count` at once, then one each `rate.per / rate.count` seconds.

    So `60/m` is sixty at once and then one a second, `20/s` twenty at once and then twenty a second: a full
    bucket holds `rate.count` and is filled evenly. Times are seconds of any clock that never goes back.

    The bucket is one number, the time at which it is full again: the virtual scheduling of the generic cell
    rate algorithm (ITU-T I.371, annex A). Taking one moves that time by an interval, and one may be taken as
    long as it is no further away than a burst allows. `spend` takes more than there is, for what has already
    happened; the debt is bounded by two of the rate's times.
    """

    __slots__ = ("_full_at", "_interval", "_tolerance", "rate")

    def __init__(self, rate: Rate, now: float) -> None:
        self.rate = rate
        self._interval = rate.per / rate.count
        self._tolerance = rate.per - self._interval
        self._full_at = now

    def take(self, now: float) -> bool:
        """Take one; False when there is none."""
        return self.take_many(1, now) == 1

    def take_many(self, count: int, now: float) -> int:
        """Take `count`, or as many as there are; how many that was."""
        taken, self._full_at = _taken(self._full_at, count, now, self._interval, self._tolerance)
        return taken

    def spend(self, now: float, count: int = 1) -> None:
        """Take `count` even where there are fewer."""
        full_at = max(self._full_at, now) + count * self._interval
        self._full_at = min(full_at, max(self._full_at, now + 2 * self.rate.per))

    def delay(self, now: float) -> float:
        """Seconds until one more can be taken; 0 when it can be now."""
        wait = self._full_at - self._tolerance - now
        return wait if wait > _INSTANT else 0.0

    def in_debt(self, now: float) -> bool:
        """Whether more was spent than there was."""
        return self.delay(now) > self._interval + _INSTANT

    def is_full(self, now: float) -> bool:
        """Whether nothing that was taken counts any more."""
        return now >= self._full_at

    def freeze(self) -> dict[str, float]:
        """Its state, for `thaw` by another program whose clock goes on."""
        return {"count": self.rate.count, "per": self.rate.per, "full_at": self._full_at}

    @classmethod
    def thaw(cls, state: Mapping[str, float]) -> "Bucket":
        """The bucket that was frozen to this; KeyError, TypeError or ValueError where it is no such state."""
        return cls(Rate(int(state["count"]), float(state["per"])), float(state["full_at"]))


def _taken(full_at: float, count: int, now: float, interval: float, tolerance: float) -> tuple[int, float]:
    """How many of `count` a bucket gives that is full again at `full_at`, and when it is full then."""
    spare = tolerance + _ROUNDING * interval - (full_at - now if full_at > now else 0.0)
    if spare < 0.0:
        return 0, full_at
    taken = min(count, int(spare / interval) + 1)
    return taken, max(full_at, now) + taken * interval


class Buckets(Generic[Source]):
    """A bucket for each source, kept as the time at which it is full again, and then forgotten.

    However many sources there are, none gets a fresh bucket early: once there are `most` buckets, sources
    without one share `SHARED` buckets. Sources with the same `neighbours(source)` share the same one, so that
    the owner of a whole network uses up few of them.
    """

    def __init__(
        self, rate: Rate, most: int = SOURCES, neighbours: Callable[[Source], Hashable] | None = None
    ) -> None:
        self._interval = rate.per / rate.count
        self._tolerance = rate.per - self._interval
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
                taken, self._shared[slot] = _taken(full, count, now, self._interval, self._tolerance)
                return taken
        taken, full = _taken(full, count, now, self._interval, self._tolerance)
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
