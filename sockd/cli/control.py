"""The commands that change a running daemon, and those that look closer at it."""

import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import click

from sockd.cli import asking
from sockd.cli.asking import Daemon, as_json, asks
from sockd.cli.status import show


class _Id(click.IntRange):
    """Of a connection; a name for messages."""

    name = "id"


_names = click.argument(
    "endpoints", metavar="ENDPOINT...", nargs=-1, required=True, shell_complete=asking.endpoints
)


@click.command()
@asks
def diff(daemon: Daemon) -> None:
    """Show what a reload would change."""
    _changes(daemon.ask("diff"), "nothing would change")


@click.command(short_help="Read the file anew; show what changed.")
@asks
def reload(daemon: Daemon) -> None:
    """Have the file read anew, and show what changed; a file that is refused changes nothing."""
    _changes(daemon.ask("reload"), "nothing changed")


def _changes(result: Any, nothing: str) -> None:
    from sockd.base.text import visible  # noqa: PLC0415
    from sockd.cli import tables  # noqa: PLC0415

    for warning in result["warnings"]:
        click.echo(visible(warning), err=True)
    click.echo(tables.changes(result["changes"], nothing))


@click.command()
@_names
@asks
def suspend(daemon: Daemon, endpoints: tuple[str, ...]) -> None:
    """Accept nothing new; connections live on."""
    _each(endpoints, lambda name: daemon.ask("suspend", endpoint=name), lambda _: "suspended")


@click.command()
@_names
@asks
def resume(daemon: Daemon, endpoints: tuple[str, ...]) -> None:
    """Accept again after `suspend` or `drain`."""
    _each(endpoints, lambda name: daemon.ask("resume", endpoint=name), lambda _: "resumed")


@click.command(short_help="Drain, then start the protocol anew.")
@_names
@asks
def restart(daemon: Daemon, endpoints: tuple[str, ...]) -> None:
    """Let the connections finish for `daemon.drain`, cut those that haven't, and start the protocol anew.

    What was suspended or drained accepts again.
    """
    _each(endpoints, lambda name: daemon.ask("restart", endpoint=name), lambda _: "restarted")


@click.command(short_help="Accept nothing new; let connections finish.")
@_names
@asks
def drain(daemon: Daemon, endpoints: tuple[str, ...]) -> None:
    """Accept nothing new, let the connections finish for `daemon.drain`, and cut those that haven't.

    `resume` has it accept again.
    """
    from sockd.base.units import counted  # noqa: PLC0415

    _each(
        endpoints,
        lambda name: daemon.ask("drain", endpoint=name),
        lambda result: f"drained: {counted(result['finished'], 'connection')} finished, {result['cut']} cut",
    )


def _each(names: Iterable[str], ask: Callable[[str], Any], told: Callable[[Any], str]) -> None:
    """One after the other; what is refused doesn't keep the rest from it, but gives the status."""
    from sockd.base.text import visible  # noqa: PLC0415
    from sockd.control.language import Refused  # noqa: PLC0415

    status = 0
    for name in dict.fromkeys(names):
        try:
            click.echo(f"{visible(name)}: {told(ask(name))}")
        except Refused as refused:
            if refused.status in (os.EX_UNAVAILABLE, os.EX_NOPERM, os.EX_PROTOCOL):
                raise  # there is no use in asking for the others
            click.echo(str(refused), err=True)
            status = status or refused.status
    sys.exit(status)


@click.command()
@click.argument("endpoint", metavar="[ENDPOINT]", required=False, shell_complete=asking.endpoints)
@click.option("--json", "for_programs", is_flag=True, help="Print them as JSON.")
@asks
def connections(daemon: Daemon, endpoint: str | None, *, for_programs: bool) -> None:
    """List the stream connections, of one endpoint or of all."""
    from sockd.cli import tables  # noqa: PLC0415

    found = _all_connections(daemon, endpoint)
    if for_programs:
        click.echo(as_json({"connections": found}))
    elif found:
        show(tables.connections(found, time.time()))


def _all_connections(daemon: Daemon, endpoint: str | None) -> list[Any]:
    """Asked for in portions: none of them keeps the daemon from its work for long."""
    where: dict[str, Any] = {} if endpoint is None else {"endpoint": endpoint}
    found: list[Any] = []
    more = True
    while more:
        result = daemon.ask("connections", **where)
        found += result["connections"]
        where["after"] = found[-1]["id"] if found else 0
        more = result["more"] and bool(result["connections"])
    return found


@click.command()
@click.argument(
    "ids", metavar="ID...", nargs=-1, required=True, type=_Id(0), shell_complete=asking.connections
)
@asks
def kick(daemon: Daemon, ids: tuple[int, ...]) -> None:
    """Cut connections, by the ids that `sockd connections` shows."""
    result = daemon.ask("kick", connections=list(dict.fromkeys(ids)))
    if result["kicked"]:
        click.echo(f"kicked: {' '.join(map(str, result['kicked']))}")
    for unknown in result["unknown"]:
        click.echo(f"there is no connection {unknown}", err=True)
    if result["unknown"]:
        sys.exit(os.EX_USAGE)


@click.command(short_help="Go over to the program that is installed now.")
@asks
def upgrade(daemon: Daemon) -> None:
    """Reload the file, then replace the running program by the one that is installed now.

    Connections live on where their protocol can be handed over; the others drain first. Where the new
    program can't take over, nothing changes.
    """
    from sockd.base.text import visible  # noqa: PLC0415
    from sockd.base.units import counted  # noqa: PLC0415

    result = daemon.ask("upgrade")
    kept = (
        f"{counted(result['listeners'], 'listener')} and {counted(result['connections'], 'connection')} kept"
    )
    click.echo(
        f"upgraded to {visible(str(result['version']))} in {result['seconds']:.2f}s, "
        f"clients waited {result.get('pause', 0):.2f}s: {kept}, "
        f"{result['drained']} drained"
    )


COMMANDS = (diff, reload, suspend, resume, restart, drain, connections, kick, upgrade)
