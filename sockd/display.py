"""What the daemon answers, for people: a table on a terminal, plain columns anywhere else."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sockd.columns import aligned
from sockd.metrics import summary
from sockd.text import visible

if TYPE_CHECKING:
    from rich.console import RenderableType

# How a row looks on a terminal.
_STYLES = {
    "running": "green",
    "stopped": "dim",
    "starting": "yellow",
    "draining": "yellow",
    "backing off": "red",
}
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_KINDS = ("added", "removed", "re-bound", "re-tuned")


@dataclass(frozen=True)
class Page:
    """Lines, then a table: its head, its rows, and each row's style on a terminal (may be empty)."""

    lines: tuple[str, ...]
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    styles: tuple[str, ...]


def plain(page: Page) -> str:
    """Every value whole, a row a line, whatever the width."""
    table = aligned((page.head, *page.rows)) if page.rows else ""
    return "\n\n".join(part for part in ("\n".join(page.lines), table) if part)


def rich(page: Page) -> "RenderableType":
    """The same in the width and the colours of a terminal. Nothing in it is read as markup."""
    from rich.console import Group  # noqa: PLC0415 - where it is piped it isn't needed, and takes its time
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    lines = [Text(line) for line in page.lines]
    if not page.rows:
        return Group(*lines)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in page.head:
        table.add_column(name, overflow="fold", no_wrap=name in ("endpoint", "for", "id"))
    for row, style in zip(page.rows, page.styles, strict=True):
        table.add_row(*map(Text, row), style=style)
    return Group(*lines, Text(), table) if lines else table


# -- status ------------------------------------------------------------------------------------------------


def status(result: Mapping[str, Any], now: float) -> Page:
    """The tree; `now` is in seconds since the epoch."""
    lines = [
        f"sockd {result['version']}, pid {result['pid']}, up {age(result['uptime'])}, {result['state']}",
        f"file: {result['file']}",
    ]
    for what in ("reload", "upgrade"):
        last = result[what]
        if last is not None:
            done = "ok" if last["ok"] else "refused"
            message = f": {last['message']}" if last["message"] else ""
            lines.append(f"last {what}: {age_of(last['at'], now)} ago, {done}{message}")
    if result["leaving"]:
        lines.append(f"leaving: {count(result['leaving'], 'connection')} of what was removed")
    rows, styles = [], []
    for endpoint in result["endpoints"]:
        used = f"{endpoint['connections']} of {endpoint['limit']}"
        rows.append(_row(endpoint, endpoint["name"], f"({endpoint['protocol']})", used, "", "", now))
        styles.append(_style(endpoint, "bold"))
        for listener in endpoint["listeners"]:
            rows.append(_listener(listener, now))
            styles.append(_style(listener, ""))
    head = ("endpoint", "listener", "state", "for", "restarts", "connections", "in", "out", "notes")
    return Page(_visible(lines), head, tuple(map(_visible, rows)), tuple(styles))


def _listener(listener: Mapping[str, Any], now: float) -> tuple[str, ...]:
    came, went = listener["datagrams_in"], listener["datagrams_out"]
    used, received, sent = "", size(listener["bytes_in"]), size(listener["bytes_out"])
    if came or went or listener["address"].startswith(("udp:", "unixgram:")):
        received += f", {count(came, 'datagram')}"
        sent += f", {count(went, 'datagram')}"
    else:
        used = f"{listener['connections']}, {listener['accepted']} ever"
    return _row(listener, "", listener["address"], used, received, sent, now)


def _row(
    one: Mapping[str, Any], name: str, where: str, used: str, received: str, sent: str, now: float
) -> tuple[str, ...]:
    """What endpoints and listeners have in common, and what they haven't."""
    state = ", ".join((one["state"], *one["causes"]))
    notes = [one["why"]] if one["why"] else []
    if one["refused"]:
        notes.append(f"refused: {summary(Counter(one['refused']))}")
    since = age_of(one["since"], now)
    return (name, where, state, since, str(one["restarts"]), used, received, sent, "; ".join(notes))


def _style(one: Mapping[str, Any], usual: str) -> str:
    colour = _STYLES.get(one["state"], "")
    if one["state"] == "running" and one["causes"]:
        colour = "yellow"
    return f"{usual} {colour}".strip()


# -- connections -------------------------------------------------------------------------------------------


def connections(found: Iterable[Mapping[str, Any]], now: float) -> Page:
    """A row for each."""
    rows, styles = [], []
    for one in found:
        sizes = (size(one["bytes_in"]), size(one["bytes_out"]), size(one["owed"]))
        state = "draining" if one["draining"] else ""
        since = age_of(one["since"], now)
        rows.append((str(one["id"]), one["endpoint"], one["listener"], one["peer"], since, *sizes, state))
        styles.append("yellow" if state else "")
    head = ("id", "endpoint", "listener", "peer", "for", "in", "out", "owed", "state")
    return Page((), head, tuple(map(_visible, rows)), tuple(styles))


# -- changes -----------------------------------------------------------------------------------------------


def changes(found: Mapping[str, Any], nothing: str) -> str:
    """What a reload changes, a line for each thing; `nothing` is said where it changes nothing."""
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


# -- words -------------------------------------------------------------------------------------------------


def _visible(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(visible, texts))


def count(number: int, what: str) -> str:
    """`1 connection`, `2 connections`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def age(seconds: float) -> str:
    """A time in its two largest units: `12s`, `3m 20s`, `4d 3h`."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        whole, left = divmod(left, length)
        if whole or parts or unit == "s":
            parts.append(f"{whole}{unit}")
    return " ".join(parts[:2])


def age_of(at: str, now: float) -> str:
    """How long ago an RFC 3339 time was."""
    return age(now - datetime.fromisoformat(at).timestamp())


def size(number: int) -> str:
    """About how many bytes: `512B`, `1.2KiB`."""
    power = min(max(number.bit_length() - 1, 0) // 10, len(_UNITS) - 1)
    return f"{number / 1024**power:.1f}{_UNITS[power]}" if power else f"{number}B"
