"""Connections that come, echo one message and go, and connections that are refused: CPU for each."""

from functools import partial
from pathlib import Path

from benchmarks.echoes import MAIN, PROCESSES, start_peer, start_sockd
from benchmarks.measures import median
from benchmarks.work import Case, Outcome, Settings, directories, started, take_turns
from benchmarks.works.streams import echo
from tests.certificates import made

AT_ONCE = 20
NOBODY = "access: {deny: [0.0.0.0/0]}"


def run(settings: Settings, outcome: Outcome) -> None:
    case = Case("connect, echo, close", "connection", echo(settings.seconds, AT_ONCE, 100, "accepts"))
    peers = MAIN | PROCESSES
    with directories("accepts") as make:
        starters = [(one.name, partial(start_sockd, one, "tcp", make())) for one in settings.variants]
        starters += [(name, partial(start_peer, name, one, "tcp", make())) for name, one in peers.items()]
        with started(starters, outcome, settings) as running:
            take_turns([case], running, outcome, settings)
    for kind in ("tcp", "tls"):
        _refuse(kind, settings, outcome)


def _refuse(kind: str, settings: Settings, outcome: Outcome) -> None:
    """Peers that `access` refuses; over TLS too nothing is sent: the answer doesn't wait for a handshake."""
    load = echo(settings.seconds, AT_ONCE, 100, "refusals")
    case = Case(f"connect, refused, {kind.upper()}", "refusal", load)
    with directories("refusals") as make:

        def ready() -> Path:
            directory = make()
            if kind == "tls":
                made("localhost").write(directory)
            return directory

        starters = [(one.name, partial(start_sockd, one, kind, ready(), NOBODY)) for one in settings.variants]
        with started(starters, outcome, settings) as running:
            take_turns([case], running, outcome, settings)
    for name, measures in outcome.cases[case.name]["servers"].items():
        cpu = median({name: measures}, name, "cpu")
        if cpu:
            settings.say(f"    {name}: {1e6 / cpu:,.0f} refusals in a second of its CPU")
