"""How a command reaches the daemon: its options, where the socket is, what the shell may complete."""

import os
from collections.abc import Callable
from functools import wraps
from typing import Any

import click
from click.shell_completion import CompletionItem

# How long (seconds) a shell may be kept waiting for what could be completed.
_COMPLETION = 1.0
_LONGEST = 86_400.0  # seconds that one may wish to wait for an answer

Function = Callable[..., Any]


class Duration(click.ParamType[float]):
    """A time as the file has it: `30s`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from sockd.base.units import duration  # noqa: PLC0415

        try:
            seconds = duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not 0 < seconds <= _LONGEST:
            self.fail(f"{value} is out of range: more than 0s, and at most 1d", param, ctx)
        return seconds


class Daemon:
    """The daemon that is meant; `control` is the path of its socket, if one was named."""

    def __init__(self, control: str | None, timeout: float | None) -> None:
        self.timeout = timeout
        self._control = control

    def ask(self, command: str, timeout: float | None = None, **arguments: Any) -> Any:
        """As `client.ask`; `timeout` where the user named none."""
        from sockd.control.client import ask  # noqa: PLC0415 - so that `sockd --help` needs nothing of it

        return ask(self.path(), command, self.timeout or timeout, **arguments)

    def path(self) -> str:
        """Of its control socket."""
        if self._control:
            return self._control
        from sockd.process.directories import runtime_directories  # noqa: PLC0415

        paths = [
            os.path.join(directory, "control.sock")
            for directory in runtime_directories(os.environ, os.getuid())
        ]
        return next((path for path in paths if not _missing(path)), paths[-1])


def _missing(path: str) -> bool:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        pass  # who may not look is to be told so, not led elsewhere
    return False


_control = click.option(
    "--control",
    metavar="PATH",
    envvar="SOCKD_CONTROL",
    show_envvar=True,
    help="The daemon's control socket. Without it: control.sock in $RUNTIME_DIRECTORY, in /run/sockd or in "
    "the user's own runtime directory.",
)
_timeout = click.option(
    "--timeout",
    metavar="DURATION",
    type=Duration(),
    help="How long to wait for an answer. Without it: 60s; 10m for drain, reload, restart and upgrade.",
)


def asks(function: Function) -> Function:
    """Give a command the options by which it finds the daemon, which it gets as its first argument."""

    @wraps(function)
    def call(control: str | None, timeout: float | None, **arguments: Any) -> Any:
        try:
            return function(Daemon(control, timeout), **arguments)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            from sockd.control.language import Refused  # noqa: PLC0415

            why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise Refused(os.EX_PROTOCOL, f"sockd's answer is not one that can be shown: {why}") from error

    return _control(_timeout(call))


def as_json(value: Any) -> str:
    """For programs: nothing but ASCII."""
    import json  # noqa: PLC0415

    return json.dumps(value, indent=2)


def endpoints(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The endpoints that a shell may complete."""
    return _completions(
        ctx,
        incomplete,
        lambda daemon: [(one["name"], one["protocol"]) for one in daemon.ask("status")["endpoints"]],
    )


def connections(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The connections that a shell may complete, by their ids."""
    return _completions(
        ctx,
        incomplete,
        lambda daemon: [
            (str(one["id"]), f"{one['peer']} on {one['listener']}")
            for one in daemon.ask("connections")["connections"]
        ],
    )


def _completions(
    ctx: click.Context, incomplete: str, look: Callable[[Daemon], list[tuple[str, str]]]
) -> list[CompletionItem]:
    daemon = Daemon(ctx.params.get("control") or os.environ.get("SOCKD_CONTROL"), _COMPLETION)
    try:
        found = look(daemon)
    except Exception:  # noqa: BLE001 - nothing is to be told in the middle of somebody's line
        return []
    return [CompletionItem(value, help=text) for value, text in found if value.startswith(incomplete)]
