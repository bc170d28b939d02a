"""`make bench-check`: what each unit of work costs, and its bound; status 1 where it costs more.

    .venv/bin/python -m benchmarks.check [--record] [--only WORDS]

from the top of the checkout. Nothing is timed. System calls are counted by strace, instructions by valgrind;
these have bounds for the builds of Python they were recorded with, elsewhere only system calls are checked.
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.check import bounds as recorded
from benchmarks.check.bounds import Bound, Bounds, Count
from benchmarks.check.counting import Meter, own_cost, per_unit
from benchmarks.check.errors import MisbehavedError, NotCountableError
from benchmarks.check.instructions import Instructions, build
from benchmarks.check.scenarios import SCENARIOS, Scenario
from benchmarks.check.subject import Subject
from benchmarks.check.system_calls import SystemCalls

# What a unit's counts come to, and what may be counted another time; the number is a scenario's slack.
Summed = Callable[[Mapping[str, float], float], tuple[Count, float]]


class Check:
    """One run over some scenarios; `failed` says what is over its bound, has none, or went wrong."""

    def __init__(self, bounds: Bounds, scenarios: Sequence[Scenario], *, record: bool) -> None:
        self.bounds = bounds
        self.failed: list[str] = []
        self._scenarios = scenarios
        self._record = record

    def system_calls(self) -> None:
        say("System calls a unit, by strace:")
        with TemporaryDirectory(prefix="sockd-") as place, Subject(Path(place)) as subject:
            meter = SystemCalls(subject.pid, subject.directory)
            self._each("system calls", meter, subject, self.bounds.system_calls, recorded.system_calls)

    def instructions(self) -> None:
        known = self.bounds.instructions.get(build(), {})
        if not known and not self._record:
            say(f"Instructions are not checked: no bounds are recorded for {build()}")
            return
        say(f"Instructions a unit, by valgrind, {build()}:")
        with TemporaryDirectory(prefix="sockd-") as place:
            meter = Instructions(Path(place))
            with Subject(Path(place), meter.prefix) as subject:
                meter.attach(subject.pid)
                self._each("instructions", meter, subject, known, recorded.instructions)
        if self._record:
            self.bounds.instructions[build()] = known

    def _each(
        self, what: str, meter: Meter, subject: Subject, known: dict[str, Bound], summed: Summed
    ) -> None:
        own = own_cost(meter, subject)
        for one in self._scenarios:
            if one.at_rest and what == "instructions":
                continue
            try:
                count, bound = summed(per_unit(meter, subject, one, own), one.slack)
            except (AssertionError, MisbehavedError, OSError) as error:
                raise MisbehavedError(f"{what}: {one.name}: {error}") from error
            if self._record:
                known[one.name] = Bound(count, bound)
            say(f"  {one.name:42} {count.text}; {recorded.verdict(count, known.get(one.name))}")
            if one.name not in known or recorded.too_much(count, known[one.name]):
                self.failed.append(f"{what}: {one.name}")

    def run(self, count: Callable[[], None]) -> None:
        """As far as the machine lets us count; in CI, as root, it has to."""
        try:
            count()
        except NotCountableError as error:
            say(f"NOT COUNTED: {error}")
            if os.geteuid() == 0 and os.environ.get("CI") == "true":
                self.failed.append("what could not be counted, in CI")
        except (AssertionError, MisbehavedError, OSError) as error:
            self.failed.append(str(error))


def say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Count what units of work cost, and compare with what is recorded."
    )
    parser.add_argument("--record", action="store_true", help="what is counted becomes what is recorded")
    parser.add_argument("--only", default="", help="units with this in their name")
    parser.add_argument("--file", type=Path, default=recorded.FILE, help="where bounds are recorded")
    arguments = parser.parse_args()
    scenarios = [one for one in SCENARIOS if arguments.only.casefold() in one.name.casefold()]
    file: Path = arguments.file
    bounds = recorded.read(file.read_text() if file.exists() else "")
    if not scenarios:
        parser.error(f"no unit has {arguments.only!r} in its name")
    check = Check(bounds, scenarios, record=arguments.record)
    check.run(check.system_calls)
    check.run(check.instructions)
    if arguments.record and not check.failed:
        bounds.forget([one.name for one in SCENARIOS])
        file.write_text(recorded.written(bounds))
        say(f"Recorded in {file.name}")
    for failed in check.failed:
        say(f"FAILED: {failed}")
    return bool(check.failed)


if __name__ == "__main__":
    sys.exit(main())
