"""twistd within the `sockd` command."""

import os
import select
import sys
from collections.abc import Iterable
from pathlib import Path

from twisted.application import app
from twisted.application.service import ServiceMaker
from twisted.python import usage
from twisted.scripts._twistd_unix import ServerOptions
from twisted.scripts.twistd import runApp

import sockd
from sockd import log, tap
from sockd.base.errors import SockdError
from sockd.plan.build import read
from sockd.process.looking import only_looking
from sockd.upgrade import passing
from sockd.upgrade.carried import take_name
from sockd.upgrade.value import Handover


class Twistd(ServerOptions):
    """twistd's options for `sockd run`: it doesn't look for plugins, whose modules would all be loaded."""

    subCommands = (("sockd", None, tap.Options, ""),)  # noqa: N815

    def __init__(self) -> None:
        super().__init__()
        self.loadedPlugins = {"sockd": ServiceMaker("sockd", tap.__name__, "", "sockd")}


def run(file: Path) -> None:
    """`sockd run`: twistd in the foreground without a pid file, in this process."""
    try:
        handed = passing.peek(os.environ)
    except SockdError as error:
        log.complain(error.lines, os.environ)
        sys.exit(os.EX_SOFTWARE)
    if handed is not None:
        take_name(handed.comm)
    sys.argv = ["twistd", *_arguments(handed, file)]
    if hasattr(select, "epoll") and (handed is None or not _names_reactor(handed.options)):
        from sockd.process import reactor  # noqa: PLC0415

        try:
            reactor.install()  # by its name twistd would look for it among all plugins
        except OSError as error:
            why = error.strerror or str(error)
            why = f"sockd's reactor, which needs epoll(7) and pipes, can't be made: {why}"
            log.complain([why], os.environ)
            sys.exit(os.EX_OSERR)
    app.run(runApp, Twistd)


def rehearse() -> None:
    """`sockd rehearse`: say whether this program could go on where the running one, which asks, stops."""
    handed = passing.take(os.environ)
    if handed is None:
        raise SockdError("this is for a running sockd that is about to be upgraded")
    # The running program reads what is printed here: what a third party's module prints is not for it.
    with only_looking():
        try:
            options = Twistd()
            options.parseOptions(_arguments(handed, Path(handed.file)))
            os.chdir(options["rundir"])  # as twistd does
        except OSError as error:
            raise SockdError(f"the new program can't go to its directory: {error.strerror}") from error
        except usage.UsageError as error:
            raise SockdError(f"twistd does not take the options that it was started with: {error}") from error
        from sockd.upgrade.rehearsal import problems  # noqa: PLC0415 - a daemon itself never needs it

        found = problems(handed, read(Path(handed.file), handed.directories))
    if found:
        print(*found, sep="\n", file=sys.stderr)  # noqa: T201
        sys.exit(os.EX_SOFTWARE)
    print(sockd.__version__)  # noqa: T201


def _names_reactor(options: Iterable[str]) -> bool:
    return any(option.startswith(("--reactor", "-r")) for option in options)


def _arguments(handed: Handover | None, file: Path) -> list[str]:
    options = () if handed is None else (*_directory(), *handed.options)
    return ["--nodaemon", "--pidfile=", *options, "sockd", "--config", str(file)]


def _directory() -> tuple[str, ...]:
    """Where the new program is to be: here, unless this user may not enter what root started it in."""
    try:
        os.chdir(".")
    except OSError:
        return ("--rundir=/",)
    return ()
