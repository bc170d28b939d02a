"""How much of something a unit takes: the least of several measures, less what the measuring itself takes."""

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from benchmarks.check.scenarios import Scenario
from benchmarks.check.subject import Subject

ROUNDS = 3


class Meter(Protocol):
    """Counts what happens in the daemon while `work` is done."""

    def measure(self, work: Callable[[], None]) -> Counter[str]: ...


def own_cost(meter: Meter, subject: Subject) -> Counter[str]:
    """Of a measure in which nothing is done."""
    meter.measure(subject.ping)
    return _least(meter, subject.ping)


def per_unit(meter: Meter, subject: Subject, scenario: Scenario, own: Counter[str]) -> dict[str, float]:
    """The daemon's timers, collections of garbage and threads only ever add: the least is the unit's own."""
    with scenario.open(subject) as turn:

        def work() -> None:
            for _ in range(scenario.turns):
                turn()
            subject.ping()

        work()  # what is remembered from the second time on
        counts = _least(meter, work)
    counts.subtract(own)
    return {name: much / (scenario.turns * scenario.units) for name, much in counts.items() if much}


def _least(meter: Meter, work: Callable[[], None]) -> Counter[str]:
    return min((meter.measure(work) for _ in range(ROUNDS)), key=lambda counts: counts.total())
