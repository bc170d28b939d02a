"""What is of the process, not of the tree: its directories, signals and exit status."""

import atexit
import os
import pwd
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sockd.errors import FileWrongError, SockdError

if TYPE_CHECKING:
    from sockd.plan import Directories

SYSTEM_RUNTIME = Path("/run/sockd")


def directories(environ: Mapping[str, str], uid: int) -> "Directories":
    """Where relative paths lead: as systemd says, else root's usual places, else the user's own."""
    from sockd.plan import Directories  # noqa: PLC0415 - `sockd status` does without, and starts the sooner

    runtime = _first(environ.get("RUNTIME_DIRECTORY"))
    logs = _first(environ.get("LOGS_DIRECTORY"))
    if uid == 0:
        return Directories(runtime or SYSTEM_RUNTIME, logs or Path("/var/log/sockd"))
    return Directories(runtime or _user("user_runtime_path"), logs or _user("user_log_path"))


def runtime_directories(environ: Mapping[str, str], uid: int) -> Iterator[Path]:
    """Where the daemon that somebody asks for may have its sockets; the likeliest first."""
    if runtime := _first(environ.get("RUNTIME_DIRECTORY")):
        yield runtime
        return
    yield SYSTEM_RUNTIME
    if uid != 0:
        yield _user("user_runtime_path")


def _first(value: str | None) -> Path | None:
    """Of several directories, separated by colons, the first; a relative one is meant from here."""
    for path in (value or "").split(":"):
        if path:
            return Path(path).absolute()
    return None


def _user(kind: str) -> Path:
    import platformdirs  # noqa: PLC0415 - needed by those without systemd only, and start-up should be quick

    try:
        with warnings.catch_warnings():  # that there is no login session is no news to an administrator
            warnings.simplefilter("ignore")
            path: Path = getattr(platformdirs, kind)("sockd", appauthor=False)
    except OSError as error:
        variable = "RUNTIME_DIRECTORY" if kind == "user_runtime_path" else "LOGS_DIRECTORY"
        raise SockdError(f"there is no safe directory of the user's ({error}): set {variable}") from error
    return path


def make_directories(wanted: "Directories", uid: int | None, gid: int | None) -> None:
    """Make those that are missing, for the user that the daemon will run as (None: who it is already).

    What can't be made is left to whoever needs it: the message then names the address or the file.
    """
    for path in (wanted.runtime, wanted.logs):
        with suppress(OSError):
            if not path.is_dir():
                path.mkdir(mode=0o755, parents=True)
                if uid is not None or gid is not None:
                    os.chown(path, -1 if uid is None else uid, -1 if gid is None else gid)


def is_root() -> bool:
    """Whether this process is root, or can become it again, and not only in a user namespace of its own."""
    if 0 not in os.getresuid():
        return False
    try:
        inside, outside, _ = Path("/proc/self/uid_map").read_text("ascii").split()[:3]
    except (OSError, ValueError):
        return True
    return (inside, outside) == ("0", "0")


def refusal_as(uid: int | None, gid: int | None, euid: bool, read: Callable[[], object]) -> tuple[str, ...]:
    """Why it can't go on as the user that twistd will make it, lines for people; nothing where it can.

    A child becomes that user, in twistd's way, and tries to `read` what a reload will.
    """
    receiving, sending = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(receiving)
            said = "\n".join(_refusal_as(uid, gid, euid, read)).encode("utf-8", "backslashreplace")
            with open(sending, "wb") as pipe:
                pipe.write(said)
        finally:
            os._exit(0)
    os.close(sending)
    with open(receiving, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return tuple(said.decode().splitlines())


def _refusal_as(uid: int | None, gid: int | None, euid: bool, read: Callable[[], object]) -> Iterator[str]:
    from twisted.python.util import switchUID  # noqa: PLC0415 - `sockd status` does without

    who = f"the group {gid}"
    try:
        if uid is not None:
            account = pwd.getpwuid(uid)
            who = f"the user {account.pw_name}"
            gid = account.pw_gid if gid is None else gid
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is this user already
            switchUID(uid, gid, euid)
    except KeyError:
        yield f"--uid={uid}: there is no such user"
    except OSError as error:
        yield f"this process can't become {who} (--uid, --gid): {error.strerror}"
    else:
        try:
            read()
        except FileWrongError as error:
            yield from (f"{problem} (as {who}, which sockd is to become)" for problem in error.problems)
        except Exception as error:  # noqa: BLE001 - the other end of the pipe waits for a word
            yield f"{error} (as {who}, which sockd is to become)"


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
