"""A room full of members: CPU for each line that one of them gets."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.measures import Sample
from benchmarks.programs import Load, Server, built, free_port, installed, measured
from benchmarks.sockds import Variant, endpoint, listen
from benchmarks.work import Case, Outcome, Settings, directories, started, take_turns

BURST = 20  # members that speak at the same time
# More members than the usual thousand, which come and speak faster than people type.
OPTIONS, LIMITS = "members: 20000, rate: 1000000/s", "connections: 20000"
NGIRCD = """[Global]
Name = bench.example
Info = bench
Listen = 127.0.0.1
Ports = {port}
MotdPhrase = hello
[Limits]
MaxConnections = 0
MaxConnectionsIP = 0
MaxJoins = 0
MaxPenaltyTime = 0
[Options]
DNS = no
Ident = no
PAM = no
[Channel]
Name = #bench
MaxUsers = 0
"""


@dataclass(frozen=True)
class Room:
    """A chat that runs, and the members that have joined it."""

    server: Server
    load: Load

    @property
    def name(self) -> str:
        return self.server.name


def start_sockd(variant: Variant, directory: Path, port: str) -> Server:
    return variant.start(directory, endpoint("chat", listen(f"tcp:{port}"), OPTIONS, LIMITS))


def start_ngircd(directory: Path, port: str) -> Server:
    program, file = installed("ngircd"), directory / "ngircd.conf"
    file.write_text(NGIRCD.format(port=port))
    return Server("ngircd", [program, "-n", "-f", str(file)], directory)


def start_ncat(directory: Path, port: str) -> Server:
    command = [installed("ncat"), "-l", "--chat", "-m", "900", "127.0.0.1", port]
    return Server("ncat --chat", command, directory)


def fill(start: Callable[[Path, str], Server], dialect: str, members: int, directory: Path) -> Room:
    """A server, and so many members that all are in before it is measured."""
    port = str(free_port())
    server = start(directory, port)
    try:
        server.wait_for(f"tcp:{port}")
        return Room(server, Load(built("load/chat.c"), f"tcp:{port}", dialect, members))
    except BaseException:
        server.end()
        raise


def talk(speakers: int, seconds: float) -> Callable[[Room], Sample]:
    return lambda one: measured(one.server, one.load, f"{speakers} {seconds}")


def run(settings: Settings, outcome: Outcome) -> None:
    rooms: list[tuple[str, str, Callable[[Path, str], Server]]] = [
        (one.name, "plain", partial(start_sockd, one)) for one in settings.variants
    ]
    rooms += [("ngircd", "irc", start_ngircd), ("ncat --chat", "ncat", start_ncat)]
    for members in (200,) if settings.quick else (200, 2000):
        cases = [
            Case(f"{members:,} members, {manner}", "delivery", talk(speakers, settings.seconds))
            for manner, speakers in (("lock-step", 1), ("burst", BURST))
        ]
        if members > 1000:
            rooms = [one for one in rooms if one[1] != "ncat"]  # whose select(2) ends at 1,024
        with directories("chat") as make:
            starters = [
                (name, partial(fill, start, dialect, members, make())) for name, dialect, start in rooms
            ]
            with started(starters, outcome, settings) as running:
                take_turns(cases, running, outcome, settings)
                for one in running:
                    one.load.end()
