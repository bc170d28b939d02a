"""How a subcommand of `sockd` reaches the daemon: its options, the socket, what the shell may complete."""

import os
import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from sockd.base.errors import SockdError
from sockd.base.text import visible
from sockd.base.units import format_duration
from sockd.control.commands import COMMANDS, Argument, Ids
from sockd.control.language import Json, NotThereError

# Seconds that a shell waits for what can be completed: a person sits in front of it.
_COMPLETION_TIMEOUT = 1.0
# What may be completed: nothing that a shell takes for more than one word.
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:,=@%+-]{0,199}")
_LONGEST_TIMEOUT = 86_400.0  # seconds

# The function of a subcommand: click calls it with whatever options and arguments it declares.
Function = Callable[..., object]


class Duration(click.ParamType[float]):
    """A time as the file has it: `30s`."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from sockd.base.units import duration  # noqa: PLC0415

        try:
            seconds = duration(str(value), 0.001, _LONGEST_TIMEOUT)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not 0 < seconds <= _LONGEST_TIMEOUT:
            self.fail(f"{value} is out of range: more than 0s, and at most 1d", param, ctx)
        return seconds


class RemoteDaemon:
    """The running daemon that is asked; the user may have named its socket, or the file that it serves."""

    def __init__(self, control: str | None, timeout: float | None, file: Path | None = None) -> None:
        self.timeout = timeout
        self._control, self._file = control, file
        self._path: str | None = None  # where it was found

    def ask(
        self, command: str, timeout: float | None = None, within: float | None = None, **arguments: Json
    ) -> Json:
        """As `client.ask`; `timeout`, in seconds, counts where the user named none, and `within` always."""
        from sockd.control.client import ask  # noqa: PLC0415 - `sockd --help` does without

        seconds = within or self.timeout or timeout
        if self._path is not None:
            return ask(self._path, command, seconds, **arguments)
        from sockd.cli.finding import places  # noqa: PLC0415 - `sockd run` asks nobody

        found = places(self._control, self._file)
        nobody: NotThereError | None = None
        for path in found.paths:
            try:
                result = ask(path, command, seconds, **arguments)
            except NotThereError as error:
                nobody = nobody or error
            else:
                self._path = path
                return result
        assert nobody is not None  # noqa: S101 - there is always a path
        if found.off:
            raise NotThereError(
                nobody.status,
                f"{found.off}: no command reaches sockd, but SIGHUP reloads and SIGUSR2 upgrades it",
            )
        raise nobody


_control = click.option(
    "--control",
    metavar="PATH",
    envvar="SOCKD_CONTROL",
    show_envvar=True,
    help="The daemon's control socket. Without it: what FILE names; control.sock in $RUNTIME_DIRECTORY, in "
    "/run/sockd or in the user's own runtime directory; what /etc/sockd/sockd.yaml names.",
)
_file = click.option(
    "-c",
    "--config",
    "file",
    metavar="FILE",
    envvar="SOCKD_CONFIG",
    show_envvar=True,
    type=click.Path(path_type=Path),
    help="The daemon's configuration file, which names its control socket.",
)


class _Id(click.IntRange):
    """A connection's id."""

    name = "id"  # in messages


def declared(name: str, *options: Callable[[Function], Function]) -> Callable[[Function], click.Command]:
    """Make a subcommand of a function, from the declaration of the control command of that name.

    The function is called with the daemon, with those arguments that the command line has, and with the
    subcommand's own `options`.
    """
    command = COMMANDS[name]
    timeout = click.option(
        "--timeout",
        metavar="DURATION",
        type=Duration(),
        help=f"How long to wait for the answer, like 5s. Without it: {format_duration(command.timeout)}.",
    )

    def make(function: Function) -> click.Command:
        asking: Function = _file(_control(timeout(_asks(function))))
        parameters = [_parameter(argument) for argument in command.arguments if argument.metavar]
        for decorate in reversed([*parameters, *options]):
            asking = decorate(asking)
        return click.command(name, help=command.help, short_help=command.summary)(asking)

    return make


def _parameter(argument: Argument) -> Callable[[Function], Function]:
    """An argument as it is on the command line: of those that are needed there may be several."""
    several = argument.required
    return click.argument(
        argument.name,
        metavar=f"{argument.metavar}..." if several else f"[{argument.metavar}]",
        nargs=-1 if several else 1,
        required=several,
        type=_Id(0) if isinstance(argument.type, Ids) else str,
        shell_complete=_COMPLETIONS.get(argument.metavar),
    )


def _asks(function: Function) -> Function:
    """Call it with the daemon; an answer that it can't read is refused in one line."""

    @wraps(function)
    def call(control: str | None, timeout: float | None, file: Path | None, **arguments: object) -> object:
        try:
            return function(RemoteDaemon(control, timeout, file), **arguments)
        except (SockdError, click.ClickException, click.exceptions.Exit, OSError):
            raise
        except Exception as error:
            # What answers may be anything: another version, or another user's program.
            from sockd.control.language import Refused  # noqa: PLC0415

            why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise Refused(os.EX_PROTOCOL, f"sockd's answer can't be shown: {why}") from error

    return call


def endpoints(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The endpoints whose names begin so, each with its protocol."""
    return _completions(
        ctx,
        incomplete,
        lambda daemon: [(one["name"], one["protocol"]) for one in daemon.ask("status")["endpoints"]],
    )


def who_there_is(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The ids that begin so, each with its peer, and the names."""

    def look(daemon: RemoteDaemon) -> list[tuple[str, str]]:
        found = []
        for one in daemon.ask("connections")["connections"]:
            where = f"{one['peer']} on {one['listener']}"
            found.append((str(one["id"]), where))
            if one.get("name"):  # an older daemon has none
                found.append((one["name"], where))
        return found

    return _completions(ctx, incomplete, look)


# How the socket may be named in the environment.
_NAMED = {"control": "SOCKD_CONTROL", "file": "SOCKD_CONFIG"}
# What the shell offers for an argument, by what the help calls it.
_COMPLETIONS = {"ENDPOINT": endpoints}


def _completions(
    ctx: click.Context, incomplete: str, look: Callable[[RemoteDaemon], list[tuple[str, str]]]
) -> list[CompletionItem]:
    given = {name: ctx.params.get(name) or os.environ.get(variable) for name, variable in _NAMED.items()}
    file = Path(given["file"]) if given["file"] else None
    daemon = RemoteDaemon(given["control"], _COMPLETION_TIMEOUT, file)
    try:
        found = look(daemon)
    except Exception:  # noqa: BLE001 - a message would appear in the line that is being typed
        return []
    # The shell reads a line for each, and puts it into the command line as it is.
    return [
        CompletionItem(value, help=visible(text))
        for value, text in found
        if value.startswith(incomplete) and _WORD.fullmatch(value)
    ]
