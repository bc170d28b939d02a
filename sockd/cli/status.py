"""`sockd status`: the tree, once or again and again."""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from sockd.cli.asking import Daemon, as_json, asks

if TYPE_CHECKING:
    from sockd.cli.tables import Page

# Seconds between two looks, and how long an answer is waited for before the absence is told.
EVERY = 1.0
_PATIENCE = 5.0


@click.command()
@click.option("--json", "for_programs", is_flag=True, help="Print the daemon's answer as JSON.")
@click.option("--watch", "again", is_flag=True, help="Show it anew every second, until Ctrl-C.")
@asks
def status(daemon: Daemon, *, for_programs: bool, again: bool) -> None:
    """Show what is running, and how it is."""
    if for_programs and again:
        raise click.UsageError("--json and --watch exclude each other")
    if for_programs:
        click.echo(as_json(daemon.ask("status")))
    elif again:
        with suppress(KeyboardInterrupt):
            _watch(daemon)
    else:
        show(_look(daemon))


def show(page: "Page") -> None:
    """Print it as fits where it goes."""
    from sockd.cli import tables  # noqa: PLC0415

    if sys.stdout.isatty():
        from rich.console import Console  # noqa: PLC0415

        Console(highlight=False).print(tables.rich(page))
    else:
        click.echo(tables.plain(page))


def _look(daemon: Daemon, timeout: float | None = None) -> "Page":
    from sockd.cli import tables  # noqa: PLC0415

    return tables.status(daemon.ask("status", timeout), time.time())


def _watch(daemon: Daemon) -> None:
    from sockd.cli import tables  # noqa: PLC0415

    def look() -> "Page":
        return _look(daemon, _PATIENCE)

    if sys.stdout.isatty():
        from rich.live import Live  # noqa: PLC0415

        with Live(screen=True, auto_refresh=False) as live:
            watch(look, lambda page: live.update(tables.rich(page), refresh=True), _wait)
    else:
        watch(look, lambda page: click.echo(f"{tables.plain(page)}\n"), _wait)


def _wait() -> None:
    time.sleep(EVERY)


def watch(look: Callable[[], "Page"], put: Callable[["Page"], Any], wait: Callable[[], None]) -> None:
    """Show what is seen for ever; while the daemon isn't there, that, above what was seen last."""
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
