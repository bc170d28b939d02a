"""A work: servers that do the same, cases that they are measured in, and how rounds of them take turns."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measures import Sample, summary
from benchmarks.programs import Failed, Missing, Server
from benchmarks.sockds import Variant


@dataclass(frozen=True)
class Settings:
    """How long it may take, and which sockds are measured."""

    rounds: int = 3
    seconds: float = 0.8  # of load, for each round
    quick: bool = False
    variants: Sequence[Variant] = (Variant(),)
    say: Callable[[str], None] = print


@dataclass(frozen=True)
class Case:
    """Something that all servers, or those that are named, are measured in, round by round."""

    name: str
    unit: str
    measure: Callable[[Any], Sample]  # of what the work's servers are
    only: tuple[str, ...] = ()  # besides sockd

    def is_for(self, name: str) -> bool:
        return not self.only or name in self.only or name.startswith("sockd")


@dataclass
class Outcome:
    """What a work gave: for each case its unit and each server's measures; what was left out, and why."""

    cases: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@contextlib.contextmanager
def directories(word: str) -> Iterator[Callable[[], Path]]:
    """Makes empty directories, in one that is removed in the end."""
    top = Path(tempfile.mkdtemp(prefix=f"sockd-{word}-"))

    def make() -> Path:
        return Path(tempfile.mkdtemp(dir=top))

    try:
        yield make
    finally:
        shutil.rmtree(top, ignore_errors=True)


@contextlib.contextmanager
def started(
    starters: Iterable[tuple[str, Callable[[], Any]]], outcome: Outcome, settings: Settings
) -> Iterator[list[Any]]:
    """All servers that can be started; they run until the block ends. Each has a `name` and a `server`."""
    with contextlib.ExitStack() as stack:
        running = []
        for name, start in starters:
            try:
                one = start()
            except (Missing, Failed) as error:
                _leave_out(name, error, outcome, settings)
                continue
            server: Server = one.server
            stack.callback(server.end)
            running.append(one)
        yield running


def take_turns(cases: Sequence[Case], running: Sequence[Any], outcome: Outcome, settings: Settings) -> None:
    """All rounds of all cases; a server that fails in one is left out of that case."""
    for case in cases:
        began = time.monotonic()
        samples: dict[str, list[Sample]] = {one.name: [] for one in running if case.is_for(one.name)}
        for _ in range(settings.rounds):
            for one in running:
                if one.name not in samples:
                    continue
                try:
                    samples[one.name].append(case.measure(one))
                except (Failed, Missing) as error:
                    _leave_out(f"{one.name} in {case.name}", error, outcome, settings)
                    del samples[one.name]
        servers = {name: summary(some) for name, some in samples.items() if some}
        outcome.cases[case.name] = {"unit": case.unit, "servers": servers}
        settings.say(f"  {case.name}, {time.monotonic() - began:.0f} s: {_brief(servers)}")


def _leave_out(what: str, error: Exception, outcome: Outcome, settings: Settings) -> None:
    note = f"{what} is left out: {error}"
    outcome.notes.append(note.replace("\n", " ")[:300])
    settings.say(f"  {note}")


def _brief(servers: dict[str, Any]) -> str:
    found = []
    for name, measures in servers.items():
        which = next((one for one in ("cpu", "bytes", "seconds", "rate") if one in measures), None)
        if which:
            found.append(f"{name} {measures[which]['median']:.4g}")
    return ", ".join(found)
