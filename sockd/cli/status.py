"""`sockd status`: shows the endpoints and listeners once, or every second."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from sockd.cli import output
from sockd.cli.asking import RemoteDaemon, declared, endpoints
from sockd.control.language import Json

if TYPE_CHECKING:
    from sockd.cli.pages import Page

WATCH_INTERVAL = 1.0  # seconds
# Seconds that --watch waits for an answer before it shows that there is none.
_WATCH_TIMEOUT = 5.0
_SOMETHING_DOWN = 1  # the status of --exit-code

# console_codes(4), xterm's ctlseqs: another screen, without a cursor; back; from the top, and nothing below.
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"


@declared(
    "status",
    click.argument("names", metavar="[ENDPOINT]...", nargs=-1, shell_complete=endpoints),
    click.option("--json", "for_programs", is_flag=True, help="Print the daemon's answer as JSON."),
    click.option("--watch", "again", is_flag=True, help="Show it again every second, until Ctrl-C."),
    click.option(
        "--exit-code",
        "judged",
        is_flag=True,
        help="End with status 1 where an endpoint or a listener is down, suspended or draining.",
    ),
)
def status(
    daemon: RemoteDaemon, names: tuple[str, ...], *, for_programs: bool, again: bool, judged: bool
) -> None:
    if again and (for_programs or judged):
        other = "--json" if for_programs else "--exit-code"
        raise click.UsageError(f"{other} and --watch can't be used together")
    if again:
        _watch(daemon, names)
        return
    from sockd.cli import tables  # noqa: PLC0415

    found = _ask(daemon, names)
    if for_programs:
        output.show_json(found)
    else:
        show(tables.status(found, time.time()))
    if judged and tables.down(found):
        sys.exit(_SOMETHING_DOWN)


def _ask(daemon: RemoteDaemon, names: tuple[str, ...], timeout: float | None = None) -> Json:
    from sockd.cli import tables  # noqa: PLC0415

    found = daemon.ask("status", timeout)
    return tables.named(found, names) if names else found


def show(page: "Page") -> None:
    """Print a page: with colours and in its width on a terminal, in plain columns anywhere else."""
    from sockd.cli import pages  # noqa: PLC0415

    width = output.terminal_width()
    if width is None:
        output.put(pages.plain(page))
    else:
        output.put(pages.drawn(page, width, colours=pages.has_colours()))


def _watch(daemon: RemoteDaemon, names: tuple[str, ...]) -> None:
    from sockd.cli import pages, tables  # noqa: PLC0415

    def look() -> "Page":
        return tables.status(_ask(daemon, names, _WATCH_TIMEOUT), time.time())

    if output.terminal_width() is None:
        watch(look, lambda page: output.put(f"{pages.plain(page)}\n"), wait_for_the_next)
    else:
        with _screen():
            watch(look, _redraw, wait_for_the_next)


@contextmanager
def _screen() -> Iterator[None]:
    """A screen of its own for as long as something is watched, SIGTERM included."""
    old = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    output.put(_ENTER, end="")
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)
        output.put(_LEAVE, end="")


def _redraw(page: "Page") -> None:
    from sockd.cli import pages  # noqa: PLC0415

    width, height = shutil.get_terminal_size()
    lines = pages.fitted(page, width, height, colours=pages.has_colours()).split("\n")
    text = "".join(f"{line}{_CLEAR_LINE}\r\n" for line in lines[:-1])
    output.put(f"{_HOME}{text}{lines[-1]}{_CLEAR_LINE}{_CLEAR_BELOW}", end="")


def wait_for_the_next() -> None:
    time.sleep(WATCH_INTERVAL)


def watch(look: Callable[[], "Page"], put: Callable[["Page"], object], wait: Callable[[], None]) -> None:
    """Show what `look` returns, for ever; a line above the last page says that the daemon is unreachable."""
    from sockd.cli.pages import Page  # noqa: PLC0415
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
