"""`sockd status`: shows the endpoints and listeners once, or every second."""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from sockd.cli.asking import RemoteDaemon, as_json, declared

if TYPE_CHECKING:
    from sockd.cli.tables import Page

WATCH_INTERVAL = 1.0  # seconds
# Seconds that --watch waits for an answer before it shows that there is none.
_WATCH_TIMEOUT = 5.0


@declared(
    "status",
    click.option("--json", "for_programs", is_flag=True, help="Print the daemon's answer as JSON."),
    click.option("--watch", "again", is_flag=True, help="Show it again every second, until Ctrl-C."),
)
def status(daemon: RemoteDaemon, *, for_programs: bool, again: bool) -> None:
    if for_programs and again:
        raise click.UsageError("--json and --watch can't be used together")
    if for_programs:
        click.echo(as_json(daemon.ask("status")))
    elif again:
        with suppress(KeyboardInterrupt):
            _watch(daemon)
    else:
        show(_look(daemon))


def show(page: "Page") -> None:
    """Print a page: with colours and in its width on a terminal, in plain columns anywhere else."""
    from sockd.cli import tables  # noqa: PLC0415

    if sys.stdout.isatty():
        from rich.console import Console  # noqa: PLC0415

        Console(highlight=False).print(tables.rich(page))
    else:
        click.echo(tables.plain(page))


def _look(daemon: RemoteDaemon, timeout: float | None = None) -> "Page":
    from sockd.cli import tables  # noqa: PLC0415

    return tables.status(daemon.ask("status", timeout), time.time())


def _watch(daemon: RemoteDaemon) -> None:
    from sockd.cli import tables  # noqa: PLC0415

    def look() -> "Page":
        return _look(daemon, _WATCH_TIMEOUT)

    if sys.stdout.isatty():
        from rich.live import Live  # noqa: PLC0415

        with Live(screen=True, auto_refresh=False) as live:
            watch(look, lambda page: live.update(tables.rich(page), refresh=True), _wait)
    else:
        watch(look, lambda page: click.echo(f"{tables.plain(page)}\n"), _wait)


def _wait() -> None:
    time.sleep(WATCH_INTERVAL)


def watch(look: Callable[[], "Page"], put: Callable[["Page"], object], wait: Callable[[], None]) -> None:
    """Show what `look` returns, for ever; a line above the last page says that the daemon is unreachable."""
    from sockd.cli.tables import Page  # noqa: PLC0415
    from sockd.control.language import Refused  # noqa: PLC0415

    seen = Page()
    while True:
        try:
            seen = look()
        except Refused as refused:
            if refused.status != os.EX_UNAVAILABLE:
                raise
            put(replace(seen, lines=(f"{refused}; trying again", *seen.lines)))
        else:
            put(seen)
        wait()
