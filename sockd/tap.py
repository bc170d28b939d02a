"""The door of `twistd sockd -c FILE`: its options, and the service they make."""

import gc
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any

from twisted.application import app
from twisted.application.service import ServiceMaker
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import ILogObserver, Logger
from twisted.python import usage
from twisted.scripts._twistd_unix import ServerOptions
from twisted.scripts.twistd import runApp

import sockd
from sockd import budget, logs, process, reserve
from sockd.admin.notify import Notify, Watchdog, fd_store_size
from sockd.adoption import FdStore, adopt
from sockd.config.usual import FILE as USUAL_FILE
from sockd.daemon import Daemon
from sockd.errors import SockdError
from sockd.garbage import Garbage
from sockd.handover import passing
from sockd.handover.value import Handover
from sockd.plan import Directories, Plan
from sockd.planning import read
from sockd.rights import Rights
from sockd.sinks.thread import ShelteredThread
from sockd.status import Outcome
from sockd.steering import commands
from sockd.transports.inherited import environment_at_exec, take
from sockd.units import counted
from sockd.upgrade import carried, thawing
from sockd.upgrade.course import Course
from sockd.upgrade.rehearsal import problems
from sockd.upgrade.signals import resume_signals
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


class Twistd(ServerOptions):
    """twistd's options for `sockd run`: it doesn't look for plugins, whose modules would all be loaded."""

    subCommands = (("sockd", None, Options, ""),)  # noqa: N815

    def __init__(self) -> None:
        super().__init__()
        self.loadedPlugins = {"sockd": ServiceMaker("sockd", __name__, "", "sockd")}


class Top(Daemon):
    """The daemon as a process that twistd runs: with signals, an exit status, a log unless twistd has one.

    `handed` is what the program before it in this process handed over, if any did, `sockets` those of it.
    """

    def __init__(
        self,
        plan: Plan,
        reactor: Any,
        parent: Any,
        read: Callable[[], Plan],
        directories: Directories,
        handed: Handover | None = None,
        sockets: Mapping[int, socket.socket] = MappingProxyType({}),
    ) -> None:
        log = Logger("sockd")
        notify = Notify.from_environment(os.environ, reactor, log)
        store = FdStore(notify, fd_store_size(os.environ))
        self._handed = handed
        self._sockets = sockets
        super().__init__(
            plan,
            reactor,
            self._leave,
            self._welcome,
            read=partial(deferToThread, read),
            sockets=adopt(take(os.environ, os.getpid(), environment_at_exec()), store, log)
            if handed is None
            else thawing.sockets_of(handed, self._sockets, store),
            notify=notify,
            numbers=count(1 if handed is None else handed.numbers),
        )
        if handed is not None:
            thawing.before_start(self, handed)
        self._went_on = 0  # connections of the program before
        self._askers: list[Any] = []  # who asked it for the upgrade
        self._notify = notify
        self._watchdog: Watchdog | None = None
        self._garbage = Garbage(reactor)
        self._carried = carried.Carried.of(parent, directories, handed)
        self._course = Course(self, self._process_values, os.environ, self._last_words)
        self.commands = commands(self, self._course.upgrade)
        self._asked = False  # to stop
        self._here = _here()
        self._observer: logs.Observer | None = None
        self._destination: logs.Destination | None = None
        self._to_a_person = False
        if parent.get("syslog") or parent.get("logger"):
            return
        self._foreground = bool(parent.get("nodaemon"))
        self._destination = logs.destination(
            parent.get("logfile"), self._foreground, handed.log if handed else None
        )
        self._destination.give_to(parent.get("uid"), parent.get("gid"))
        style = logs.chosen_format(plan.log, self._destination, os.environ)
        self._observer = logs.Observer(self._destination, plan.log.level, style)
        self._to_a_person = self._foreground and style == "text"

    def setServiceParent(self, parent: Any) -> None:  # noqa: N802
        super().setServiceParent(parent)
        if self._observer is not None:
            parent.setComponent(ILogObserver, self._observer)

    def take_signals(self) -> None:
        """SIGTERM and SIGINT stop it, with status 0; HUP reloads, USR1 reopens files, USR2 upgrades."""
        for number in (signal.SIGTERM, signal.SIGINT):
            process.on_signal(self._reactor, number, self._asked_to_stop)
        process.on_signal(self._reactor, signal.SIGHUP, self.reloading.by_signal)
        process.on_signal(self._reactor, signal.SIGUSR1, self.reopen)
        process.on_signal(self._reactor, signal.SIGUSR2, self._course.by_signal)

    def startService(self) -> None:  # noqa: N802
        """Once daemonized: the watchdog is told who we are now."""
        super().startService()
        if self._handed is None:
            self._tell_rights()
        else:
            self._went_on = thawing.after_start(self, self._handed, self._sockets)
            self._askers = list(thawing.askers(self, self._handed, self._sockets))
        self._watchdog = Watchdog(self._notify, self._reactor, os.environ, self.log)
        self._watchdog.start()
        self._garbage.start()

    def _tell_rights(self) -> None:
        """What is risky of those that are left, and what is not possible without those that are not."""
        if process.is_root():
            self.log.warn(  # noqa: G010
                "running as root: who breaks into sockd has the whole machine. --uid=USER, or systemd, gives "
                "that up once the addresses are bound",
                event="root",
            )
        why = self.controls.missing(self.plan, Rights.ours())
        if why:
            self.log.warn(  # noqa: G010
                "control: {address} can't be opened again, should that be needed: {why}",
                address=str(self.plan.control), why=why, event="control",
            )  # fmt: skip

    def stopService(self) -> Deferred[None]:  # noqa: N802
        self._course.cancel()
        stopped = super().stopService()
        stopped.addCallback(lambda _: self._stopped())
        return stopped

    def _stopped(self) -> None:
        if self._watchdog is not None:
            self._watchdog.stop()
        self._garbage.stop()
        self._notify.close()
        self._carried.remove_pid_file()

    def changed_settings(self, old: Plan, new: Plan) -> None:
        """The log follows the plan at once."""
        if self._observer is not None and self._destination is not None and old.log != new.log:
            style = logs.chosen_format(new.log, self._destination, os.environ)
            self._observer.change(new.log.level, style)
            self._to_a_person = self._foreground and style == "text"

    def _process_values(self) -> dict[str, Any]:
        log = None if self._destination is None else self._destination.freeze()
        return {**self._carried.values(), "log": log}

    def _last_words(self) -> None:
        """The next thing that happens is that another program begins."""
        self.reports.reloading()
        self._notify.close()

    def _tell_upgraded(self, handed: Handover) -> None:
        now = time.monotonic()
        seconds, pause = now - handed.begun, now - handed.held
        result = {
            "version": sockd.__version__,
            "seconds": round(seconds, 3),
            "pause": round(pause, 3),
            "connections": self._went_on,
            "drained": handed.drained,
            "listeners": sum(bool(listener.endpoint or listener.name) for listener in handed.listeners),
        }
        text = (
            f"from {handed.version} to {sockd.__version__} in {seconds:.2f}s, clients waited {pause:.2f}s; "
            f"{counted(self._went_on, 'connection')} kept"
        )
        self.last_upgrade = Outcome(True, text)
        self.log.info("upgraded {text}", text=text, event="upgraded")
        for asker in self._askers:
            asker.answer(result)

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
        if self._handed is not None:
            handed, self._handed = self._handed, None
            self._tell_upgraded(handed)
            return True
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
    # What the imports left behind goes; what comes now stays, and needn't be looked through again and again.
    gc.collect()
    gc.disable()
    upgraded = passing.VARIABLE in os.environ
    try:
        handed = passing.take(os.environ)
        directories = handed.directories if handed else process.directories(os.environ, os.getuid())
        file = Path(options["config"] or os.environ.get("SOCKD_CONFIG") or USUAL_FILE)
        plan = _read(file, directories, parent)
        sockets = passing.adopt(handed) if handed else {}
    except SockdError as error:
        logs.complain(str(error), os.environ)
        # All was right in the rehearsal a moment ago: systemd is to start us anew.
        raise SystemExit(os.EX_SOFTWARE if upgraded else os.EX_CONFIG) from None
    # Whoever asks later may be elsewhere; and twistd changes its directory before the service starts.
    file = file.absolute()
    if handed is None and (refusal := _refusal(file, directories, parent)):
        logs.complain("\n".join(refusal), os.environ)
        raise SystemExit(os.EX_NOPERM)
    # Before the reactor has any threads of its own.
    reactor.getThreadPool().threadFactory = ShelteredThread  # type: ignore[attr-defined]
    reserve.keep()
    process.make_directories(directories, parent.get("uid"), parent.get("gid"))
    plan = replace(plan, file=file)
    aside = partial(_read_aside, file, directories, parent)
    daemon = Top(plan, reactor, parent, aside, directories, handed, sockets)
    daemon.take_signals()
    # Once more when the reactor has installed its own, which would have the process end by the signal.
    reactor.callWhenRunning(daemon.take_signals)
    reactor.callWhenRunning(resume_signals)
    return daemon


def _refusal(file: Path, directories: Directories, parent: Any) -> tuple[str, ...]:
    """Why the user of twistd's options could not reload the file, if any is given."""
    uid, gid = parent.get("uid"), parent.get("gid")
    if uid is None and gid is None:
        return ()
    reading = partial(_read, file, directories, parent)
    return process.refusal_as(uid, gid, bool(parent.get("euid")), reading)


def _here() -> Path:
    try:
        return Path.cwd()
    except OSError:  # somebody has removed it
        return Path("/")


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
    try:
        plan = reserve.take(partial(read, file, directories))
    except OSError as error:  # of looking for what is installed
        raise SockdError(f"{file}: the file can't be read: {error.strerror or error}") from error
    return budget.compared(plan, reserve.limit()).run_as(parent.get("uid"), parent.get("gid"))


def run(file: Path) -> None:
    """`sockd run`: twistd in the foreground without a pid file, in this process."""
    try:
        handed = passing.peek(os.environ)
    except SockdError as error:
        logs.complain(str(error), os.environ)
        sys.exit(os.EX_SOFTWARE)
    if handed is not None:
        carried.take_name(handed.comm)
    sys.argv = ["twistd", *_twistd_arguments(handed, file)]
    if hasattr(select, "epoll") and (handed is None or not _names_reactor(handed.options)):
        from sockd import reactor  # noqa: PLC0415

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
