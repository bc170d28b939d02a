"""The `sockd` command. What a subcommand needs is imported when it is called: each starts quickly then."""

import io
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sockd import __version__
from sockd.base import descriptors
from sockd.cli import output
from sockd.cli.control import SUBCOMMANDS
from sockd.config.source import DEFAULT_FILE
from sockd.process.switches import disable_collection

if TYPE_CHECKING:
    from sockd.plan.plan import Plan
    from sockd.process.directories import Directories
    from sockd.protocols.contract import Specification

_DAEMON_TIMEOUT = 2.0  # seconds that `check` waits for a daemon to say who it is

# The function of a subcommand: click calls it with whatever options and arguments it declares.
Function = Callable[..., object]


def takes_file(function: Function) -> Function:
    """Give a subcommand the configuration file, which is named by an option or by an argument."""

    @click.option(
        "-c",
        "--config",
        "option",
        metavar="FILE",
        envvar="SOCKD_CONFIG",
        default=DEFAULT_FILE,
        show_default=True,
        show_envvar=True,
        type=click.Path(path_type=Path),
        help="The configuration file.",
    )
    @click.argument("argument", metavar="[FILE]", required=False, type=click.Path(path_type=Path))
    @wraps(function)
    def call(option: Path, argument: Path | None, **others: object) -> object:
        ctx = click.get_current_context()
        given = ctx.get_parameter_source("option") is click.core.ParameterSource.COMMANDLINE
        if argument is not None and given:
            raise click.UsageError(f"two files are named, {str(option)!r} and {str(argument)!r}: name one")
        return function(argument or option, **others)

    return call


class Interrupted(BaseException):
    """Ctrl-C: not a KeyboardInterrupt, to which click has something to say."""


class Commands(click.Group):
    """The subcommands, of which Ctrl-C ends each without a word."""

    # Any: as click's own have them.
    def make_context(self, *arguments: Any, **more: Any) -> click.Context:
        try:
            return super().make_context(*arguments, **more)
        except KeyboardInterrupt:
            raise Interrupted from None

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted from None


@click.group(
    cls=Commands, commands=dict(SUBCOMMANDS), context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="sockd", message="%(prog)s %(version)s")
def command() -> None:
    """Serve many network endpoints from one YAML file."""


@command.command()
@takes_file
def run(file: Path) -> None:
    """Run in the foreground until SIGTERM or SIGINT."""
    from sockd.upgrade.signals import hold_signals  # noqa: PLC0415

    hold_signals()
    disable_collection()  # of what is imported, which stays to the end
    from sockd.cli import twistd  # noqa: PLC0415

    twistd.run(file)


@command.command(short_help="Show what a file would run, or what is wrong.")
@takes_file
@click.option(
    "--yaml",
    "as_yaml",
    is_flag=True,
    help="Print a file that gives the same plan, with nothing inherited or included.",
)
@click.option(
    "--as",
    "user",
    metavar="USER[:GROUP,...]",
    help="See it as this user does, with the user's groups and these: what it can't read, and where it can't "
    "write. Without it, root is warned of what the daemon's user can't, where that is known.",
)
def check(file: Path, *, as_yaml: bool, user: str | None) -> None:
    """Show what the file would run, or everything that is wrong with it."""
    disable_collection()  # its memory is bounded by the file's, and goes with the process
    from sockd.plan import budget, build, show  # noqa: PLC0415
    from sockd.process.directories import directories as directories_of  # noqa: PLC0415
    from sockd.process.looking import only_looking  # noqa: PLC0415

    directories = directories_of(os.environ, os.getuid())
    with only_looking():
        read = budget.compared(build.read(file, directories), descriptors.limit())
        seen = tuple(_seen_by(user, read, directories))
    output.complain(*map(str, read.warnings), *seen)
    if as_yaml:
        output.show(*show.render(read).splitlines())
    elif read.endpoints or read.disabled:
        output.show(*show.table(read, time.time(), output.terminal_width()).split("\n"))
        output.show("", f"Relative paths: sockets in {directories.runtime}, files in {directories.logs}")


def _seen_by(user: str | None, plan: "Plan", directories: "Directories") -> Iterator[str]:
    """What the daemon's user can't do: warnings, or Refused where that `user` is named."""
    if user is None and os.geteuid() != 0:
        return
    from sockd.cli import viewpoint  # noqa: PLC0415
    from sockd.cli.asking import RemoteDaemon  # noqa: PLC0415
    from sockd.control.language import Refused  # noqa: PLC0415
    from sockd.plan import build  # noqa: PLC0415

    control = os.environ.get("SOCKD_CONTROL") or (None if plan.control is None else plan.control.path)
    ask = partial(RemoteDaemon(control, _DAEMON_TIMEOUT).ask, "status")
    view = viewpoint.found(plan.file, ask) if user is None else viewpoint.named(user, ask)
    if view is None or (user is None and view.account.uid == 0):
        return
    if os.geteuid() not in (0, view.account.uid):
        raise Refused(os.EX_NOPERM, "only root can see the file as another user does (--as)")
    problems = viewpoint.problems(view, plan.file, lambda file: build.read(file, directories))
    if problems and user is not None:
        raise Refused(os.EX_NOPERM, *problems)
    yield from (f"warning: {problem}" for problem in problems)


@command.command(hidden=True)
def rehearse() -> None:
    """Say whether this program could take over from the running one, which asks."""
    from sockd.cli import twistd  # noqa: PLC0415

    twistd.rehearse()


@command.command()
def schema() -> None:
    """Print the JSON Schema of the file, for editors."""
    from sockd.base.text import visible_json  # noqa: PLC0415
    from sockd.protocols.registry import Registry  # noqa: PLC0415
    from sockd.reference.schema import schema_text  # noqa: PLC0415

    output.show(*map(visible_json, schema_text(Registry()).rstrip("\n").split("\n")))


@command.command(short_help="List the installed protocols.")
def protocols() -> None:
    """List the installed protocols. The exit status is 69 if one of them can't be loaded."""
    from sockd.protocols.registry import Registry  # noqa: PLC0415

    found = Registry().all()
    rows = []
    for one in found:
        if one.specification is None:
            rows.append((one.name, "unusable", one.distribution, one.problem))
        else:
            rows.append((one.name, _kinds(one.specification), one.distribution, one.specification.summary))
    if rows:
        output.show_table(rows)
    if any(one.specification is None for one in found):
        sys.exit(os.EX_UNAVAILABLE)


def _kinds(specification: "Specification") -> str:
    from sockd.base.addresses import Kind  # noqa: PLC0415
    from sockd.plan.applies import speaks  # noqa: PLC0415

    return " ".join(kind for kind in Kind if speaks(specification, kind))


def main() -> None:
    """The program. Every error that it expects ends in a line and an exit status, not in a traceback."""
    descriptors.open_standard()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal may lack characters of the file
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = _status()
    except (KeyboardInterrupt, Interrupted):
        status = output.INTERRUPTED
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        failed = _fail(output.output_error(error))
        status = status or failed
    sys.exit(status)


def _status() -> int:
    """Run the command that the command line asks for; what it ends with."""
    from sockd.base.errors import SockdError, SystemLacksError  # noqa: PLC0415
    from sockd.control.language import Refused  # noqa: PLC0415

    try:
        status = command(prog_name="sockd", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()  # what click itself has printed
    except SystemExit as left:
        if isinstance(left.code, str):
            output.complain(left.code)
            return 1
        return left.code or 0
    except click.Abort:  # Ctrl-C while click read the command line
        return output.INTERRUPTED
    except click.ClickException as error:
        text = io.StringIO()
        error.show(file=text)
        output.complain(*text.getvalue().rstrip("\n").split("\n"))
        return error.exit_code
    except output.OutputError as error:
        return _fail(error)
    except SystemLacksError as error:
        output.complain(*error.lines)
        return os.EX_OSERR
    except SockdError as error:
        output.complain(*error.lines)
        return error.status if isinstance(error, Refused) else os.EX_CONFIG
    except OSError as error:
        output.complain(f"sockd: {error.strerror or error}")
        return os.EX_IOERR
    except Exception:  # noqa: BLE001 - a bug, whose message may hold anything
        output.complain(*traceback.format_exc().splitlines())
        return os.EX_SOFTWARE
    return status if isinstance(status, int) else 0


def _fail(error: output.OutputError) -> int:
    if not error.quiet:
        output.complain(str(error))
    return error.status
