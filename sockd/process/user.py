"""The user that the process runs as, or is about to become."""

import os
import pwd
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from sockd.base.errors import FileWrongError

_END = b"\0"  # after all that a child has said


def is_root() -> bool:
    """Whether this process is root or can become root again, other than in a user namespace of its own."""
    if 0 not in os.getresuid():
        return False
    try:
        inside, outside, _ = Path("/proc/self/uid_map").read_text("ascii").split()[:3]
    except (OSError, ValueError):
        return True
    return (inside, outside) == ("0", "0")


def refusal_as(uid: int | None, gid: int | None, euid: bool, read: Callable[[], object]) -> tuple[str, ...]:
    """Why the daemon can't go on as the user that twistd will make it, in lines; empty where it can.

    A child process becomes that user, in twistd's way, and tries to `read` what a reload will.
    """
    return said_by_child(lambda: _refusal_as(uid, gid, euid, read))


def said_by_child(say: Callable[[], Iterable[str]]) -> tuple[str, ...]:
    """The lines that `say` gives in a child process, whose user and groups it may change."""
    receiving, sending = os.pipe()
    try:
        child = os.fork()
    except OSError as error:
        os.close(receiving)
        os.close(sending)
        return (f"no process can be started that tries what another user may do: {error.strerror}",)
    if not child:
        try:
            os.close(receiving)
            with open(sending, "wb") as pipe:
                pipe.write(_all_said(say).encode("utf-8", "backslashreplace") + _END)
        finally:
            os._exit(0)
    os.close(sending)
    with open(receiving, "rb") as pipe:
        said = pipe.read()
    with suppress(ChildProcessError):  # SIGCHLD was ignored when we were started: the child is forgotten
        os.waitpid(child, 0)
    if not said.endswith(_END):
        return ("the process that tries what another user may do has ended before it could say",)
    return tuple(said.removesuffix(_END).decode().splitlines())


def _all_said(say: Callable[[], Iterable[str]]) -> str:
    lines: list[str] = []
    try:
        lines.extend(say())
    except Exception as error:  # noqa: BLE001 - the parent waits for an answer, whatever it is
        lines.append(f"{type(error).__name__}: {error}")
    return "\n".join(lines)


def _refusal_as(uid: int | None, gid: int | None, euid: bool, read: Callable[[], object]) -> Iterator[str]:
    from twisted.python.util import switchUID  # noqa: PLC0415 - `sockd status` does without Twisted

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
        except Exception as error:  # noqa: BLE001 - the parent waits for an answer, whatever it is
            yield f"{error} (as {who}, which sockd is to become)"
