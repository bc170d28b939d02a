"""What a file looks like to the user that the daemon runs as, which may be less than root sees.

A child process takes that user's rights and reads the file, as a reload would. Where a daemon runs, its own
groups count, which it has had since it was started, and so does its view of the file system (its mount
namespace): a unit may hide directories, or make them read-only.
"""

import grp
import os
import pwd
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sockd.base.account import Account
from sockd.base.errors import FileWrongError, SockdError
from sockd.base.hidden import SETTINGS, SHOWING, hidden_by_settings
from sockd.config.source import DEFAULT_FILE
from sockd.control.language import Json, Refused
from sockd.plan.plan import Plan
from sockd.process import proc
from sockd.process.rights import Rights
from sockd.process.user import said_by_child
from sockd.transports.sockets.options import SocketOptions

_NEW_MOUNTS = 0x00020000  # CLONE_NEWNS (linux/sched.h)
SYSTEMD = Path("/run/systemd/system")  # there where systemd runs (sd_booted(3))
_SYSTEMCTL_TIMEOUT = 5.0  # seconds
_COMMAND_LINE_WRONG = 2  # the status that click gives it, too
_DYNAMIC_USER = 61184  # the first uid that systemd gives to a DynamicUser= (systemd.exec(5))
# Where systemd keeps the directories of a DynamicUser=: only inside the unit can that user enter them.
_PRIVATE = re.compile("/(?:var/(?:log|lib|cache)|run)/private(?:/|$)")


@dataclass(frozen=True)
class Viewpoint:
    """A user, in words too, and the daemon that runs as that user, if one does."""

    account: Account
    words: str
    pid: int | None = None
    settings: Mapping[str, str] = field(default_factory=dict)  # of a unit that doesn't run


def named(text: str, ask: Callable[[], Json]) -> Viewpoint:
    """As `--as` names it: USER, or USER:GROUP,… for groups that only the unit gives.

    A daemon that runs as this user has the groups that count, unless some are named.
    """
    user, _, more = text.partition(":")
    running = _running(ask)
    try:
        uid = int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
        if running is not None and running.account.uid == uid and not more:
            return running
        account = Account.of(uid, uid if user.isdecimal() and not _known(uid) else None)
        groups = [_group(name) for name in more.split(",") if name]
    except KeyError as error:
        # `pwd` and `grp` say what they looked for: "getpwnam(): name not found: 'ann'"
        why = str(error.args[0]).partition(": ")[2]
        raise Refused(
            _COMMAND_LINE_WRONG,
            f"--as {text}: {why} (the user of a unit with DynamicUser= exists only while the unit runs)",
        ) from None
    account = Account(account.uid, account.gid, (*account.groups, *groups))
    return Viewpoint(account, f"the user {account.name}")


def found(file: Path, ask: Callable[[], Json]) -> Viewpoint | None:
    """That of the daemon which runs, or whose unit would run, with this file; None where none is known."""
    running = _running(ask, file)
    return running or _of_unit(file)


def problems(view: Viewpoint, file: Path, read: Callable[[Path], Plan]) -> tuple[str, ...]:
    """What this user can't read of the file, and where it can't write, in lines."""
    file = file.absolute()
    return tuple(f"{line} (as {view.words})" for line in said_by_child(lambda: _seen(view, file, read)))


def _seen(view: Viewpoint, file: Path, read: Callable[[Path], Plan]) -> Iterator[str]:
    if view.pid is not None:
        _enter_mounts(view.pid)
    if os.geteuid() == 0:
        os.setgroups(view.account.groups)
        os.setgid(view.account.gid)
        os.setuid(view.account.uid)
    try:
        plan = read(file)
    except FileWrongError as error:
        yield from map(str, error.problems)
    except SockdError as error:
        yield str(error)
    else:
        yield from _unwritable(plan, view.pid is not None)
        yield from _unreadable(plan, view.settings)


def _unwritable(plan: Plan, inside: bool) -> Iterator[str]:
    rights = Rights.ours()
    sockets = [(listener.address, listener.socket, e) for e in plan.endpoints for listener in e.listeners]
    for address, options, endpoint in sockets:
        if address.kind.local and not _hidden(address.path, inside):
            why = rights.missing(address, options)
            if why:
                yield f"{endpoint.place}: endpoints.{endpoint.name}: {address}: {why}"
    if plan.control is not None and not _hidden(plan.control.path, inside):
        why = rights.missing(plan.control, SocketOptions(group=plan.control_group))
        if why:
            yield f"{plan.file}: daemon.control: {plan.control}: {why}"
    files = [
        (f"{endpoint.place}: endpoints.{endpoint.name}", path)
        for endpoint in plan.endpoints
        for path in endpoint.options.files()
    ]
    if plan.log.to.startswith("/"):
        files.append((f"{plan.file}: daemon.log.to", Path(plan.log.to)))
    for where, path in files:
        if not _hidden(str(path), inside) and (why := _unappendable(path)):
            yield f"{where}: {why}"


def _unreadable(plan: Plan, settings: Mapping[str, str]) -> Iterator[str]:
    for endpoint in plan.endpoints:
        for path in endpoint.options.hosted().reads:
            if why := hidden_by_settings(path, settings):
                yield f"{endpoint.place}: endpoints.{endpoint.name}: {path} can't be read{why}"


def _hidden(path: str, inside: bool) -> bool:
    """Whether nobody outside the unit can say: its directory is made at a start, or is the unit's own."""
    directory = os.path.realpath(os.path.dirname(path))
    return path.startswith("@") or (not inside and bool(_PRIVATE.match(directory))) or not _there(directory)


def _there(directory: str) -> bool:
    try:
        os.stat(directory)
    except FileNotFoundError:
        return False
    except OSError:
        pass
    return True


def _unappendable(path: Path) -> str:
    """Why the file can't be written to, now or after it was rotated; "" where it can."""
    may_make = os.access(path.parent, os.W_OK | os.X_OK)
    if not (os.access(path, os.W_OK) if os.path.lexists(path) else may_make):
        return f"no right to write to {path}"
    # What logrotate doesn't rename, such as a FIFO or /dev/stdout, stays where it is.
    if not may_make and path.is_file() and not path.is_symlink():
        return f"{path}: no right to make it again in {path.parent}, when it has been renamed"
    return ""


def _enter_mounts(pid: int) -> None:
    import ctypes  # noqa: PLC0415 - for this alone

    with suppress(OSError):  # it has ended, or this isn't root: then what everybody sees has to do
        descriptor = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        ctypes.CDLL(None).setns(descriptor, _NEW_MOUNTS)
        os.close(descriptor)


def _running(ask: Callable[[], Json], file: Path | None = None) -> Viewpoint | None:
    """That of the daemon which answers, if it runs this file."""
    try:
        status = ask()
        pid = int(status["pid"])
        same = file is None or os.path.samefile(file, status["file"])
        account = _account_of(pid)
    except (Refused, OSError, LookupError, TypeError, ValueError, ArithmeticError):
        return None  # nobody answers, or it isn't sockd
    words = f"the user {account.name}, with the groups that the running daemon has (process {pid})"
    return Viewpoint(account, words, pid) if same else None


def _account_of(pid: int) -> Account:
    found = proc.status(pid)
    uid, gid = (int(found[name].split()[1]) for name in ("Uid", "Gid"))
    return Account(uid, gid, tuple(map(int, found["Groups"].split())))


def _of_unit(file: Path) -> Viewpoint | None:
    directory = Path(DEFAULT_FILE).parent
    if not SYSTEMD.exists() or file.absolute().parent != directory or file.suffix != ".yaml":
        return None
    import subprocess  # noqa: PLC0415 - for this alone

    unit = "sockd.service" if str(file.absolute()) == DEFAULT_FILE else f"sockd@{file.stem}.service"
    asked = ("LoadState", "User", "DynamicUser", "SupplementaryGroups", *SETTINGS, *SHOWING)
    command = ["systemctl", "show", "-p", ",".join(asked), "--", unit]
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=_SYSTEMCTL_TIMEOUT, check=True
        )
        values = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
        if values["LoadState"] != "loaded":
            return None
        groups = [_group(name) for name in values["SupplementaryGroups"].split()]
        account = _unit_user(values["User"], values["DynamicUser"] == "yes")
    except (OSError, subprocess.SubprocessError, LookupError):
        return None
    account = Account(account.uid, account.gid, (*account.groups, *groups))
    return Viewpoint(account, f"the user that {unit} runs as", settings=values)


def _unit_user(name: str, dynamic: bool) -> Account:
    try:
        return Account.of(pwd.getpwnam(name).pw_uid)
    except KeyError:
        if not dynamic:
            raise
        return Account(_DYNAMIC_USER, _DYNAMIC_USER, (_DYNAMIC_USER,))


def _known(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _group(name: str) -> int:
    return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
