"""What a round gave, and what several rounds say together: medians, their spread and ratios."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Sample:
    """One round: so many units of work, what the server spent on them, and what clients saw of it."""

    units: float
    seconds: float
    user: float = 0.0  # seconds of CPU, all threads and children
    system: float = 0.0
    more: Mapping[str, float] = field(default_factory=dict)  # p50, p99 and p999 in µs; lost; what a work adds

    @property
    def measures(self) -> dict[str, float]:
        """By name: `cpu`, `user` and `system` in µs a unit, `rate` in units a second, and the others."""
        found = dict(self.more)
        if self.units and self.seconds:
            found["rate"] = self.units / self.seconds
        if self.units and self.user + self.system:
            found |= {
                "cpu": (self.user + self.system) / self.units * 1e6,
                "user": self.user / self.units * 1e6,
                "system": self.system / self.units * 1e6,
            }
        return found


@dataclass(frozen=True)
class Spread:
    """The median of some rounds, the smallest and the largest."""

    median: float
    low: float
    high: float


def spread(values: Iterable[float]) -> Spread:
    found = sorted(values)
    return Spread(statistics.median(found), found[0], found[-1])


def summary(samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """The spread of each measure that all of the samples have, as it is written into the results."""
    found = [one.measures for one in samples]
    names = [name for name in found[0] if all(name in one for one in found)] if found else []
    return {name: asdict(spread(one[name] for one in found)) for name in names}


Servers = Mapping[str, Mapping[str, Mapping[str, float]]]  # server, measure, median and spread


def median(servers: Servers, server: str, measure: str) -> float | None:
    """None where that was not measured."""
    found = servers.get(server, {}).get(measure)
    return found["median"] if found else None


def ratio(servers: Servers, server: str, peer: str, measure: str) -> float | None:
    """The one's median to the other's; None where one of them was not measured."""
    ours, theirs = median(servers, server, measure), median(servers, peer, measure)
    return ours / theirs if ours is not None and theirs else None
