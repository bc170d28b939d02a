"""The subcommands of `sockd` that ask a running daemon for something, one for each control command.

All of a subcommand but its output comes from its declaration (sockd/control/commands.py). One that needs
endpoints asks for each in turn; any other prints the answer as a function of `_ANSWERS` shows it, or as JSON.
Those of `_OWN` have options, or a form, of their own.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping

import click

from sockd.cli import output
from sockd.cli.asking import Function, RemoteDaemon, declared, endpoints, who_there_is
from sockd.cli.status import show, status
from sockd.control.commands import COMMANDS
from sockd.control.language import Json
from sockd.process import proc

_KICKED_SHOWN = 20  # ids; of more only the number is printed
# Connections that are listed at most: whoever answers, they are kept in memory until they are shown.
MOST_LISTED = 100_000
# Bytes that their values may take up; 100,000 usual ones have 60 MB.
MOST_KEPT = 128 * 1024 * 1024

_JSON = click.option("--json", "for_programs", is_flag=True, help="Print the daemon's answer as JSON.")


@declared("connections", _JSON)
def connections(daemon: RemoteDaemon, endpoint: str | None, *, for_programs: bool) -> None:
    from sockd.cli import tables  # noqa: PLC0415

    found, more = _all_connections(daemon, endpoint)
    if for_programs:
        output.show_json({"connections": found, "more": more})
        return
    if found:
        show(tables.connections(found, time.time()))
    if more:
        output.complain(f"there are more: only the first {len(found)} are listed")


@declared(
    "sources",
    click.option(
        "--by",
        type=click.Choice(["connections", "bytes", "refusals"]),
        default="connections",
        show_default=True,
        help="What they are ranked by; datagrams count as connections do.",
    ),
    click.option(
        "--most", metavar="NUMBER", type=click.IntRange(1, 1000), default=20, help="How many; 20 by default."
    ),
    _JSON,
)
def sources(daemon: RemoteDaemon, endpoint: str | None, by: str, most: int, *, for_programs: bool) -> None:
    from sockd.cli import tables  # noqa: PLC0415

    where: dict[str, Json] = {} if endpoint is None else {"endpoint": endpoint}
    result = daemon.ask("sources", by=by, most=most, **where)
    if for_programs:
        output.show_json(result)
    elif result["sources"]:
        show(tables.sources(result, time.time()))


def _all_connections(daemon: RemoteDaemon, endpoint: str | None) -> tuple[list[Json], bool]:
    """All connections, asked for in portions, none of which takes the daemon long; whether there are more."""
    from sockd.base.units import format_duration  # noqa: PLC0415
    from sockd.control.language import Refused  # noqa: PLC0415

    where: dict[str, Json] = {} if endpoint is None else {"endpoint": endpoint}
    seconds = daemon.timeout or COMMANDS["connections"].timeout
    deadline = time.monotonic() + seconds
    found: list[Json] = []
    last = kept = 0
    while len(found) < MOST_LISTED and kept < MOST_KEPT:
        left = deadline - time.monotonic()
        if left <= 0:
            raise Refused(
                os.EX_UNAVAILABLE, f"sockd did not list its connections within {format_duration(seconds)}"
            )
        result = daemon.ask("connections", within=left, **where)
        for one in result["connections"]:
            if one["id"] <= last:
                raise ValueError("the ids of connections don't ascend")
            last = one["id"]
            found.append(one)
            kept += _size_of(one)
        if not result["more"] or not result["connections"]:
            return found, False
        where["after"] = last
    return found, True


def _size_of(value: Json) -> int:
    """Bytes of memory that the value takes up, without the keys, which are few."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sys.getsizeof(value) + sum(map(_size_of, parts))


# -- what is printed for each endpoint


def _drained(result: Json) -> str:
    from sockd.base.units import counted  # noqa: PLC0415

    finished = counted(result["finished"], "connection")
    return f"drained: {finished} finished, {result['closed']} closed by sockd"


# How the result of a command is put in words that follow an endpoint's name; `done` unless it is here.
_OUTCOMES: Mapping[str, Callable[[Json], str]] = {
    "suspend": lambda _result: "suspended",
    "resume": lambda _result: "resumed",
    "restart": lambda _result: "restarted",
    "drain": _drained,
}


def _for_each_endpoint(name: str) -> Function:
    """Ask for one endpoint after the other, also after a refusal; the status is that of the first refusal."""
    outcome = _OUTCOMES.get(name, lambda _result: "done")

    def call(daemon: RemoteDaemon, endpoint: tuple[str, ...]) -> None:
        from sockd.control.language import Refused  # noqa: PLC0415

        status = 0
        for each in dict.fromkeys(endpoint):
            try:
                output.show(f"{each}: {outcome(daemon.ask(name, endpoint=each))}")
            except Refused as refused:
                if refused.status in (os.EX_UNAVAILABLE, os.EX_NOPERM, os.EX_PROTOCOL):
                    raise  # the daemon can't be asked for the others either
                output.complain(*refused.problems)
                status = status or refused.status
        sys.exit(status)

    return call


# -- what is printed of other answers


def _show_changes(result: Json, nothing: str) -> None:
    """What a reload changes; `nothing` says that it changes nothing."""
    from sockd.cli import tables  # noqa: PLC0415

    output.complain(*result["warnings"])
    rows = tables.changes(result["changes"])
    if not rows:
        output.show(nothing)
    if unchanged := result["changes"]["unchanged"]:
        rows.append(("unchanged", ", ".join(unchanged)))
    if rows:
        output.show_table(rows)


@declared("diff", _JSON)
def diff(daemon: RemoteDaemon, *, for_programs: bool) -> None:
    result = daemon.ask("diff")
    if for_programs:
        output.show_json(result)
    else:
        _show_changes(result, "nothing would change")


@declared(
    "reload",
    _JSON,
    click.option(
        "--pid",
        metavar="PID",
        type=click.IntRange(1),
        help="The daemon's process, for ExecReload= of a unit: it gets SIGHUP where it has no control "
        "socket that is found.",
    ),
)
def reload(daemon: RemoteDaemon, *, for_programs: bool, pid: int | None) -> None:
    from sockd.control.language import NotThereError  # noqa: PLC0415

    try:
        if pid is not None and daemon.ask("status")["pid"] != pid:
            _signal(pid, "another sockd has the control socket")
            return
        result = daemon.ask("reload")
    except NotThereError as error:
        if pid is None:
            raise
        _signal(pid, str(error))
        return
    if for_programs:
        output.show_json(result)
    else:
        _show_changes(result, "nothing changed")


def _signal(pid: int, why: str) -> None:
    """Have the process read its file again, whose log says what came of it."""
    from sockd.control.language import Refused  # noqa: PLC0415

    if _ends_by_hangup(pid):
        raise Refused(
            os.EX_UNAVAILABLE,
            f"{why}; process {pid} isn't sent SIGHUP, which would end it: it is no sockd that runs",
        )
    try:
        os.kill(pid, signal.SIGHUP)
    except OSError as error:
        raise Refused(
            os.EX_UNAVAILABLE, f"{why}; process {pid} can't be sent SIGHUP: {error.strerror}"
        ) from None
    output.show(f"{why}; sent SIGHUP to process {pid}, whose log says what was done")


def _ends_by_hangup(pid: int) -> bool:
    """Whether the process neither handles nor ignores SIGHUP; False where the kernel doesn't say."""
    try:
        found = proc.status(pid)
        spared = int(found["SigCgt"], 16) | int(found["SigIgn"], 16)
    except (OSError, LookupError, ValueError):
        return False
    return not spared & 1 << signal.SIGHUP - 1


@declared(
    "kick",
    click.argument("who", metavar="WHO...", nargs=-1, required=True, shell_complete=who_there_is),
    click.option(
        "--endpoint", metavar="ENDPOINT", shell_complete=endpoints, help="Only those of this endpoint."
    ),
)
def kick(daemon: RemoteDaemon, who: tuple[str, ...], endpoint: str | None) -> None:
    # Ids are asked for by themselves: an older daemon knows nothing else.
    ids = {each: int(each) for each in dict.fromkeys(who) if each.isdecimal() and each.isascii()}
    others = [each for each in dict.fromkeys(who) if each not in ids]
    asked: dict[str, Json] = {"connections": list(ids.values()), "who": others, "endpoint": endpoint}
    result = daemon.ask("kick", **{name: value for name, value in asked.items() if value})
    kicked, unknown = result["kicked"], result["unknown"]
    if len(kicked) > _KICKED_SHOWN:
        output.show(f"kicked: {len(kicked)} connections")
    elif kicked:
        output.show(f"kicked: {' '.join(map(str, kicked))}")
    for each in unknown:
        output.complain(
            f"there is no connection {each}" if isinstance(each, int) else f"nobody here is {each!r}"
        )
    if unknown:
        sys.exit(os.EX_USAGE)


def _upgraded(result: Json) -> None:
    from sockd.base.units import counted  # noqa: PLC0415

    kept = (
        f"{counted(result['listeners'], 'listener')} and {counted(result['connections'], 'connection')} kept"
    )
    output.show(
        f"upgraded to {result['version']} in {result['seconds']:.2f}s, "
        f"clients waited {result.get('pause', 0):.2f}s: {kept}, "
        f"{result['drained']} drained"
    )


# How the answer to a command is printed; as JSON unless it is here.
_ANSWERS: Mapping[str, Callable[[Json], None]] = {"upgrade": _upgraded}


def _once(name: str) -> Function:
    """Ask once, with all that the command line has."""
    answer = _ANSWERS.get(name, output.show_json)

    def call(daemon: RemoteDaemon, **arguments: object) -> None:
        given: dict[str, Json] = {
            key: list(dict.fromkeys(value)) if isinstance(value, tuple) else value
            for key, value in arguments.items()
            if value is not None
        }
        answer(daemon.ask(name, None, **given))

    return call


def subcommand(name: str) -> click.Command:
    """The subcommand for a control command, as far as its declaration and the tables above have it."""
    needs_endpoint = COMMANDS[name].endpoint is not None
    return declared(name)(_for_each_endpoint(name) if needs_endpoint else _once(name))


_OWN: Mapping[str, click.Command] = {
    "status": status,
    "connections": connections,
    "sources": sources,
    "diff": diff,
    "reload": reload,
    "kick": kick,
}
SUBCOMMANDS: Mapping[str, click.Command] = {name: _OWN.get(name) or subcommand(name) for name in COMMANDS}
