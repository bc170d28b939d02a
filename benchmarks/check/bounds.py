"""Compares what was counted with bounds: their file, the comparison, and how it is printed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "bounds.json"
# A patch release of Python or of the C library may add this much to the instructions, but no more.
INSTRUCTIONS_MARGIN = 1.10
# Below so many of a kind in a unit it was a timer of the daemon's own.
TIMER_SHARE = 0.02
# How often threads wait for each other is the scheduler's matter, and another time it is another number.
UNCOUNTED = frozenset({"futex"})
# What is below a bound by more than this should be recorded, or it may be lost again unseen.
RECORD_BELOW = 0.8


@dataclass(frozen=True)
class Count:
    """Of one unit: how much, and of what kinds where there are several."""

    counted: float
    kinds: Mapping[str, float] = field(default_factory=dict)

    @property
    def text(self) -> str:
        kinds = ", ".join(f"{name} {_short(much)}" for name, much in self.kinds.items())
        return _short(self.counted) + (f" ({kinds})" if kinds else "")


@dataclass(frozen=True)
class Bound:
    """What was counted when it was recorded, and what may be counted."""

    recorded: Count
    bound: float


def system_calls(counts: Mapping[str, float], slack: float) -> tuple[Count, float]:
    """By name, most frequent first; their sum is that of all, seldom ones included. And the bound."""
    counted = {name: much for name, much in counts.items() if name not in UNCOUNTED}
    kinds = {name: round(much, 2) for name, much in counted.items() if much >= TIMER_SHARE}
    ordered = dict(sorted(kinds.items(), key=lambda one: (-one[1], one[0])))
    count = Count(round(sum(counted.values()), 2), ordered)
    return count, round(count.counted + slack, 2)


def instructions(counts: Mapping[str, float], slack: float = 0.0) -> tuple[Count, float]:
    """Their sum, and the bound; the slack is of system calls."""
    del slack
    count = Count(float(round(sum(counts.values()))))
    return count, float(round(count.counted * INSTRUCTIONS_MARGIN))


def too_much(count: Count, bound: Bound) -> bool:
    return count.counted > bound.bound


def verdict(count: Count, bound: Bound | None) -> str:
    """The end of the line that shows a count."""
    if bound is None:
        return "no bound is recorded: make bench-check RECORD=1"
    if too_much(count, bound):
        return f"TOO MUCH: the bound is {_short(bound.bound)}; when it was recorded: {bound.recorded.text}"
    if count.counted < RECORD_BELOW * bound.recorded.counted:
        return f"less than the {bound.recorded.text} on record: make bench-check RECORD=1 keeps it so"
    return f"at most {_short(bound.bound)}"


# -- the file


@dataclass
class Bounds:
    """All that are recorded: `system_calls` by unit, `instructions` by build of Python and unit."""

    system_calls: dict[str, Bound] = field(default_factory=dict)
    instructions: dict[str, dict[str, Bound]] = field(default_factory=dict)

    def forget(self, units: list[str]) -> None:
        """Drop what is recorded of units that aren't any more."""
        for one in (self.system_calls, *self.instructions.values()):
            for unit in set(one).difference(units):
                del one[unit]


def read(text: str) -> Bounds:
    """From the file's text; "" is none recorded."""
    told: dict[str, Any] = json.loads(text or "{}")
    return Bounds(
        {unit: _bound(one) for unit, one in told.get("system_calls", {}).items()},
        {
            build: {unit: _bound(one) for unit, one in units.items()}
            for build, units in told.get("instructions", {}).items()
        },
    )


def written(bounds: Bounds) -> str:
    """The file's text, a unit a line: a change of one is a line of a diff."""
    calls = _lines({unit: _told(one) for unit, one in bounds.system_calls.items()}, "    ")
    builds = ",\n".join(
        f"    {json.dumps(build)}: {_lines({unit: _told(one) for unit, one in units.items()}, '      ')}"
        for build, units in sorted(bounds.instructions.items())
    )
    text = f'{{\n  "system_calls": {calls},\n  "instructions": {{\n{builds}\n  }}\n}}\n'
    json.loads(text)
    return text


def _lines(values: Mapping[str, Any], indent: str) -> str:
    rows = ",\n".join(f"{indent}{json.dumps(key)}: {json.dumps(value)}" for key, value in values.items())
    return f"{{\n{rows}\n{indent[2:]}}}"


def _told(one: Bound) -> dict[str, Any]:
    kinds = {"kinds": dict(one.recorded.kinds)} if one.recorded.kinds else {}
    return {"bound": one.bound, "counted": one.recorded.counted} | kinds


def _bound(told: Mapping[str, Any]) -> Bound:
    return Bound(Count(told["counted"], told.get("kinds", {})), told["bound"])


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 1000 else f"{number:.2f}".rstrip("0").rstrip(".")
