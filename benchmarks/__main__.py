"""Measures sockd beside its peers, in turn, in one run.

    .venv/bin/python -m benchmarks [--only tcp,udp] [--quick] [--also "--reactor sockd"] [--before CHECKOUT]

from the top of the checkout. `--also` measures sockd once more with these options of twistd, `--before` with
the modules of another checkout, both in turn with the others.
"""

import argparse
import subprocess
import sys
import time
from functools import partial
from typing import Any

from benchmarks import results
from benchmarks.machine import machine
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
    rounds, seconds = (1, 0.4) if arguments.quick else (3, 1.0)
    return Settings(
        rounds=arguments.rounds or rounds,
        seconds=arguments.seconds or seconds,
        quick=arguments.quick,
        variants=variants(arguments.also, arguments.before),
        say=partial(print, flush=True),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure sockd beside its peers.")
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
    works, settings = chosen(arguments.only), settings_of(arguments)
    began = time.monotonic()
    print(machine())
    found = results.read()
    for number, work in enumerate(works, 1):
        print(f"{work} ({number} of {len(works)}, {time.monotonic() - began:.0f} s so far)", flush=True)
        if work == RELOAD:
            subprocess.run([sys.executable, "-m", "benchmarks.reload"], check=True)
            continue
        outcome = Outcome()
        WORKS[work](settings, outcome)
        results.put(found, work, outcome, machine(), settings.rounds)
    if not (arguments.quick or arguments.no_record):
        results.write(found)


if __name__ == "__main__":
    main()
