"""The door of `twistd sockd -c FILE`: its options, and the service they make."""

import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import ILogObserver, Logger
from twisted.python import usage

import sockd
from sockd import logs, process
from sockd.admin.language import Refused
from sockd.admin.notify import Notify, Watchdog, fd_store_size
from sockd.adoption import FdStore, adopt
from sockd.cli import USUAL_FILE
from sockd.daemon import Daemon
from sockd.errors import SockdError
from sockd.plan import Directories, Plan, read
from sockd.steering import commands
from sockd.transports.inherited import environment_at_exec, take
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

    def __init__(self, plan: Plan, reactor: Any, parent: Any, read: Callable[[], Plan]) -> None:
        log = Logger("sockd")
        notify = Notify.from_environment(os.environ, reactor, log)
        store = FdStore(notify, fd_store_size(os.environ))
        inherited = take(os.environ, os.getpid(), environment_at_exec())
        super().__init__(
            plan,
            reactor,
            self._leave,
            self._welcome,
            read=partial(deferToThread, read),
            sockets=adopt(inherited, store, log),
            notify=notify,
        )
        self._notify = notify
        self._watchdog: Watchdog | None = None
        self.commands = commands(self, self.upgrade)
        self._asked = False  # to stop
        self._here = Path.cwd()
        self._observer: logs.Observer | None = None
        self._destination: logs.Destination | None = None
        self._to_a_person = False
        if parent.get("syslog") or parent.get("logger"):
            return
        self._foreground = bool(parent.get("nodaemon"))
        self._destination = logs.destination(parent.get("logfile"), self._foreground)
        self._destination.give_to(parent.get("uid"), parent.get("gid"))
        style = logs.chosen_format(plan.log, self._destination, os.environ)
        self._observer = logs.Observer(self._destination, plan.log.level, style)
        self._to_a_person = self._foreground and style == "text"

    def setServiceParent(self, parent: Any) -> None:  # noqa: N802
        super().setServiceParent(parent)
        if self._observer is not None:
            parent.setComponent(ILogObserver, self._observer)

    def take_signals(self) -> None:
        """SIGTERM and SIGINT stop it, with status 0; SIGHUP reloads, SIGUSR1 reopens files."""
        for number in (signal.SIGTERM, signal.SIGINT):
            process.on_signal(self._reactor, number, self._asked_to_stop)
        process.on_signal(self._reactor, signal.SIGHUP, self.reloading.by_signal)
        process.on_signal(self._reactor, signal.SIGUSR1, self.reopen)

    def startService(self) -> None:  # noqa: N802
        """Once daemonized: the watchdog is told who we are now."""
        super().startService()
        self._watchdog = Watchdog(self._notify, self._reactor, os.environ, self.log)
        self._watchdog.start()
        # A full collection of a large plan would stop the reactor for 0.1 s; what there is now mostly lives to
        # the end, and is never looked at again.
        gc.collect()
        gc.freeze()

    def stopService(self) -> Deferred[None]:  # noqa: N802
        stopped = super().stopService()
        stopped.addCallback(lambda _: self._stopped())
        return stopped

    def _stopped(self) -> None:
        if self._watchdog is not None:
            self._watchdog.stop()
        self._notify.close()

    def changed_settings(self, old: Plan, new: Plan) -> None:
        """The log follows the plan at once."""
        if self._observer is not None and self._destination is not None and old.log != new.log:
            style = logs.chosen_format(new.log, self._destination, os.environ)
            self._observer.change(new.log.level, style)
            self._to_a_person = self._foreground and style == "text"

    def upgrade(self) -> Any:
        """Go over to the program that is installed now."""
        raise Refused(os.EX_SOFTWARE, "there is no upgrade yet")

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
        file = Path(options["config"] or os.environ.get("SOCKD_CONFIG") or USUAL_FILE).absolute()
        plan = _read(file, directories, parent)
    except SockdError as error:
        print(error, file=sys.stderr)  # noqa: T201
        raise SystemExit(os.EX_CONFIG) from None
    process.raise_descriptor_limit()
    process.make_directories(directories, parent.get("uid"), parent.get("gid"))
    daemon = Top(plan, reactor, parent, partial(_read_aside, file, directories, parent))
    daemon.take_signals()
    # Once more when the reactor has installed its own, which would have the process end by the signal.
    reactor.callWhenRunning(daemon.take_signals)
    return daemon


def _read_aside(file: Path, directories: Directories, parent: Any) -> Plan:
    """The same in a thread: the reactor's turns stay short meanwhile."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    gc.disable()
    try:
        return _read(file, directories, parent)
    finally:
        gc.enable()
        sys.setswitchinterval(interval)


def _read(file: Path, directories: Directories, parent: Any) -> Plan:
    return read(file, directories).run_as(parent.get("uid"), parent.get("gid"))


def run(file: Path) -> None:
    """`sockd run`: twistd in the foreground without a pid file, in this process."""
    from twisted.scripts import twistd  # noqa: PLC0415

    sys.argv = ["twistd", "--nodaemon", "--pidfile=", "sockd", "--config", str(file)]
    twistd.run()
