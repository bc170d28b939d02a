"""The `sockd` command. What a subcommand needs is imported when it is called: each starts quickly then."""

import io
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sockd import __version__
from sockd.cli.control import SUBCOMMANDS
from sockd.config.source import DEFAULT_FILE
from sockd.process.switches import disable_collection

if TYPE_CHECKING:
    from sockd.protocols.contract import Specification

file_option = click.option(
    "-c",
    "--config",
    "file",
    metavar="FILE",
    envvar="SOCKD_CONFIG",
    default=DEFAULT_FILE,
    show_default=True,
    show_envvar=True,
    type=click.Path(path_type=Path),
    help="The configuration file.",
)


@click.group(commands=dict(SUBCOMMANDS), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sockd", message="%(prog)s %(version)s")
def command() -> None:
    """Serve many network endpoints from one YAML file."""


@command.command()
@file_option
def run(file: Path) -> None:
    """Run in the foreground until SIGTERM or SIGINT."""
    disable_collection()  # of what is imported, which stays to the end
    from sockd.cli import twistd  # noqa: PLC0415

    twistd.run(file)


@command.command(short_help="Show what a file would run, or what is wrong.")
@file_option
@click.option(
    "--yaml",
    "as_yaml",
    is_flag=True,
    help="Print a file that gives the same plan, with nothing inherited or included.",
)
def check(file: Path, *, as_yaml: bool) -> None:
    """Show what the file would run, or everything that is wrong with it."""
    disable_collection()  # its memory is bounded by the file's, and goes with the process
    from sockd.base import descriptors  # noqa: PLC0415
    from sockd.plan import budget, build, show  # noqa: PLC0415
    from sockd.process.directories import directories as directories_of  # noqa: PLC0415

    directories = directories_of(os.environ, os.getuid())
    read = budget.compared(build.read(file, directories), descriptors.limit())
    for warning in read.warnings:
        click.echo(str(warning), err=True)
    if as_yaml:
        click.echo(show.render(read), nl=False)
    elif read.endpoints or read.disabled:
        click.echo(show.table(read, time.time()))
        click.echo(f"\nRelative paths: sockets in {directories.runtime}, files in {directories.logs}")


@command.command(hidden=True)
def rehearse() -> None:
    """Say whether this program could take over from the running one, which asks."""
    from sockd.cli import twistd  # noqa: PLC0415

    twistd.rehearse()


@command.command()
def schema() -> None:
    """Print the JSON Schema of the file, for editors."""
    from sockd.protocols.registry import Registry  # noqa: PLC0415
    from sockd.reference.schema import schema_text  # noqa: PLC0415

    click.echo(schema_text(Registry()), nl=False)


@command.command(short_help="List the installed protocols.")
def protocols() -> None:
    """List the installed protocols. The exit status is 69 if one of them can't be loaded."""
    from sockd.base.text import aligned  # noqa: PLC0415
    from sockd.protocols.registry import Registry  # noqa: PLC0415

    found = Registry().all()
    rows = []
    for one in found:
        if one.specification is None:
            rows.append((one.name, "unusable", one.distribution, one.problem))
        else:
            rows.append((one.name, _kinds(one.specification), one.distribution, one.specification.summary))
    if rows:
        click.echo(aligned(rows))
    if any(one.specification is None for one in found):
        sys.exit(os.EX_UNAVAILABLE)


def _kinds(specification: "Specification") -> str:
    from sockd.base.addresses import Kind  # noqa: PLC0415
    from sockd.plan.applies import speaks  # noqa: PLC0415

    return " ".join(kind for kind in Kind if speaks(specification, kind))


def main() -> None:
    """The program. Every error that it expects ends in a line and an exit status, not in a traceback."""
    from sockd.base.errors import SockdError  # noqa: PLC0415
    from sockd.control.language import Refused  # noqa: PLC0415

    if sys.stdout is None:  # the caller closed it; a table needs the width of its output
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal may lack characters of the file
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        command(prog_name="sockd")
    except Refused as refused:
        click.echo(str(refused), err=True)
        sys.exit(refused.status)
    except SockdError as error:
        click.echo(str(error), err=True)
        sys.exit(os.EX_CONFIG)
    except OSError as error:  # such as a full disk; click deals with readers that close the pipe early
        click.echo(f"sockd: {error.strerror or error}", err=True)
        sys.exit(os.EX_IOERR)
