"""Connections that come, echo one message and go: CPU for each."""

from functools import partial

from benchmarks.echoes import MAIN, PROCESSES, start_peer, start_sockd
from benchmarks.work import Case, Outcome, Settings, directories, started, take_turns
from benchmarks.works.streams import echo

AT_ONCE = 20


def run(settings: Settings, outcome: Outcome) -> None:
    case = Case("connect, echo, close", "connection", echo(settings.seconds, AT_ONCE, 100, "accepts"))
    peers = MAIN | PROCESSES
    with directories("accepts") as make:
        starters = [(one.name, partial(start_sockd, one, "tcp", make())) for one in settings.variants]
        starters += [(name, partial(start_peer, name, one, "tcp", make())) for name, one in peers.items()]
        with started(starters, outcome, settings) as running:
            take_turns([case], running, outcome, settings)
