"""What sockd is to reach, as ratios of medians of one run, and whether it does."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.measures import Servers, median

SOCKD = "sockd"
KILOBYTE, MEGABYTE = 1000.0, 1_000_000.0
NOISE = 1.05  # what two measurements of the same thing may differ by
RSYSLOG = ("rsyslog imptcp", "rsyslog imtcp", "rsyslog imudp", "rsyslog imuxsock")


@dataclass(frozen=True)
class Bar:
    """At most `bound` times the best of these peers, `plus` so much more; without peers, at most `bound`."""

    work: str
    case: str
    measure: str
    bound: float
    peers: tuple[str, ...] = ()
    plus: float = 0.0
    at_least: bool = False

    @property
    def text(self) -> str:
        than = "at least" if self.at_least else "at most"
        if not self.peers:
            return f"{than} {_plain(self.measure, self.bound)}"
        more = f" + {self.plus / KILOBYTE:g} KB" if self.plus else ""
        return f"{than} {self.bound:g} of {self.peers[0].split()[0]}{more}"


@dataclass(frozen=True)
class Verdict:
    bar: Bar
    reached: str
    met: bool


def _same_for_streams(work: str) -> list[Bar]:
    return [
        Bar(work, f"{size}, {count}", "cpu", bound, (peer,))
        for size in ("100 B", "16 KiB")
        for count in ("1 connection", "100 connections", "1,000 connections")
        for peer, bound in (("uvloop", 1.05), ("C", 1.2), ("asyncio", 1.0), ("Go", 1.0))
    ]


BARS = [
    *_same_for_streams("tcp"),
    Bar("tcp", "1 MB, 10 connections", "rate", 1.0, ("uvloop",), at_least=True),
    *_same_for_streams("unix"),
    *(
        Bar("udp", case, "cpu", bound, (peer,))
        for case in ("100 B", "1,400 B")
        for peer, bound in (("Go", 1.0), ("C", 1.3))
    ),
    *(
        Bar("tls", case, "cpu", 0.75, ("asyncio",))
        for case in ("100 B, 100 connections", "16 KiB, 100 connections", "handshakes")
    ),
    *(
        bar
        for case in ("TCP, 1 sender", "TCP, 10 senders", "TCP, 1,000 senders")
        for bar in (
            Bar("line-log", case, "cpu", 0.4, RSYSLOG),
            Bar("line-log", case, "lost", 0.0),
        )
    ),
    *(
        Bar("line-log", case, "cpu", 1.0, RSYSLOG)
        for case in ("TCP, 10 senders, JSON", "UDP", "Unix datagrams")
    ),
    *(
        Bar("chat", f"{members} members, {manner}", "cpu", 1.0, ("ngircd",))
        for members in ("200", "2,000")
        for manner in ("lock-step", "burst")
    ),
    Bar("connections", "100 of 10,000 connections", "bytes", 1.0, ("uvloop",), plus=KILOBYTE),
    Bar("connections", "100 of 10,000 connections", "among", NOISE),
    Bar("accepts", "connect, echo, close", "cpu", 1.0, ("asyncio",)),
    Bar("start", "start to READY", "seconds", 0.4),
    Bar("start", "start to READY", "resident", 52 * MEGABYTE),
    Bar("start", "sockd check", "seconds", 0.25),
]


def judge(bar: Bar, results: Mapping[str, Any]) -> Verdict | None:
    """None where sockd, or all of the peers, were not measured."""
    servers: Servers = results.get(bar.work, {}).get("cases", {}).get(bar.case, {}).get("servers", {})
    ours = median(servers, SOCKD, bar.measure)
    if ours is None:
        return None
    if not bar.peers:
        met = ours >= bar.bound if bar.at_least else ours <= bar.bound
        return Verdict(bar, _plain(bar.measure, ours), met)
    theirs = [one for peer in bar.peers if (one := median(servers, peer, bar.measure)) is not None]
    if not theirs:
        return None
    best = max(theirs) if bar.at_least else min(theirs)
    limit = bar.bound * best + bar.plus
    reached = (
        f"{_plain(bar.measure, ours)} to {_plain(bar.measure, best)}" if bar.plus else f"{ours / best:.2f}"
    )
    return Verdict(bar, reached, ours >= limit if bar.at_least else ours <= limit)


def _plain(measure: str, value: float) -> str:
    match measure:
        case "resident":
            return f"{value / MEGABYTE:.1f} MB"
        case "bytes":
            return f"{value / KILOBYTE:.2f} KB"
        case "seconds":
            return f"{value:.2f} s"
        case "lost":
            return f"{value:.0f} lost"
        case _:
            return f"{value:.2f}"
