"""Token buckets: rates for one source, or for many of them in bounded memory."""

from array import array
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from math import inf
from typing import Generic, TypeVar

from sockd.base.units import Rate

Source = TypeVar("Source", bound=Hashable)

SOURCE_LIMIT = 65_536  # sources that have a bucket of their own, about 10 MB of them
SHARED_BUCKETS = 1024  # for all other sources
_ROUNDING = 1e-6  # the part of one that may be missing, as sums of times are not exact
_INSTANT = 1e-6  # seconds; less than this is rounding


class Bucket:
    """A `Rate` for one source: `rate.count` at once, then one each `rate.per / rate.count` seconds.

    So `60/m` is sixty at once and then one a second, `20/s` twenty at once and then twenty a second: a full
    bucket holds `rate.count` and is filled evenly. Times are seconds of any clock that never goes back.

    The bucket is one number, the time at which it is full again: the virtual scheduling of the generic cell
    rate algorithm (ITU-T I.371, annex A). Taking one moves that time by an interval, and one may be taken as
    long as it is no further away than a burst allows. `spend` takes more than there is, for what has already
    happened; the debt is bounded by two of the rate's times.
    """

    __slots__ = ("_full_at", "_interval", "_rate", "_spare", "rate")

    def __init__(self, rate: Rate, now: float) -> None:
        self.rate = rate
        self._interval = rate.per / rate.count
        self._rate = rate.per_second
        self._spare = _spare(rate)
        self._full_at = now

    def take(self, now: float) -> bool:
        """Take one; False when there is none."""
        return self.take_many(1, now) == 1

    def take_many(self, count: int, now: float) -> int:
        """Take `count`, or as many as there are; the number taken."""
        # What `_taken` does, without calling it, min or max: an echo takes 52,700 instructions, not 56,900.
        full_at = self._full_at
        if full_at < now:  # noqa: PLR1730
            full_at = now
        wait = full_at - now - self._spare  # as `delay` has it, so that the two agree to the last bit
        if wait > 0.0:
            return 0
        available = int(-wait * self._rate) + 1
        if available < count:  # noqa: PLR1730
            count = available
        self._full_at = full_at + count * self._interval
        return count

    def spend(self, now: float, count: int = 1) -> None:
        """Take `count` even if there are fewer, for what has happened already."""
        full_at = max(self._full_at, now) + count * self._interval
        self._full_at = min(full_at, max(self._full_at, now + 2 * self.rate.per))

    def delay(self, now: float) -> float:
        """Seconds until one more can be taken; 0 when it can be now."""
        wait = self._full_at - now - self._spare
        return max(0.0, wait)

    def in_debt(self, now: float) -> bool:
        """Whether more was spent than there was."""
        return self.delay(now) > self._interval + _INSTANT

    def is_full(self, now: float) -> bool:
        """Whether all that was taken has been filled up again."""
        return now >= self._full_at

    def freeze(self) -> dict[str, float]:
        """Its state, for `thaw` by another program whose clock goes on."""
        return {"count": self.rate.count, "per": self.rate.per, "full_at": self._full_at}

    @classmethod
    def thaw(cls, state: Mapping[str, float]) -> "Bucket":
        """The bucket that was frozen to this; KeyError, TypeError or ValueError where it is no such state."""
        return cls(Rate(int(state["count"]), float(state["per"])), float(state["full_at"]))


def _spare(rate: Rate) -> float:
    """How far away (seconds) the time at which a bucket is full may be for one more to be taken."""
    interval = rate.per / rate.count
    return rate.per - interval + _ROUNDING * interval


def _taken(full_at: float, count: int, now: float, rate: float, spare: float) -> tuple[int, float]:
    """How many of `count` can be taken from a bucket that is full at `full_at`, and when it is full then.

    `rate` is a second's.
    """
    wait = max(full_at, now) - now - spare
    if wait > 0.0:
        return 0, full_at
    taken = min(count, int(-wait * rate) + 1)
    return taken, max(full_at, now) + taken / rate


class Buckets(Generic[Source]):
    """A bucket for each source, in bounded memory.

    A bucket is one number, the time at which it is full, and is forgotten when that has come: a full bucket
    and none are the same. So the table holds only the sources of the last `rate.per` seconds, at most `limit`
    of them.

    An attacker with many addresses can fill the table. It must not evict others, as an evicted source has
    a fresh bucket, the attacker's too. So nothing is evicted: sources without a bucket share SHARED_BUCKETS,
    picked by a hash of `neighbours(source)`, such as the /48 of an IPv6 address, so that the owner of a whole
    network uses up few of them. A source stays with its shared bucket until that is full, even if there is
    room in the table again, lest it have two.
    """

    def __init__(
        self, rate: Rate, limit: int = SOURCE_LIMIT, neighbours: Callable[[Source], Hashable] | None = None
    ) -> None:
        self._rate = rate.per_second
        self._spare = _spare(rate)
        self._limit = limit
        self._neighbours = neighbours or hash
        # In the order of use. An empty bucket is full within `rate.per` seconds, so that a bucket in front of
        # others keeps them from being forgotten for no longer than that.
        self._full: OrderedDict[Source, float] = OrderedDict()
        self._shared = array("d", [-inf]) * SHARED_BUCKETS

    def __len__(self) -> int:
        return len(self._full)

    def take(self, source: Source, now: float) -> bool:
        """Take one from this source's bucket, as `Bucket.take` does."""
        return self.take_many(source, 1, now) == 1

    def take_many(self, source: Source, count: int, now: float) -> int:
        """Take `count` from this source's bucket, or as many as there are; the number taken."""
        self.forget(now, 2)
        times = self._full
        full = times.get(source)
        if full is None:
            slot = hash(self._neighbours(source)) % SHARED_BUCKETS
            full = self._shared[slot]
            if full > now or len(times) >= self._limit:
                taken, self._shared[slot] = _taken(full, count, now, self._rate, self._spare)
                return taken
        taken, full = _taken(full, count, now, self._rate, self._spare)
        if taken:
            times[source] = full
            times.move_to_end(source)
        return taken

    def forget(self, now: float, most: int = SOURCE_LIMIT) -> None:
        """Forget buckets that are full again, at most `most`, those used longest ago first."""
        times = self._full
        while times and most:
            source = next(iter(times))
            if times[source] > now:
                return
            del times[source]
            most -= 1
