"""Makes pages for people of a daemon's answers."""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime

from sockd.base.metrics import lost_bytes, summary
from sockd.base.spelling import offer
from sockd.base.units import counted
from sockd.cli.pages import Page
from sockd.control.language import Json, Refused

# How a state looks on a terminal.
_STYLES = {
    "running": "green",
    "stopped": "dim",
    "starting": "yellow",
    "draining": "yellow",
    "not responding": "red",
    "backing off": "red",
    "disabled": "dim",
}
# Causes for which an endpoint that runs serves nobody new.
_DOWN = {"held", "suspended", "draining"}
_NAMES_SHOWN = 3  # of a certificate
_DATAGRAM_SCHEMES = ("udp://", "unixgram://")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_KINDS = ("added", "removed", "rebound", "updated")


# -- status ------------------------------------------------------------------------------------------------


def named(result: Mapping[str, Json], names: Collection[str]) -> dict[str, Json]:
    """The answer to `status` with those endpoints alone; Refused where one of them isn't there."""
    # An older daemon doesn't report those that are disabled.
    kinds = {kind: result.get(kind, ()) for kind in ("endpoints", "disabled")}
    known = [one["name"] for found in kinds.values() for one in found]
    missing = [
        f"there is no endpoint {name[:100]!r}{offer(name, known)}" for name in names if name not in known
    ]
    if missing:
        raise Refused(os.EX_USAGE, *missing)
    chosen = {kind: [one for one in found if one["name"] in names] for kind, found in kinds.items()}
    return {**result, **chosen}


def down(result: Mapping[str, Json]) -> bool:
    """Whether one of the endpoints, or one of their listeners, serves nobody new; one at its limit serves."""
    return any(_is_down(one) for one in _all(result["endpoints"]))


def _all(endpoints: Iterable[Mapping[str, Json]]) -> Iterator[Mapping[str, Json]]:
    """The endpoints and their listeners."""
    for endpoint in endpoints:
        yield endpoint
        yield from endpoint["listeners"]


def _is_down(one: Mapping[str, Json]) -> bool:
    return one["state"] != "running" or not _DOWN.isdisjoint(one["causes"])


def _rank(endpoint: Mapping[str, Json]) -> int:
    """What comes first: what doesn't run, what serves nobody new, what runs with a cause, what is well."""
    parts = list(_all([endpoint]))
    if any(one["state"] != "running" for one in parts):
        return 0
    return 1 if any(map(_is_down, parts)) else 2 if any(one["causes"] for one in parts) else 3


def _protocol(endpoint: Mapping[str, Json]) -> str:
    """In the place of an address; an older daemon doesn't report what is hosted."""
    return f"({' '.join([endpoint['protocol'], *endpoint.get('hosted', ())])})"


def status(result: Mapping[str, Json], now: float) -> Page:
    """The answer to `status`, what is down first; `now` is in seconds since the epoch."""
    rows, styles, notes = [], [], []
    for endpoint in sorted(result["endpoints"], key=_rank):
        name = endpoint["name"]
        used = f"{endpoint['connections']} of {endpoint['limit']}"
        rows.append((name, _protocol(endpoint), *_life(endpoint, now), used, "", ""))
        for listener in endpoint["listeners"]:
            sizes = (size(listener["bytes_in"]), size(listener["bytes_out"]))
            rows.append((name, listener["address"], *_life(listener, now), _used(listener), *sizes))
        for one in (endpoint, *endpoint["listeners"]):
            styles.append(_style(one))
            notes += [f"{name} {one.get('address', '')}".rstrip() + f": {note}" for note in _notes(one)]
        # An older daemon doesn't report them.
        notes += [f"{name}: {_certificate(each)}" for each in endpoint.get("certificates", ())]
    for one in result.get("disabled", ()):
        rows.append((one["name"], _protocol(one), "disabled", "", "", "", ""))
        styles.append(_STYLES["disabled"])
    head = ("endpoint", "listener", "state", "for", "connections", "in", "out")
    return Page(tuple(_summary(result, now)), head, tuple(rows), tuple(styles), tuple(notes))


def _summary(result: Mapping[str, Json], now: float) -> Iterator[str]:
    """The lines about the daemon as a whole."""
    yield f"sockd {result['version']}, pid {result['pid']}, up {age(result['uptime'])}, {result['state']}"
    yield f"file: {result['file']}"
    for what in ("reload", "upgrade"):
        last = result[what]
        if last is not None:
            done = "ok" if last["ok"] else "refused"
            message = f": {last['message']}" if last["message"] else ""
            yield f"last {what}: {age(now - _seconds(last['at']))} ago, {done}{message}"
    if result["leaving"]:
        yield f"leaving: {counted(result['leaving'], 'connection')} of removed endpoints and listeners"
    # An older daemon reports neither.
    if hold := result.get("longest_hold"):
        whose = f" by {hold['endpoint']}" if hold["endpoint"] else ""
        ago = age(now - _seconds(hold["at"]))
        yield f"loop held: {hold['seconds']:.2f}s at the longest{whose}, {ago} ago, in {hold['call']}"
    if refused := result.get("control", {}).get("refused"):
        yield f"control socket: refused: {summary(Counter(refused))}"


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
        # An older daemon doesn't report what it has recovered from.
        cause = one.get("recovered_from")
        yield f"{one['why'] or (f'it has recovered from: {cause}' if cause else 'it has recovered')}{again}"
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
    return Page((), head, tuple(rows), tuple(styles))


# -- sources -----------------------------------------------------------------------------------------------


def sources(result: Mapping[str, Json], now: float) -> Page:
    """The answer to `sources`, a row for each; `now` is in seconds since the epoch."""
    rows = []
    for one in result["sources"]:
        came = ", ".join(
            part
            for part in (
                f"{one['connections']}" + (f", {one['open']} open" if one["open"] else ""),
                counted(one["datagrams"], "datagram") if one["datagrams"] else "",
            )
            if part and part != "0"
        )
        refused = summary(Counter(one["refused"]))
        sizes = (size(one["bytes_in"]), size(one["bytes_out"]))
        last = age(now - _seconds(one["last"]), 1)
        rows.append((one["endpoint"], one["source"], came, *sizes, refused, last))
    head = ("endpoint", "source", "connections", "in", "out", "refused", "last")
    notes = []
    if len(rows) < result["known"]:
        notes.append(f"{len(rows)} of {counted(result['known'], 'source')} that are known; --most shows more")
    if result["forgotten"]:
        notes.append(
            f"{counted(result['forgotten'], 'source')} that came less were forgotten: what is counted is "
            "the least that came"
        )
    return Page((), head, tuple(rows), ("",) * len(rows), tuple(notes))


# -- changes -----------------------------------------------------------------------------------------------


def changes(found: Mapping[str, Json]) -> list[tuple[str, str]]:
    """What a reload changes, a row for each change and each of its details."""
    rows = []
    for kind in _KINDS:
        for change in found[kind]:
            rows.append((kind, change["name"]))
            rows += [("", f"  {detail}") for detail in change["details"]]
    return rows + [("daemon", detail) for detail in found["daemon"]]


# -- texts -------------------------------------------------------------------------------------------------


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
