"""The daemon as a process that twistd runs."""

import atexit
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, Logger

import sockd
from sockd.base import descriptors
from sockd.base.account import Account
from sockd.base.errors import SystemLacksError
from sockd.base.reactor import MainReactor, ProcessReactor, Timer
from sockd.base.units import counted
from sockd.commands import commands
from sockd.control.conversation import Conversation
from sockd.control.status import Outcome
from sockd.control.welcome import welcome
from sockd.daemon import Daemon
from sockd.log import TwistdOptions, own_log
from sockd.plan import budget
from sockd.plan.build import read
from sockd.plan.changes import Changes, Setting
from sockd.plan.plan import Plan
from sockd.process import only_reactor
from sockd.process.directories import Directories
from sockd.process.last_resort import LastResort
from sockd.process.log_destination import ANSWER_LIMIT
from sockd.process.pid_file import PidFile
from sockd.process.rights import Rights
from sockd.process.switches import Switches
from sockd.process.user import is_root, refusal_as
from sockd.sinks.thread import WorkerThread
from sockd.systemd.inherited import environment_at_exec, take
from sockd.systemd.notify import Notify, Watchdog, fd_store_size
from sockd.systemd.store import FdStore, adopt
from sockd.tree.origin import Origin
from sockd.tree.unraisable import Unraisable
from sockd.upgrade import thawing
from sockd.upgrade.carried import Carried
from sockd.upgrade.course import Course
from sockd.upgrade.value import Handover, ProcessValues, UpgradeRefusedError

# Seconds for which systemd's watchdog waits for the new program of an upgrade: the shipped units' interval.
_UPGRADE_WATCHDOG = 30.0
# Seconds for which the end of the process waits for the log's disk: less than LastResort's EXIT_TIME, and
# less than its _LAST_WORDS where the process is ended by force.
_LOG_EXIT_TIME, _LOG_FORCED_TIME = 0.8, 0.2
# Seconds between two tries to have a thread watch over stops.
_WATCH_RETRY = 5.0


class Program(Daemon):
    """A daemon with what it has as a process: signals, an exit status, a log, a watchdog, and upgrades.

    `read()` is called in a thread, and gives the plan of the file as it is then. Where another program ran in
    this process before, `handed` is what it handed over, and `sockets` are its sockets by their numbers.
    `user` is the one that the daemon, while it is root, is going to be.
    """

    def __init__(
        self,
        plan: Plan,
        reactor: ProcessReactor,
        options: TwistdOptions,
        read: Callable[[], Plan],
        directories: Directories,
        switches: Switches,
        handed: Handover | None = None,
        sockets: Mapping[int, socket.socket] = MappingProxyType({}),
        user: Account | None = None,
        pid_file: PidFile | None = None,
    ) -> None:
        log = Logger("sockd")
        notify = Notify.from_environment(os.environ, reactor, log)
        store = FdStore(notify, fd_store_size(os.environ))
        super().__init__(
            plan,
            reactor,
            self._leave,
            self._welcome,
            read=lambda: Deferred.fromCoroutine(self._read_in_thread()),
            sockets=adopt(take(os.environ, os.getpid(), environment_at_exec()), store, log)
            if handed is None
            else thawing.sockets_of(handed, sockets, store),
            notify=notify,
            numbers=count(1 if handed is None else handed.numbers),
        )
        self._handed = handed  # until this program has said that it goes on
        self._sockets = sockets
        self._resumed = 0  # connections of the program before
        self._askers: list[Conversation] = []  # that asked the program before for the upgrade
        if handed is not None:
            thawing.before_start(self, handed)
        self._switches = switches
        self._read_plan = read
        self._notify = notify
        self._watchdog: Watchdog | None = None
        self._carried = Carried.of(options, directories, handed, pid_file)
        self._course = Course(self, self._process_values, os.environ, self._before_exec)
        self.commands = commands(self, self._course.upgrade)
        self._stop_reactor = only_reactor.stopping(reactor)
        self._stop_asked = False
        self._stopped_in_order = False
        self._status = os.EX_OK  # that the process is to end with
        self.last_resort: LastResort | None = None  # of a process that has nothing but this program
        self._watch_again: Timer | None = None
        self._started_in = working_directory()
        self.around.sockets.user = user
        self._own_log = own_log(options, plan.log, handed.log if handed else None, os.environ, user)
        self._origin = Origin(lambda: self.everywhere)
        if self._own_log is not None:
            self._own_log.observer.origin = self._origin.of_event

    # Any: Twisted's Application, which is a Componentized and more.
    def setServiceParent(self, parent: Any) -> None:  # noqa: N802
        super().setServiceParent(parent)
        if self._own_log is not None:
            parent.setComponent(ILogObserver, self._own_log.observer)

    async def _read_in_thread(self) -> Plan:
        # Of its own: hosted protocols may have all threads of the reactor's pool busy.
        worker = WorkerThread(self._reactor, "reads the file")
        try:
            with self._switches.held():
                return await worker.run(self._read_plan)
        finally:
            worker.end()

    # -- start

    def take_signals(self) -> None:
        """SIGTERM and SIGINT stop it, with status 0; HUP reloads, USR1 reopens files, USR2 upgrades."""
        if self.last_resort is not None and self.running:
            self._watch_stops(self.last_resort)
        for number in (signal.SIGTERM, signal.SIGINT):
            on_signal(self._reactor, number, self._stop_or_hurry, self.last_resort)
        on_signal(self._reactor, signal.SIGHUP, self.reloading.by_signal)
        on_signal(self._reactor, signal.SIGUSR1, self.reopen)
        on_signal(self._reactor, signal.SIGUSR2, self._course.by_signal)

    def _watch_stops(self, last_resort: LastResort) -> None:
        """Have it watch; again later, where the system has no thread for it now."""
        last_resort.watch()
        again = self._watch_again
        if last_resort.watching or (again is not None and again.active()):
            return
        if again is None:
            self.log.warn(  # noqa: G010
                "there is no thread to watch over a stop; trying again every {delay:g}s",
                delay=_WATCH_RETRY, event="short",
            )  # fmt: skip
        self._watch_again = self._reactor.callLater(_WATCH_RETRY, self._watch_stops, last_resort)

    def privilegedStartService(self) -> None:  # noqa: N802
        """Bind the addresses; daemonizing is over, so that the pid is the one that stays."""
        if self._carried.pid_file is not None:
            self._carried.pid_file.write()
        super().privilegedStartService()

    def startService(self) -> None:  # noqa: N802
        """Start all; from here on the process is the one that serves, as daemonizing is over."""
        self._origin.start()
        if self._own_log is not None:
            self._own_log.begin()
        if self.last_resort is not None:
            atexit.register(self._settle_log, _LOG_EXIT_TIME)
            Unraisable(self._reactor, self.log, self._origin.of_exception).install()
            self._watch_stops(self.last_resort)
        super().startService()
        if self._handed is None:
            self._warn_of_rights()
        else:
            self._resumed = thawing.after_start(self, self._handed, self._sockets)
            self._askers = list(thawing.askers(self, self._handed, self._sockets))
        self._watchdog = Watchdog(
            self._notify, self._reactor, os.environ, self.log, prolonged=self._handed is not None
        )
        self._watchdog.start()
        self.holds.follow(self.plan)
        self._switches.start()
        only_reactor.hand_over()

    def _warn_of_rights(self) -> None:
        """Log which rights left to the process are a risk, and what those it has lost make impossible."""
        if is_root():
            self.log.warn(  # noqa: G010
                "running as root: anyone who breaks into sockd controls the machine. With --uid=USER, or "
                "under systemd, it gives root up once the addresses are bound",
                event="root",
            )
        why = self.controls.missing(self.plan, Rights.ours())
        if why:
            self.log.warn(  # noqa: G010
                "control: {address} can't be opened again, should that be needed: {why}",
                address=str(self.plan.control), why=why, event="control",
            )  # fmt: skip

    def _welcome(self, daemon: Daemon) -> bool:
        """Say that it serves, where the log alone is not enough; True: a person was shown what listens."""
        if self._handed is not None:
            handed, self._handed = self._handed, None
            self._report_upgraded(handed)
            return True
        if self._own_log is None or not self._own_log.read_by_person:
            return False
        self._own_log.write(welcome(daemon.endpoints, self._started_in, self._own_log.width()))
        return True

    def _report_upgraded(self, handed: Handover) -> None:
        now = time.monotonic()
        seconds, pause = now - handed.begun, now - handed.held
        result = {
            "version": sockd.__version__,
            "seconds": round(seconds, 3),
            "pause": round(pause, 3),
            "connections": self._resumed,
            "drained": handed.drained,
            "listeners": sum(bool(listener.endpoint or listener.name) for listener in handed.listeners),
        }
        text = (
            f"from {handed.version} to {sockd.__version__} in {seconds:.2f}s, clients waited {pause:.2f}s; "
            f"{counted(self._resumed, 'connection')} kept"
        )
        self.last_upgrade = Outcome(True, text)
        self.log.info(
            "upgraded {text}",
            text=text, old=handed.version, new=sockd.__version__, seconds=seconds, pause=pause,
            connections=self._resumed, event="upgraded",
        )  # fmt: skip
        for asker in self._askers:
            asker.answer(result)

    # -- while it runs

    def changed_settings(self, changes: Changes) -> None:
        """The log follows the plan, and so does the watch over the reactor."""
        self.holds.follow(changes.new)
        if self._own_log is not None and Setting.LOG in changes.settings:
            try:
                self._own_log.follow(changes.new.log)
            except OSError as error:
                self.log.error(  # noqa: TRY400 - a reason, not a bug
                    "the log can't go to {to}, and stays where it is: {why}",
                    to=changes.new.log.to, why=error.strerror, event="log",
                )  # fmt: skip

    def reopen(self) -> None:
        """Open the log's file anew as well."""
        super().reopen()
        if self._own_log is not None:
            try:
                self._own_log.reopen()
            except OSError as error:
                self.log.error(  # noqa: TRY400 - a reason, not a bug
                    "the log can't be reopened: {why}", why=error.strerror, event="log"
                )

    def _process_values(self) -> ProcessValues:
        """The fields of a Handover that are the process's."""
        try:
            log = None if self._own_log is None else self._own_log.freeze()
        except OSError as error:
            raise UpgradeRefusedError(f"the log can't be handed over: {error.strerror}") from None
        return {**self._carried.values(), "log": log}

    def _before_exec(self) -> None:
        """The next thing that happens is that another program begins: tell systemd."""
        self.reports.reloading()
        if self._watchdog is not None:
            self._watchdog.prolong(_UPGRADE_WATCHDOG)
        self._notify.close()
        self._settle_log(ANSWER_LIMIT)

    def _settle_log(self, limit: float) -> None:
        """What is logged is written, if the disk answers within so many seconds."""
        if self._own_log is not None:
            self._own_log.settle(limit)

    # -- stop

    def _stop_or_hurry(self) -> None:
        """Stop; when that has been asked for already, end what is still open."""
        if self._stop_asked:
            self.hurry()
        else:
            self._stop_asked = True
            self._stop_reactor()

    def guard_stops(self) -> None:
        """Have the process end in time, whatever holds its main thread; for good, once it has started."""
        self.last_resort = LastResort(
            lambda: self.plan.drain, self._reactor.callFromThread, self._asked_again, self._end_by_force
        )

    def _asked_again(self) -> None:
        if not self._stop_asked:
            self._stop_or_hurry()
        self.hurry()

    def _end_by_force(self, why: str) -> NoReturn:
        """Called in a thread: the main one does not come back."""
        log = self.log
        if self._stopped_in_order and self._own_log is not None:
            log = Logger("sockd", observer=self._own_log.observer)  # twistd has stopped its own
        tell = log.warn if self._stopped_in_order else log.critical
        try:
            tell("{why}; sockd ends without waiting for it", why=why, event="forced")
            for endpoint in self.everywhere:
                endpoint.log_lost(log)
            if self._carried.pid_file is not None:
                self._carried.pid_file.remove()
            self._settle_log(_LOG_FORCED_TIME)
        finally:
            os._exit(self._status if self._stopped_in_order else os.EX_SOFTWARE)

    def _leave(self, status: int) -> None:
        self._status = status
        exit_with(status, lambda: self._settle_log(_LOG_EXIT_TIME))
        if not self._stop_asked:
            self._stop_or_hurry()

    def stopService(self) -> Deferred[None]:  # noqa: N802
        if self.last_resort is not None:
            self.last_resort.stopping()
        self._course.cancel()
        stopped = super().stopService()
        stopped.addCallback(lambda _: self._stopped())
        return stopped

    def _stopped(self) -> None:
        self.holds.stop()
        self._origin.stop()
        self._stopped_in_order = True
        if self.last_resort is not None:
            self.last_resort.stopped()
        if self._watchdog is not None:
            self._watchdog.stop()
        self._switches.stop()
        self._notify.close()
        if self._carried.pid_file is not None:
            self._carried.pid_file.remove()


def working_directory() -> Path:
    try:
        return Path.cwd()
    except OSError:  # somebody has removed it
        return Path("/")


def read_file(file: Path, directories: Directories, options: TwistdOptions) -> Plan:
    """The plan of the file, for the user that twistd's options name; SockdError where there is none."""
    try:
        plan = descriptors.take(partial(read, file, directories))
    except OSError as error:  # of looking for what is installed
        raise SystemLacksError(f"{file}: the file can't be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise SystemLacksError(f"{file}: the file can't be read: there is too little memory") from error
    return budget.compared(plan, descriptors.limit()).run_as(options.get("uid"), options.get("gid"))


def refusal(file: Path, directories: Directories, options: TwistdOptions) -> tuple[str, ...]:
    """Why the user that twistd's options name could not reload the file; empty where none is named."""
    uid, gid = options.get("uid"), options.get("gid")
    if uid is None and gid is None:
        return ()
    reading = partial(read_file, file, directories, options)
    return refusal_as(uid, gid, bool(options.get("euid")), reading)


def on_signal(
    reactor: MainReactor,
    number: signal.Signals,
    handler: Callable[[], None],
    last_resort: LastResort | None = None,
) -> None:
    """Call `handler` in the reactor, soon after this signal came."""

    def handle(*_: object) -> None:
        if last_resort is not None:
            last_resort.handle(number)
        reactor.callFromThread(handler)

    signal.signal(number, handle)


def exit_with(status: int, last: Callable[[], None]) -> None:
    """Once everything has been cleaned up, end with this status: twistd and the reactor know of none.

    `last()` is called before: nothing that was registered for the exit earlier is.
    """

    def leave() -> None:
        last()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)

    atexit.register(leave)
