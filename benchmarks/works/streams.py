"""Echo over TCP and Unix sockets: CPU for each message, throughput of large ones, times at a fixed rate."""

from collections.abc import Callable
from functools import partial

from benchmarks.echoes import MAIN, PROCESSES, Echo, start_peer, start_sockd
from benchmarks.measures import Sample
from benchmarks.programs import built, loading, measured
from benchmarks.work import Case, Outcome, Settings, directories, started, take_turns

RATE = 10_000  # messages a second, about a tenth of what one core can do
SIZES = {"100 B": 100, "16 KiB": 16 << 10, "1 MB": 1_000_000}


def echo(seconds: float, connections: int, size: int, *mode: str) -> Callable[[Echo], Sample]:
    def measure(one: Echo) -> Sample:
        with loading(built("load/stream.c"), one.address, connections, size, seconds, *mode) as load:
            return measured(one.server, load)

    return measure


def cases(kind: str, settings: Settings) -> list[Case]:
    closed = partial(echo, settings.seconds)
    main = tuple(MAIN)
    counts: tuple[int, ...] = (1, 100, 1000)
    if settings.quick:
        counts = (100,)
    found = [
        Case(
            f"{name}, {count:,} connection{'s' * (count > 1)}",
            "message",
            closed(count, SIZES[name], "closed"),
            main,
        )
        for name in ("100 B", "16 KiB")
        for count in counts
    ]
    if kind == "tcp":
        found[found.index(next(one for one in found if one.name == "100 B, 100 connections"))] = Case(
            "100 B, 100 connections", "message", closed(100, 100, "closed")
        )
        found.append(Case("1 MB, 10 connections", "message", closed(10, SIZES["1 MB"], "closed"), main))
        opened = closed(100, 100, "open", str(RATE))
        found.append(Case(f"100 B, {RATE:,} a second over 100 connections", "message", opened, main))
    return found


def run(kind: str, settings: Settings, outcome: Outcome) -> None:
    peers = MAIN | PROCESSES if kind == "tcp" else MAIN
    with directories(kind) as make:
        starters = [(one.name, partial(start_sockd, one, kind, make())) for one in settings.variants]
        starters += [(name, partial(start_peer, name, one, kind, make())) for name, one in peers.items()]
        with started(starters, outcome, settings) as running:
            take_turns(cases(kind, settings), running, outcome, settings)
