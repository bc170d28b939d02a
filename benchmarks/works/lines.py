"""Lines into a file: CPU for each, until the last of them is there, and how many were lost."""

import os
import time
from collections.abc import Callable
from functools import partial

from benchmarks.loggers import PEERS, Logger, start_sockd
from benchmarks.measures import Sample
from benchmarks.programs import built, loading
from benchmarks.work import Case, Outcome, Settings, directories, started, take_turns

LENGTH = 120  # bytes, the newline included
SILENCE_LIMIT = 2.0  # seconds without a new line until the missing ones are lost


def written(file: str, count: int) -> int:
    """How many lines the file has, as soon as there are so many, or nothing more comes."""
    found, last = 0, time.monotonic()
    with open(file, "rb") as lines:
        while found < count and time.monotonic() - last < SILENCE_LIMIT:
            if chunk := lines.read(1 << 20):
                found += chunk.count(b"\n")
                last = time.monotonic()
            else:
                time.sleep(0.002)
    return found


def send(senders: int, count: int) -> Callable[[Logger], Sample]:
    def measure(one: Logger) -> Sample:
        if one.file.exists():
            os.truncate(one.file, 0)
        with loading(built("load/lines.c"), one.address, senders, LENGTH, count) as load:
            before, began = one.server.spent(), time.monotonic()
            sent = int(load.run()["units"])
            while not one.file.exists() and time.monotonic() - began < SILENCE_LIMIT:
                time.sleep(0.002)
            got = written(str(one.file), sent)
            seconds = time.monotonic() - began
        user, system = one.server.spent().since(before)
        return Sample(got, seconds, user, system, {"lost": float(sent - got)})

    return measure


def run(settings: Settings, outcome: Outcome) -> None:
    count = 150_000 if settings.quick else 800_000
    datagrams = count // 8
    many = [Case(f"TCP, {n:,} sender{'s' * (n > 1)}", "line", send(n, count)) for n in (1, 10, 1000)]
    if settings.quick:
        del many[::2]
    _run("tcp", "text", many, settings, outcome)
    _run("tcp", "json", [Case("TCP, 10 senders, JSON", "line", send(10, count))], settings, outcome)
    _run("udp", "text", [Case("UDP", "line", send(1, datagrams))], settings, outcome)
    _run("unixgram", "text", [Case("Unix datagrams", "line", send(1, count // 20))], settings, outcome)


def _run(kind: str, form: str, cases: list[Case], settings: Settings, outcome: Outcome) -> None:
    with directories("lines") as make:
        starters = [(one.name, partial(start_sockd, one, kind, form, make())) for one in settings.variants]
        starters += [(name, partial(one, name, kind, form, make())) for name, one in PEERS[kind].items()]
        with started(starters, outcome, settings) as running:
            take_turns(cases, running, outcome, settings)
