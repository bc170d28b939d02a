"""The door of `twistd sockd -c FILE`."""

import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from twisted.python import usage

import sockd
from sockd import log
from sockd.base import descriptors
from sockd.base.account import Account
from sockd.base.errors import SockdError, SystemLacksError
from sockd.base.paths import absolute
from sockd.base.reactor import ProcessReactor
from sockd.config.source import DEFAULT_FILE
from sockd.log import TwistdOptions
from sockd.process import only_reactor
from sockd.process.directories import directories as directories_of
from sockd.process.directories import make_directories
from sockd.process.pid_file import PidFile
from sockd.process.replaced import refuse_replacements
from sockd.process.switches import Switches, settle
from sockd.program import Program, read_file, refusal
from sockd.sinks.thread import PoolThread
from sockd.transports.twisted import follow_reactor
from sockd.upgrade import passing
from sockd.upgrade.signals import hold_signals, resume_signals


class Options(usage.Options):
    """What `twistd sockd --help` shows."""

    synopsis = "[-c FILE]"
    longdesc = (
        "A network daemon: one YAML file, TCP, UDP and Unix-socket endpoints, one supervised service tree."
    )
    optParameters = (  # noqa: N815
        ("config", "c", None, f"The file; else $SOCKD_CONFIG, else {DEFAULT_FILE}"),
    )

    pid_file: Path | None = None

    def __init__(self) -> None:
        descriptors.open_standard()
        super().__init__()

    def postOptions(self) -> None:  # noqa: N802
        """Take the pid file over from twistd, which would open and remove it as root through any link."""
        parent: Any = self.parent or {}  # Any: twistd's options, which have no types
        if parent.get("pidfile"):
            try:
                self.pid_file = absolute(parent["pidfile"])
            except SockdError as error:
                sys.exit(f"--pidfile: {error}")
            parent["pidfile"] = ""

    def opt_version(self) -> None:
        """Print sockd's version and exit."""
        print(f"sockd {sockd.__version__}")  # noqa: T201
        sys.exit(0)


def makeService(options: Options) -> Program:  # noqa: N802
    """The daemon for this file. SystemExit, and the problems on stderr, where there is none."""
    hold_signals()
    try:
        from twisted.internet import reactor  # noqa: PLC0415 - doors alone may, and not before they must
    except OSError as error:
        log.complain([f"Twisted's reactor can't be made: {error.strerror or error}"], os.environ)
        raise SystemExit(os.EX_OSERR) from None
    if descriptors.limit() < descriptors.LEAST:
        why = (
            f"sockd needs {descriptors.LEAST} file descriptors or more, and the process may have "
            f"{descriptors.limit()} (ulimit -Hn, LimitNOFILE=)"
        )
        log.complain([why], os.environ)
        raise SystemExit(os.EX_OSERR)
    refuse_replacements()
    settle(reactor, PoolThread)
    follow_reactor(reactor)
    only_reactor.keep(reactor)
    switches = Switches(reactor)
    switches.prepare()
    try:
        program = _program(options, options.parent or {}, cast("ProcessReactor", reactor), switches)
    except BaseException:
        switches.stop()
        raise
    program.guard_stops()
    program.take_signals()
    # Once more when the reactor has installed its own, which would have the process end by the signal.
    reactor.callWhenRunning(program.take_signals)
    reactor.callWhenRunning(resume_signals)
    # Not before: Twisted opens some of its own when the reactor starts.
    reactor.callWhenRunning(descriptors.reserve)
    return program


def _program(options: Options, parent: TwistdOptions, reactor: ProcessReactor, switches: Switches) -> Program:
    """All that can be wrong with the file or the handover shows here, before anything is opened."""
    upgraded = passing.VARIABLE in os.environ
    try:
        handed = passing.take(os.environ)
        directories = handed.directories if handed else directories_of(os.environ, os.getuid())
        file = Path(options["config"] or os.environ.get("SOCKD_CONFIG") or DEFAULT_FILE)
        plan = read_file(file, directories, parent)
        sockets = passing.adopt(handed) if handed else {}
    except SockdError as error:
        log.complain(error.lines, os.environ)
        wrong = os.EX_OSERR if isinstance(error, SystemLacksError) else os.EX_CONFIG
        # All was right in the rehearsal a moment ago: systemd is to start sockd anew.
        raise SystemExit(os.EX_SOFTWARE if upgraded else wrong) from None
    # twistd changes its directory before the service starts, and a reload comes later still.
    file = absolute(file)
    if handed is None and (why := refusal(file, directories, parent)):
        log.complain(why, os.environ)
        raise SystemExit(os.EX_NOPERM)
    descriptors.use_all()
    user = _user(parent)
    make_directories(directories, user)
    read = partial(read_file, file, directories, parent)
    plan = replace(plan, file=file)
    try:
        pid_file = None if options.pid_file is None else PidFile.take(options.pid_file, _mode(parent), user)
    except SockdError as error:
        log.complain(error.lines, os.environ)
        raise SystemExit(1) from None  # as twistd ends where its pid file is another daemon's
    try:
        return Program(plan, reactor, parent, read, directories, switches, handed, sockets, user, pid_file)
    except BaseException:
        if pid_file is not None:
            pid_file.remove()
        raise


def _user(parent: TwistdOptions) -> Account | None:
    """The user that twistd makes this process once the addresses are bound; None: it stays as it is."""
    uid = parent.get("uid")
    return None if uid in (None, os.geteuid()) else Account.of(uid, parent.get("gid"))


def _mode(parent: TwistdOptions) -> int:
    """That of the pid file, by the umask that twistd is going to set."""
    mask = parent.get("umask")
    if mask is None and not parent.get("nodaemon"):
        mask = 0o077
    if mask is None:
        mask = os.umask(0o077)
        os.umask(mask)
    return 0o666 & ~int(mask)
