"""How fast a peer may go: a token bucket, kept as the one moment at which it would be full again."""

from typing import Any

from sockd.units import Rate

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
