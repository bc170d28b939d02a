"""Echo over UDP: CPU for each packet."""

from collections.abc import Callable
from functools import partial

from benchmarks.echoes import MAIN, Echo, start_peer, start_sockd
from benchmarks.measures import Sample
from benchmarks.programs import built, loading, measured
from benchmarks.work import Case, Outcome, Settings, directories, started, take_turns

SOCKETS, WINDOW = 8, 8  # 64 datagrams under way, which every receive buffer holds


def echo(seconds: float, size: int) -> Callable[[Echo], Sample]:
    def measure(one: Echo) -> Sample:
        with loading(built("load/datagrams.c"), one.address, SOCKETS, WINDOW, size, seconds) as load:
            return measured(one.server, load)

    return measure


def run(settings: Settings, outcome: Outcome) -> None:
    cases = [Case(f"{size:,} B", "packet", echo(settings.seconds, size)) for size in (100, 1400)]
    with directories("udp") as make:
        starters = [(one.name, partial(start_sockd, one, "udp", make())) for one in settings.variants]
        starters += [(name, partial(start_peer, name, one, "udp", make())) for name, one in MAIN.items()]
        with started(starters, outcome, settings) as running:
            take_turns(cases, running, outcome, settings)
