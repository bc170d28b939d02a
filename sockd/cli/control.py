"""The subcommands of `sockd` that ask a running daemon for something, one for each control command.

All of a subcommand but its output comes from its declaration (sockd/control/commands.py). One that needs
endpoints asks for each in turn; any other prints the answer as a function of `_ANSWERS` shows it, or as JSON.
`status` and `connections` have options of their own.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping

import click

from sockd.cli.asking import Function, RemoteDaemon, as_json, declared
from sockd.cli.status import show, status
from sockd.control.commands import COMMANDS
from sockd.control.language import Json


@declared("connections", click.option("--json", "for_programs", is_flag=True, help="Print them as JSON."))
def connections(daemon: RemoteDaemon, endpoint: str | None, *, for_programs: bool) -> None:
    from sockd.cli import tables  # noqa: PLC0415

    found = _all_connections(daemon, endpoint)
    if for_programs:
        click.echo(as_json({"connections": found}))
    elif found:
        show(tables.connections(found, time.time()))


def _all_connections(daemon: RemoteDaemon, endpoint: str | None) -> list[Json]:
    """All connections, asked for in portions, none of which takes the daemon long."""
    where: dict[str, Json] = {} if endpoint is None else {"endpoint": endpoint}
    found: list[Json] = []
    more = True
    while more:
        result = daemon.ask("connections", **where)
        found += result["connections"]
        where["after"] = found[-1]["id"] if found else 0
        more = result["more"] and bool(result["connections"])
    return found


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
        from sockd.base.text import visible  # noqa: PLC0415
        from sockd.control.language import Refused  # noqa: PLC0415

        status = 0
        for each in dict.fromkeys(endpoint):
            try:
                click.echo(f"{visible(each)}: {outcome(daemon.ask(name, endpoint=each))}")
            except Refused as refused:
                if refused.status in (os.EX_UNAVAILABLE, os.EX_NOPERM, os.EX_PROTOCOL):
                    raise  # the daemon can't be asked for the others either
                click.echo(str(refused), err=True)
                status = status or refused.status
        sys.exit(status)

    return call


# -- what is printed of other answers


def _changed(nothing: str) -> Callable[[Json], None]:
    """Prints what a reload changes; `nothing` says that it changes nothing."""

    def answer(result: Json) -> None:
        from sockd.base.text import visible  # noqa: PLC0415
        from sockd.cli import tables  # noqa: PLC0415

        for warning in result["warnings"]:
            click.echo(visible(warning), err=True)
        click.echo(tables.changes(result["changes"], nothing))

    return answer


def _kicked(result: Json) -> None:
    if result["kicked"]:
        click.echo(f"kicked: {' '.join(map(str, result['kicked']))}")
    for unknown in result["unknown"]:
        click.echo(f"there is no connection {unknown}", err=True)
    if result["unknown"]:
        sys.exit(os.EX_USAGE)


def _upgraded(result: Json) -> None:
    from sockd.base.text import visible  # noqa: PLC0415
    from sockd.base.units import counted  # noqa: PLC0415

    kept = (
        f"{counted(result['listeners'], 'listener')} and {counted(result['connections'], 'connection')} kept"
    )
    click.echo(
        f"upgraded to {visible(str(result['version']))} in {result['seconds']:.2f}s, "
        f"clients waited {result.get('pause', 0):.2f}s: {kept}, "
        f"{result['drained']} drained"
    )


def _as_json(result: Json) -> None:
    click.echo(as_json(result))


# How the answer to a command is printed; as JSON unless it is here.
_ANSWERS: Mapping[str, Callable[[Json], None]] = {
    "diff": _changed("nothing would change"),
    "reload": _changed("nothing changed"),
    "kick": _kicked,
    "upgrade": _upgraded,
}


def _once(name: str) -> Function:
    """Ask once, with all that the command line has."""
    answer = _ANSWERS.get(name, _as_json)

    def call(daemon: RemoteDaemon, **arguments: object) -> None:
        given = {
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


_OWN: Mapping[str, click.Command] = {"status": status, "connections": connections}
SUBCOMMANDS: Mapping[str, click.Command] = {name: _OWN.get(name) or subcommand(name) for name in COMMANDS}
