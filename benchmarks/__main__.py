"""Measures sockd and its peers, in turn, in one run.

    .venv/bin/python -m benchmarks [--only tcp,udp] [--quick] [--also "--reactor sockd"] [--before CHECKOUT]

from the top of the checkout. `--also` measures sockd once more with these options of twistd, `--before` with
the modules of another checkout, both in turn with the others.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from benchmarks import report, results
from benchmarks.bars import BARS, judge
from benchmarks.machine import machine
from benchmarks.programs import CORES, LOAD_CORE
from benchmarks.sockds import variants
from benchmarks.work import Outcome, Settings
from benchmarks.works import accepts, chat, connections, datagrams, lines, start, streams, tls

WORKS: dict[str, Any] = {
    "tcp": partial(streams.run, "tcp"),
    "unix": partial(streams.run, "unix"),
    "udp": datagrams.run,
    "tls": tls.run,
    "line-log": lines.run,
    "chat": chat.run,
    "connections": connections.run,
    "accepts": accepts.run,
    "start": start.run,
}
RELOAD = "reload"


def chosen(text: str) -> list[str]:
    names = [one for one in text.split(",") if one] or [*WORKS, RELOAD]
    if unknown := [one for one in names if one not in WORKS and one != RELOAD]:
        raise SystemExit(f"no such work: {', '.join(unknown)}; there are {', '.join(WORKS)}, {RELOAD}")
    return names


def settings_of(arguments: argparse.Namespace) -> Settings:
    rounds, seconds = (1, 0.4) if arguments.quick else (3, 0.8)
    return Settings(
        rounds=arguments.rounds or rounds,
        seconds=arguments.seconds or seconds,
        quick=arguments.quick,
        variants=variants(arguments.also, arguments.before),
        say=partial(print, flush=True),
    )


def say_bars(work: str, found: dict[str, Any]) -> None:
    """How far this work is from its bars."""
    verdicts = [one for bar in BARS if bar.work == work and (one := judge(bar, found))]
    missed = [f"{one.bar.case}: {one.reached}, {one.bar.text}" for one in verdicts if not one.met]
    print(f"  {len(verdicts) - len(missed)} of {len(verdicts)} bars met", flush=True)
    for line in missed:
        print(f"    not met: {line}", flush=True)


@contextlib.contextmanager
def on_load_core() -> Iterator[None]:
    """We stay away from the servers' core."""
    before = os.sched_getaffinity(0)
    if CORES > 1:
        os.sched_setaffinity(0, {int(LOAD_CORE)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure sockd and its peers.")
    parser.add_argument("--only", default="", help=f"some of {','.join(WORKS)},{RELOAD}")
    parser.add_argument(
        "--quick", action="store_true", help="a look: fewer cases, one short round, not recorded"
    )
    parser.add_argument("--rounds", type=int, help="how many, for each case and server")
    parser.add_argument("--seconds", type=float, help="of load, for each round")
    parser.add_argument("--also", action="append", default=[], metavar="OPTIONS", help="sockd with these too")
    parser.add_argument(
        "--before", action="append", default=[], metavar="CHECKOUT", help="sockd from there too"
    )
    parser.add_argument("--no-record", action="store_true", help="leave the results as they are")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended, too
    works, settings = chosen(arguments.only), settings_of(arguments)
    record = not (arguments.quick or arguments.no_record)
    began, made_on, found = time.monotonic(), machine(), results.read()
    print(made_on)
    for number, work in enumerate(works, 1):
        print(f"{work} ({number} of {len(works)}, {time.monotonic() - began:.0f} s so far)", flush=True)
        if work == RELOAD:
            subprocess.run([sys.executable, "-m", "benchmarks.reload"], check=True)
            continue
        outcome = Outcome()
        with on_load_core():
            WORKS[work](settings, outcome)
        results.put(found, work, outcome, made_on, settings.rounds)
        say_bars(work, found)
        if record:
            results.write(found)
            report.write(found)
    if record:
        print("Written: benchmarks/results.json, docs/performance.md and its plots")


if __name__ == "__main__":
    main()
