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
    """The daemon as a process that twistd runs: with signals, an exit status, a log unless twistd has one."""

    def __init__(self, plan: Plan, reactor: Any, parent: Any) -> None:
        super().__init__(plan, reactor, self._leave, self._welcome)
        self._asked = False  # to stop
        self._here = Path.cwd()
        self._observer: logs.Observer | None = None
        self._destination: logs.Destination | None = None
        self._to_a_person = False
        if parent.get("syslog") or parent.get("logger"):
            return
        foreground = bool(parent.get("nodaemon"))
        self._destination = logs.destination(parent.get("logfile"), foreground)
        self._destination.give_to(parent.get("uid"), parent.get("gid"))
        style = logs.chosen_format(plan.log, self._destination, os.environ)
        self._observer = logs.Observer(self._destination, plan.log.level, style)
        self._to_a_person = foreground and style == "text"

    def setServiceParent(self, parent: Any) -> None:  # noqa: N802
        super().setServiceParent(parent)
        if self._observer is not None:
            parent.setComponent(ILogObserver, self._observer)

    def take_signals(self) -> None:
        """SIGTERM, SIGINT and SIGHUP stop it, with status 0; SIGUSR1 reopens files."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            process.on_signal(self._reactor, number, self._asked_to_stop)
        process.on_signal(self._reactor, signal.SIGUSR1, self.reopen)

    def _asked_to_stop(self) -> None:
        if self._asked:
            self.hurry()
        else:
            self._asked = True
            self._reactor.stop()

    def _leave(self, status: int) -> None:
        process.exit_with(status)
        if not self._asked:
            self._asked_to_stop()

    def _welcome(self, daemon: Daemon) -> bool:
        if self._to_a_person and self._destination is not None:
            self._destination.write(welcome(daemon.endpoints, self._here))
        return self._to_a_person

    def reopen(self) -> None:
        """Open the log's file anew too."""
        super().reopen()
        if self._destination is not None:
            try:
                self._destination.reopen()
            except OSError as error:
                self.log.error(  # noqa: TRY400 - a reason, not a bug
                    "the log can't be opened anew: {why}", why=error.strerror, event="log"
                )


def makeService(options: Options) -> Top:  # noqa: N802
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
        raise SystemExit(os.EX_CONFIG) from None
    process.raise_descriptor_limit()
    process.make_directories(directories, parent.get("uid"), parent.get("gid"))
    daemon = Top(plan.run_as(parent.get("uid"), parent.get("gid")), reactor, parent)
    daemon.take_signals()
    # Once more when the reactor has installed its own, which would have the process end by the signal.
    reactor.callWhenRunning(daemon.take_signals)
    return daemon


def run(file: Path) -> None:
    """`sockd run`: twistd in the foreground without a pid file, in this process."""
    from twisted.scripts import twistd  # noqa: PLC0415

    sys.argv = ["twistd", "--nodaemon", "--pidfile=", "sockd", "--config", str(file)]
    twistd.run()
