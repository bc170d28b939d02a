"""Ten thousand connections: the memory of each, and the echo of a hundred that are busy among them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarks.echoes import MAIN, Echo, start_peer, start_sockd
from benchmarks.measures import Sample
from benchmarks.programs import built, loading
from benchmarks.sockds import Variant
from benchmarks.work import Case, Outcome, Settings, directories, take_turns
from benchmarks.works.streams import echo

ACTIVE = 100


@dataclass(frozen=True)
class Startable:
    name: str
    start: Callable[[], Echo]


def crowd(seconds: float, idle: int) -> Callable[[Startable], Sample]:
    """The echo among the idle ones; `bytes` is what each of them takes, `among` its CPU to that without them.

    The idle ones come first and echo one message each, as any client would. Each round has a fresh server:
    what one once had from the kernel it keeps, and the next crowd would seem to need nothing.
    """
    active = echo(seconds, ACTIVE, 100, "closed")

    def measure(one: Startable) -> Sample:
        running = one.start()
        try:
            alone = active(running).measures["cpu"]
            before = running.server.resident()
            with loading(built("load/stream.c"), running.address, idle, 100, 0, "idle"):
                each = (running.server.resident() - before) / idle
                sample = active(running)
        finally:
            running.server.end()
        among = sample.measures["cpu"] / alone
        return replace(sample, more={**sample.more, "bytes": each, "among": among})

    return measure


def run(settings: Settings, outcome: Outcome) -> None:
    idle = 2000 if settings.quick else 9900
    name = f"{ACTIVE} of {idle + ACTIVE:,} connections"
    with directories("connections") as make:

        def sockd(one: Variant) -> Startable:
            return Startable(one.name, lambda: start_sockd(one, "tcp", make()))

        def peer(name: str) -> Startable:
            return Startable(name, lambda: start_peer(name, MAIN[name], "tcp", make()))

        servers = [*map(sockd, settings.variants), *map(peer, MAIN)]
        take_turns([Case(name, "message", crowd(settings.seconds, idle))], servers, outcome, settings)
