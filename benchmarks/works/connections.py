"""Ten thousand connections: the memory of each, and the echo of a hundred that are busy among them."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from benchmarks.echoes import MAIN, Echo, start_peer, start_sockd
from benchmarks.measures import Sample
from benchmarks.programs import built, loading
from benchmarks.work import Case, Outcome, Settings, directories, started, take_turns
from benchmarks.works.streams import echo

ACTIVE = 100


def crowd(seconds: float, idle: int) -> Callable[[Echo], Sample]:
    """The echo among the idle ones; `bytes` is what each of those takes, `alone` the CPU without them.

    The idle ones come first and echo one message each, as any client would.
    """
    active = echo(seconds, ACTIVE, 100, "closed")

    def measure(one: Echo) -> Sample:
        alone = active(one).measures["cpu"]
        before = one.server.resident()
        with loading(built("load/stream.c"), one.address, idle, 100, 0, "idle"):
            each = (one.server.resident() - before) / idle
            sample = active(one)
        among = sample.measures["cpu"] / alone
        return replace(sample, more={**sample.more, "bytes": each, "among": among})

    return measure


def run(settings: Settings, outcome: Outcome) -> None:
    idle = 2000 if settings.quick else 9900
    name = f"{ACTIVE} of {idle + ACTIVE:,} connections"
    with directories("connections") as make:
        starters = [(one.name, partial(start_sockd, one, "tcp", make())) for one in settings.variants]
        starters += [(peer, partial(start_peer, peer, one, "tcp", make())) for peer, one in MAIN.items()]
        with started(starters, outcome, settings) as running:
            take_turns([Case(name, "message", crowd(settings.seconds, idle))], running, outcome, settings)
