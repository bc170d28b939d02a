"""Writes the results into docs/performance.md, between its markers, and the plots next to it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.bars import BARS, KILOBYTE, MEGABYTE, SOCKD, Bar, judge
from benchmarks.measures import Servers, ratio
from benchmarks.plots import plot
from benchmarks.programs import HERE

PAGE = HERE.parent / "docs/performance.md"
BEGIN, END = "<!-- results: made by make bench -->", "<!-- end of the results -->"
TITLES = {
    "tcp": "Echo over TCP",
    "unix": "Echo over Unix sockets",
    "udp": "Echo over UDP",
    "tls": "Echo over TLS",
    "line-log": "Lines into a file",
    "chat": "Chat",
    "connections": "Ten thousand connections",
    "accepts": "Connections that come and go",
    "start": "Start",
}
HEAD = (
    "case",
    "server",
    "CPU, µs",
    "spread",
    "sockd to it",
    "user",
    "system",
    "units/s",
    "p50, µs",
    "p99",
    "p99.9",
)


def write(results: Mapping[str, Any], page: Path = PAGE) -> None:
    """The page's own words stay; a page without the markers is an error."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page.name} has no markers")
    page.write_text(f"{before}{BEGIN}\n\n{text(results)}\n{END}{after}")
    folder = page.with_suffix("")
    folder.mkdir(exist_ok=True)
    for work in (one for one in TITLES if one in results):
        (folder / f"{work}.svg").write_text(plot(work, results[work]["cases"]))


def text(results: Mapping[str, Any]) -> str:
    works = [one for one in TITLES if one in results]
    return "\n".join([*_bars(results), *(line for one in works for line in _work(one, results[one]))])


def _bars(results: Mapping[str, Any]) -> Iterator[str]:
    yield "### The bars\n"
    yield "| work | case | bar | reached | |"
    yield "| --- | --- | --- | --- | --- |"
    for bar in BARS:
        verdict = judge(bar, results)
        reached, met = ("not measured", "") if verdict is None else (verdict.reached, _met(verdict.met))
        yield f"| {bar.work} | {bar.case} | {_measured(bar)} {bar.text} | {reached} | {met} |"
    yield ""


def _met(met: bool) -> str:
    return "met" if met else "**not met**"


def _measured(bar: Bar) -> str:
    names = {
        "cpu": "CPU",
        "rate": "throughput",
        "among": "CPU to that without the idle ones",
        "bytes": "memory of each",
        "resident": "memory",
        "seconds": "time",
        "lost": "lines",
    }
    return names[bar.measure]


def _work(name: str, work: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {TITLES[name]}\n"
    rounds = f"median of {work['rounds']} rounds" if work["rounds"] > 1 else "one round"
    yield f"{work['date']}, {rounds}. {work['machine']}.\n"
    yield f"![{TITLES[name]}: CPU for each unit](performance/{name}.svg)\n"
    yield _row(HEAD)
    yield _row(["---"] * 2 + ["---:"] * (len(HEAD) - 2))
    for case, found in work["cases"].items():
        servers: Servers = found["servers"]
        for number, server in enumerate(servers):
            yield _row([case if not number else "", *_cells(servers, server)])
    yield ""
    for line in _others(work["cases"]):
        yield f"- {line}"
    for note in work["notes"]:
        yield f"- {note}"
    yield ""


def _cells(servers: Servers, server: str) -> Iterator[str]:
    measures = servers[server]
    yield server
    cpu = measures.get("cpu")
    yield _number(cpu["median"]) if cpu else ""
    yield f"{_number(cpu['low'])} to {_number(cpu['high'])}" if cpu else ""
    times = ratio(servers, SOCKD, server, "cpu")
    yield f"{times:.2f}" if times is not None and server != SOCKD else ""
    for name in ("user", "system", "rate", "p50", "p99", "p999"):
        yield _number(measures[name]["median"]) if name in measures else ""


def _others(cases: Mapping[str, Any]) -> Iterator[str]:
    """What not every work has, a line for each case and measure."""
    forms = {
        "lost": ("lost", lambda value: f"{value:,.0f}"),
        "bytes": ("memory of each idle connection", lambda value: f"{value / KILOBYTE:.2f} KB"),
        "among": ("CPU to that without the idle ones", lambda value: f"{value:.2f}"),
        "resident": ("memory", lambda value: f"{value / MEGABYTE:.1f} MB"),
        "seconds": ("time", lambda value: f"{value * 1000:.0f} ms"),
    }
    for case, found in cases.items():
        for measure, (name, form) in forms.items():
            values = {server: one[measure] for server, one in found["servers"].items() if measure in one}
            if not values or (measure == "lost" and not any(one["high"] for one in values.values())):
                continue
            said = ", ".join(f"{server} {form(one['median'])}" for server, one in values.items())
            yield f"{case}: {name}: {said}"


def _row(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
