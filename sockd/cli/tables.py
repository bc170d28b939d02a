"""Shows a daemon's answers to people: a table on a terminal, plain columns anywhere else."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sockd.base.metrics import lost_bytes, summary
from sockd.base.text import aligned, visible
from sockd.base.units import counted
from sockd.control.language import Json

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.table import Table

# How a state looks on a terminal.
_STYLES = {
    "running": "green",
    "stopped": "dim",
    "starting": "yellow",
    "draining": "yellow",
    "backing off": "red",
}
# Columns whose values aren't folded, however narrow the terminal is.
_UNFOLDED = ("id", "endpoint", "for", "in", "out", "unsent")
_UNFOLDED_ADDRESS = 24  # characters; an address up to this length isn't folded either
_NAMES_SHOWN = 3  # of a certificate
_DATAGRAM_SCHEMES = ("udp://", "unixgram://")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_KINDS = ("added", "removed", "rebound", "updated")


@dataclass(frozen=True)
class Page:
    """Lines, a table (its head, its rows, each row's style on a terminal), and notes on its rows."""

    lines: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    styles: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def plain(page: Page) -> str:
    """The page as text: each row is a line and each value whole, whatever the width."""
    parts = ("\n".join(page.lines), _rows(page) if page.rows else "", "\n".join(page.notes))
    return "\n\n".join(part for part in parts if part)


def _rows(page: Page) -> str:
    return aligned((page.head, *page.rows))


def rich(page: Page) -> "RenderableType":
    """The page for a terminal, in its width and with colours. Nothing in it is read as rich's markup."""
    from rich.console import Group  # noqa: PLC0415 - slow to load, and a pipe does without
    from rich.text import Text  # noqa: PLC0415

    parts: list[list[RenderableType]] = [
        [Text(line) for line in page.lines],
        [_Fitting(_least_width(page), _table(page), Text(_rows(page)))] if page.rows else [],
        [Text(note) for note in page.notes],
    ]
    shown: list[RenderableType] = []
    for part in parts:
        shown += [Text(), *part] if shown and part else part
    return Group(*shown)


@dataclass(frozen=True)
class _Fitting:
    """A table where there is room for its columns; otherwise its rows as folded text."""

    width: int
    table: "RenderableType"
    rows: "RenderableType"

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> Iterator["RenderableType"]:
        yield self.table if options.max_width >= self.width else self.rows


def _least_width(page: Page) -> int:
    """The width that the columns need: for those that are folded, of a word or a piece of an address."""
    widths = []
    for name, *cells in zip(page.head, *page.rows, strict=True):
        words = (
            cells
            if name in _UNFOLDED
            else (word[:_UNFOLDED_ADDRESS] for cell in cells for word in cell.split())
        )
        widths.append(max(map(len, (name, *words))))
    return sum(widths) + 2 * (len(widths) - 1)


def _table(page: Page) -> "Table":
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    where = page.head.index("listener")
    short = max(len(row[where]) for row in page.rows) <= _UNFOLDED_ADDRESS
    for name in page.head:
        table.add_column(name, overflow="fold", no_wrap=name in _UNFOLDED or (name == "listener" and short))
    before = ""
    for row, style in zip(page.rows, page.styles, strict=True):
        cells = [
            Text(cell, style if name == "state" else "") for name, cell in zip(page.head, row, strict=True)
        ]
        if row[0] == before:
            cells[0] = Text()  # the endpoint's name stands only in its first row
        before = row[0]
        table.add_row(*cells)
    return table


# -- status ------------------------------------------------------------------------------------------------


def status(result: Mapping[str, Json], now: float) -> Page:
    """The answer to `status`; `now` is in seconds since the epoch."""
    lines = [
        f"sockd {result['version']}, pid {result['pid']}, up {age(result['uptime'])}, {result['state']}",
        f"file: {result['file']}",
    ]
    for what in ("reload", "upgrade"):
        last = result[what]
        if last is not None:
            done = "ok" if last["ok"] else "refused"
            message = f": {last['message']}" if last["message"] else ""
            lines.append(f"last {what}: {age(now - _seconds(last['at']))} ago, {done}{message}")
    if result["leaving"]:
        lines.append(
            f"leaving: {counted(result['leaving'], 'connection')} of removed endpoints and listeners"
        )
    # An older daemon doesn't report it.
    if refused := result.get("control", {}).get("refused"):
        lines.append(f"control socket: refused: {summary(Counter(refused))}")
    rows, styles, notes = [], [], []
    for endpoint in result["endpoints"]:
        name = endpoint["name"]
        used = f"{endpoint['connections']} of {endpoint['limit']}"
        rows.append((name, f"({endpoint['protocol']})", *_life(endpoint, now), used, "", ""))
        for listener in endpoint["listeners"]:
            sizes = (size(listener["bytes_in"]), size(listener["bytes_out"]))
            rows.append((name, listener["address"], *_life(listener, now), _used(listener), *sizes))
        for one in (endpoint, *endpoint["listeners"]):
            styles.append(_style(one))
            notes += [f"{name} {one.get('address', '')}".rstrip() + f": {note}" for note in _notes(one)]
        # An older daemon doesn't report them.
        notes += [f"{name}: {_certificate(each)}" for each in endpoint.get("certificates", ())]
    head = ("endpoint", "listener", "state", "for", "connections", "in", "out")
    return Page(_visible(lines), head, tuple(map(_visible, rows)), tuple(styles), _visible(notes))


def _used(listener: Mapping[str, Json]) -> str:
    came, went = listener["datagrams_in"], listener["datagrams_out"]
    if came or went or any(kind in listener["address"] for kind in _DATAGRAM_SCHEMES):
        return f"{counted(came, 'datagram')}, {went} sent"
    return f"{listener['connections']}, {listener['accepted']} total"


def _life(one: Mapping[str, Json], now: float) -> tuple[str, str]:
    """The state with the causes that keep it from serving, and for how long it has been so."""
    return ", ".join((one["state"], *one["causes"])), age(now - _seconds(one["since"]), 1)


def _notes(one: Mapping[str, Json]) -> Iterator[str]:
    again = f" ({counted(one['restarts'], 'restart')})" if one["restarts"] else ""
    if one["why"] or again:
        yield f"{one['why'] or 'it has recovered'}{again}"
    if one.get("note"):
        yield one["note"]
    if one["refused"]:
        yield f"refused: {summary(Counter(one['refused']))}"
    if dropped := one.get("dropped"):  # an older daemon doesn't report it
        yield f"dropped: {lost_bytes(Counter(dropped))}"


def _certificate(one: Mapping[str, Json]) -> str:
    names = one["names"][:_NAMES_SHOWN]
    more = f" and {len(one['names']) - len(names)} more" if len(one["names"]) > len(names) else ""
    days = one["days_left"]
    valid = f"is valid for {counted(days, 'day')}" if days > 0 else "is valid for less than a day"
    return (
        f"the certificate for {', '.join(names) or 'no host'}{more} {valid if days >= 0 else 'has expired'}"
    )


def _style(one: Mapping[str, Json]) -> str:
    return "yellow" if one["state"] == "running" and one["causes"] else _STYLES.get(one["state"], "")


# -- connections -------------------------------------------------------------------------------------------


def connections(found: Iterable[Mapping[str, Json]], now: float) -> Page:
    """The answer to `connections`, a row for each; `now` is in seconds since the epoch."""
    rows, styles = [], []
    for one in found:
        # An older daemon doesn't have the name and the kind; nothing counts the bytes of one datagram member.
        stream = one.get("kind") != "datagram"
        sizes = [size(one[key]) if stream else "" for key in ("bytes_in", "bytes_out", "unsent")]
        state = "draining" if one["draining"] else "" if stream else "datagrams"
        since = age(now - _seconds(one["since"]), 1)
        names = ", ".join(one[key] for key in ("name", "identity") if one.get(key))
        peer = f"{one['peer']} ({names})" if names else one["peer"]
        rows.append((str(one["id"]), one["endpoint"], one["listener"], peer, since, *sizes, state))
        styles.append("yellow" if one["draining"] else "")
    head = ("id", "endpoint", "listener", "peer", "for", "in", "out", "unsent", "state")
    return Page((), head, tuple(map(_visible, rows)), tuple(styles))


# -- changes -----------------------------------------------------------------------------------------------


def changes(found: Mapping[str, Json], nothing: str) -> str:
    """What a reload changes, a line for each change; where it changes nothing, the line `nothing`."""
    rows = []
    for kind in _KINDS:
        for change in found[kind]:
            rows.append((kind, change["name"]))
            rows += [("", f"  {detail}") for detail in change["details"]]
    rows += [("daemon", detail) for detail in found["daemon"]]
    lines = [] if rows else [nothing]
    if found["unchanged"]:
        rows.append(("unchanged", ", ".join(found["unchanged"])))
    if rows:
        lines.append(aligned(map(_visible, rows)))
    return "\n".join(lines)


# -- texts -------------------------------------------------------------------------------------------------


def _visible(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(visible, texts))


def age(seconds: float, units: int = 2) -> str:
    """A time in its largest units: `12s`, `3m 20s`, `4d 3h`."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        whole, left = divmod(left, length)
        if whole or parts or unit == "s":
            parts.append(f"{whole}{unit}")
    return " ".join(parts[:units])


def _seconds(at: str) -> float:
    """An RFC 3339 time, in seconds since the epoch."""
    return datetime.fromisoformat(at).timestamp()


def size(number: int) -> str:
    """About how many bytes: `512B`, `1.2KiB`."""
    power = min(max(number.bit_length() - 1, 0) // 10, len(_UNITS) - 1)
    return f"{number / 1024**power:.1f}{_UNITS[power]}" if power else f"{number}B"
