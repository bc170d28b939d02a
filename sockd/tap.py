"""The door of `twistd sockd -c FILE`: its options, and the service they make."""

import gc
import os
import select
import sys
import time
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application import app
from twisted.application.service import ServiceMaker
from twisted.python import usage
from twisted.scripts._twistd_unix import ServerOptions
from twisted.scripts.twistd import runApp

import sockd
from sockd import log as logs
from sockd.base import descriptors
from sockd.base.errors import SockdError
from sockd.config.source import USUAL_FILE
from sockd.plan.build import read
from sockd.process.directories import directories as directories_of
from sockd.process.directories import make_directories
from sockd.program import Top, read_aside, read_file, refusal
from sockd.sinks.thread import ShelteredThread
from sockd.upgrade import passing
from sockd.upgrade.carried import take_name
from sockd.upgrade.exec import resume_signals
from sockd.upgrade.rehearsal import problems
from sockd.upgrade.value import Handover


class Options(usage.Options):
    """What `twistd sockd --help` shows."""

    synopsis = "[-c FILE]"
    longdesc = (
        "A network daemon: one YAML file, TCP, UDP and Unix-socket endpoints, one supervised service tree."
    )
    optParameters = (  # noqa: N815
        ("config", "c", None, f"The file; else $SOCKD_CONFIG, else {USUAL_FILE}"),
    )

    def opt_version(self) -> None:
        """Print sockd's version and exit."""
        print(f"sockd {sockd.__version__}")  # noqa: T201
        sys.exit(0)


class Twistd(ServerOptions):
    """twistd's options for `sockd run`: it doesn't look for plugins, whose modules would all be loaded."""

    subCommands = (("sockd", None, Options, ""),)  # noqa: N815

    def __init__(self) -> None:
        super().__init__()
        self.loadedPlugins = {"sockd": ServiceMaker("sockd", __name__, "", "sockd")}


def makeService(options: Options) -> Top:  # noqa: N802
    """The daemon for this file. SystemExit with status 78, the problems on stderr, where it is wrong."""
    from twisted.internet import reactor  # noqa: PLC0415 - doors alone may, and not before they must

    # A step of the wall clock would move every timer.
    reactor.seconds = time.monotonic  # type: ignore[method-assign]
    parent: Any = options.parent or {}
    # What the imports left behind goes; what comes now stays, and needn't be looked through again and again.
    gc.collect()
    gc.disable()
    upgraded = passing.VARIABLE in os.environ
    try:
        handed = passing.take(os.environ)
        directories = handed.directories if handed else directories_of(os.environ, os.getuid())
        file = Path(options["config"] or os.environ.get("SOCKD_CONFIG") or USUAL_FILE)
        plan = read_file(file, directories, parent)
        sockets = passing.adopt(handed) if handed else {}
    except SockdError as error:
        logs.complain(str(error), os.environ)
        # All was right in the rehearsal a moment ago: systemd is to start us anew.
        raise SystemExit(os.EX_SOFTWARE if upgraded else os.EX_CONFIG) from None
    # Whoever asks later may be elsewhere; and twistd changes its directory before the service starts.
    file = file.absolute()
    if handed is None and (why := refusal(file, directories, parent)):
        logs.complain("\n".join(why), os.environ)
        raise SystemExit(os.EX_NOPERM)
    # Before the reactor has any threads of its own.
    reactor.getThreadPool().threadFactory = ShelteredThread  # type: ignore[attr-defined]
    descriptors.reserve()
    make_directories(directories, parent.get("uid"), parent.get("gid"))
    plan = replace(plan, file=file)
    aside = partial(read_aside, file, directories, parent)
    daemon = Top(plan, reactor, parent, aside, directories, handed, sockets)
    daemon.take_signals()
    # Once more when the reactor has installed its own, which would have the process end by the signal.
    reactor.callWhenRunning(daemon.take_signals)
    reactor.callWhenRunning(resume_signals)
    return daemon


def run(file: Path) -> None:
    """`sockd run`: twistd in the foreground without a pid file, in this process."""
    try:
        handed = passing.peek(os.environ)
    except SockdError as error:
        logs.complain(str(error), os.environ)
        sys.exit(os.EX_SOFTWARE)
    if handed is not None:
        take_name(handed.comm)
    sys.argv = ["twistd", *_twistd_arguments(handed, file)]
    if hasattr(select, "epoll") and (handed is None or not _names_reactor(handed.options)):
        from sockd.process import reactor  # noqa: PLC0415

        reactor.install()  # by its name twistd would look for it among all plugins
    app.run(runApp, Twistd)


def _names_reactor(options: Iterable[str]) -> bool:
    return any(option.startswith(("--reactor", "-r")) for option in options)


def _twistd_arguments(handed: Handover | None, file: Path) -> list[str]:
    options = () if handed is None else handed.options
    return ["--nodaemon", "--pidfile=", *options, "sockd", "--config", str(file)]


def rehearse() -> None:
    """`sockd rehearse`: whether this program could go on where the running one, which asks, stops."""
    handed = passing.take(os.environ)
    if handed is None:
        raise SockdError("this is for a running sockd that is about to be upgraded")
    # What a third party's module prints is not ours to pass on: the running program reads it.
    with open(os.devnull, "w", encoding="utf-8") as nothing, redirect_stdout(nothing):
        try:
            Twistd().parseOptions(_twistd_arguments(handed, Path(handed.file)))
        except usage.UsageError as error:
            raise SockdError(f"twistd does not take the options that it was started with: {error}") from error
        found = problems(handed, read(Path(handed.file), handed.directories))
    if found:
        print(*found, sep="\n", file=sys.stderr)  # noqa: T201
        sys.exit(os.EX_SOFTWARE)
    print(sockd.__version__)  # noqa: T201
