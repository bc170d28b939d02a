"""The daemon as a process: signals, exit status, and what is read before the reactor runs."""

import atexit
import gc
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
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import ILogObserver, Logger

import sockd
from sockd import log as logs
from sockd.base import descriptors
from sockd.base.errors import SockdError
from sockd.base.units import counted
from sockd.commands import commands
from sockd.control.status import Outcome
from sockd.control.welcome import welcome
from sockd.daemon import Daemon
from sockd.plan import budget
from sockd.plan.build import read
from sockd.plan.plan import Plan
from sockd.process.directories import Directories
from sockd.process.rights import Rights, is_root, refusal_as
from sockd.systemd.inherited import environment_at_exec, take
from sockd.systemd.notify import Notify, Watchdog, fd_store_size
from sockd.systemd.store import FdStore, adopt
from sockd.upgrade import thawing
from sockd.upgrade.carried import Carried
from sockd.upgrade.course import Course
from sockd.upgrade.value import Handover

# Seconds that systemd's watchdog waits for the new program of an upgrade; the shipped units' interval.
_TAKING_OVER = 30.0


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
        self._carried = Carried.of(parent, directories, handed)
        self._course = Course(self, self._process_values, os.environ, self._last_words)
        self.commands = commands(self, self._course.upgrade)
        self._asked = False  # to stop
        self._here = here()
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
            on_signal(self._reactor, number, self._asked_to_stop)
        on_signal(self._reactor, signal.SIGHUP, self.reloading.by_signal)
        on_signal(self._reactor, signal.SIGUSR1, self.reopen)
        on_signal(self._reactor, signal.SIGUSR2, self._course.by_signal)

    def startService(self) -> None:  # noqa: N802
        """Once daemonized: the watchdog is told who we are now."""
        super().startService()
        if self._handed is None:
            self._tell_rights()
        else:
            self._went_on = thawing.after_start(self, self._handed, self._sockets)
            self._askers = list(thawing.askers(self, self._handed, self._sockets))
        self._watchdog = Watchdog(
            self._notify, self._reactor, os.environ, self.log, prolonged=self._handed is not None
        )
        self._watchdog.start()
        self._garbage.start()

    def _tell_rights(self) -> None:
        """What is risky of those that are left, and what is not possible without those that are not."""
        if is_root():
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
        if self._watchdog is not None:
            self._watchdog.prolong(_TAKING_OVER)
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
        exit_with(status)
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


def refusal(file: Path, directories: Directories, parent: Any) -> tuple[str, ...]:
    """Why the user of twistd's options could not reload the file, if any is given."""
    uid, gid = parent.get("uid"), parent.get("gid")
    if uid is None and gid is None:
        return ()
    reading = partial(read_file, file, directories, parent)
    return refusal_as(uid, gid, bool(parent.get("euid")), reading)


def here() -> Path:
    try:
        return Path.cwd()
    except OSError:  # somebody has removed it
        return Path("/")


def read_aside(file: Path, directories: Directories, parent: Any) -> Plan:
    """The same in a thread: the reactor's turns stay short meanwhile."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    gc.disable()
    try:
        return read_file(file, directories, parent)
    finally:
        gc.enable()
        sys.setswitchinterval(interval)


def read_file(file: Path, directories: Directories, parent: Any) -> Plan:
    try:
        plan = descriptors.take(partial(read, file, directories))
    except OSError as error:  # of looking for what is installed
        raise SockdError(f"{file}: the file can't be read: {error.strerror or error}") from error
    return budget.compared(plan, descriptors.limit()).run_as(parent.get("uid"), parent.get("gid"))


# Of Python's own accord: what is young often, as it is little, and everything after a growth of some 350,000
# objects. By its own rule it would look through everything after each growth by a quarter, which takes 40 ms
# with 10,000 connections. An ended connection leaves nothing behind; a third party's protocol may.
THRESHOLDS = (700, 5, 100)
# Seconds between two looks at everything, if there were so many at what is young meanwhile.
EVERY = 60.0
ENOUGH = 10


class Garbage:
    """From `start` on this daemon's rules hold, for the process."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._timer: Any = None

    def start(self) -> None:
        """What lives now mostly lives to the end, and is never looked at again."""
        gc.freeze()
        gc.set_threshold(*THRESHOLDS)
        gc.enable()
        self._timer = self._reactor.callLater(EVERY, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = self._reactor.callLater(EVERY, self._look)
        if gc.get_count()[2] >= ENOUGH:
            gc.collect()


def on_signal(reactor: Any, number: signal.Signals, handler: Callable[[], None]) -> None:
    """Call `handler` in the reactor, soon after this signal came."""
    signal.signal(number, lambda *_: reactor.callFromThread(handler))


def exit_with(status: int) -> None:
    """Once everything has been cleaned up, end with this status: twistd and the reactor know of none."""

    def leave() -> None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)

    atexit.register(leave)
