"""The door of `twistd sockd -c FILE`: its options, and the service they make."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from twisted.logger import ILogObserver
from twisted.python import usage

import sockd
from sockd import logs, process
from sockd.cli import USUAL_FILE
from sockd.daemon import Daemon
from sockd.errors import SockdError
from sockd.plan import Plan, read
from sockd.welcome import welcome


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


class Top(Daemon):
    """The daemon as twistd's application knows it: the log is ours, unless twistd was told otherwise."""

    observer: logs.Observer | None = None
    destination: logs.Destination | None = None

    def reopen(self) -> None:
        """Open the log's file anew too."""
        super().reopen()
        if self.destination is not None:
            try:
                self.destination.reopen()
            except OSError as error:
                self.log.error(  # noqa: TRY400 - a reason, not a bug
                    "the log can't be opened anew: {why}", why=error.strerror, event="log"
                )

    def setServiceParent(self, parent: Any) -> None:  # noqa: N802
        super().setServiceParent(parent)
        if self.observer is not None:
            parent.setComponent(ILogObserver, self.observer)


def makeService(options: Options) -> Daemon:  # noqa: N802
    """The daemon for this file. SystemExit with status 78, the problems on stderr, where it is wrong."""
    from twisted.internet import reactor  # noqa: PLC0415 - doors alone may, and not before they must

    # A step of the wall clock would move every timer.
    reactor.seconds = time.monotonic  # type: ignore[method-assign]
    parent: Any = options.parent or {}
    try:
        directories = process.directories(os.environ, os.getuid())
        # Now, as twistd changes its directory before the service starts.
        plan = read(Path(options["config"] or os.environ.get("SOCKD_CONFIG") or USUAL_FILE), directories)
    except SockdError as error:
        print(error, file=sys.stderr)  # noqa: T201
        raise SystemExit(78) from None
    process.make_directories(directories, parent.get("uid"), parent.get("gid"))
    daemon = _daemon(plan, reactor, parent)
    process.on_signal(reactor, signal.SIGUSR1, daemon.reopen)
    return daemon


def _daemon(plan: Plan, reactor: Any, parent: Any) -> Top:
    foreground = bool(parent.get("nodaemon"))

    def leave(status: int) -> None:
        process.exit_with(status)
        if not asked:
            stop()

    def stop() -> None:
        if asked:
            daemon.hurry()
        else:
            asked.append(True)
            reactor.stop()

    def take_signals() -> None:
        # Once more when the reactor has installed its own, which would have the process end by the signal.
        process.on_signal(reactor, signal.SIGTERM, stop)
        process.on_signal(reactor, signal.SIGINT, stop)

    def serving(daemon: Daemon) -> bool:
        shown = foreground and style == "text"
        if shown:
            # Twistd has made a log of sys.stdout.
            print(welcome(daemon.endpoints, Path.cwd()), file=sys.__stdout__, flush=True)
        return shown

    asked: list[bool] = []
    style = ""
    daemon = Top(plan, reactor, leave, serving)
    if not parent.get("syslog") and not parent.get("logger"):
        destination = logs.destination(parent.get("logfile"), foreground)
        style = logs.chosen_format(plan.log, destination, os.environ)
        destination.give_to(parent.get("uid"), parent.get("gid"))
        daemon.observer = logs.Observer(destination, plan.log.level, style)
        daemon.destination = destination
    take_signals()
    reactor.callWhenRunning(take_signals)
    return daemon


def run(file: Path) -> None:
    """`sockd run`: twistd in the foreground without a pid file, in this process."""
    from twisted.scripts import twistd  # noqa: PLC0415

    sys.argv = ["twistd", "--nodaemon", "--pidfile=", "sockd", "--config", str(file)]
    twistd.run()
