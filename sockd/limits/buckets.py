"""Token buckets: rates that recover by themselves, for one and for many sources, in bounded memory."""

from collections.abc import Hashable

from sockd.units import Rate

# So many sources are told apart at once; the one that was seen longest ago makes room.
SOURCES = 4096


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
        level = min(self.burst, self._level + (now - self._at) * self.per_second)
        self._at = now
        if level < 1.0:
            self._level = level
            return False
        self._level = level - 1.0
        return True


class Sources:
    """A bucket for each source."""

    def __init__(self, rate: Rate, most: int = SOURCES) -> None:
        self._rate = rate
        self._most = most
        self._buckets: dict[Hashable, Bucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, source: Hashable, now: float) -> bool:
        """Take one of this source's."""
        bucket = self._buckets.pop(source, None)
        if bucket is None:
            if len(self._buckets) >= self._most:
                del self._buckets[next(iter(self._buckets))]
            bucket = Bucket(self._rate, now)
        self._buckets[source] = bucket  # last: the order of the dict is the order of use
        return bucket.take(now)
