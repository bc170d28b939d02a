"""Where relative paths of the file lead."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sockd.base.errors import SockdError

if TYPE_CHECKING:
    from sockd.base.account import Account


@dataclass(frozen=True)
class Directories:
    """`runtime` is for sockets, `logs` for line-log's files."""

    runtime: Path
    logs: Path


SYSTEM_RUNTIME = Path("/run/sockd")


def directories(environ: Mapping[str, str], uid: int) -> Directories:
    """As systemd says in the environment; else root's usual places, or those of the user."""
    runtime = _first(environ.get("RUNTIME_DIRECTORY"))
    logs = _first(environ.get("LOGS_DIRECTORY"))
    if uid == 0:
        return Directories(runtime or SYSTEM_RUNTIME, logs or Path("/var/log/sockd"))
    return Directories(runtime or _user("user_runtime_path"), logs or _user("user_log_path"))


def runtime_directories(environ: Mapping[str, str], uid: int) -> Iterator[Path]:
    """Where a client looks for the control socket of a running daemon; the likeliest first."""
    if runtime := _first(environ.get("RUNTIME_DIRECTORY")):
        yield runtime
        return
    yield SYSTEM_RUNTIME
    if uid != 0:
        yield _user("user_runtime_path")


def _first(value: str | None) -> Path | None:
    """The first of several directories, which colons separate; a relative one is below the current."""
    for path in (value or "").split(":"):
        if path:
            from sockd.base.paths import absolute  # noqa: PLC0415 - as below

            return absolute(path)
    return None


def _user(kind: str) -> Path:
    import platformdirs  # noqa: PLC0415 - only needed without systemd, and a start should be quick

    try:
        with warnings.catch_warnings():  # an administrator knows that there is no login session
            warnings.simplefilter("ignore")
            path: Path = getattr(platformdirs, kind)("sockd", appauthor=False)
    except (OSError, RuntimeError) as error:  # the latter where there is no home directory
        variable = "RUNTIME_DIRECTORY" if kind == "user_runtime_path" else "LOGS_DIRECTORY"
        raise SockdError(f"there is no safe directory of the user's ({error}): set {variable}") from error
    return path


def make_directories(wanted: Directories, user: "Account | None") -> None:
    """Make those that are missing; `user` is the one that the daemon, while it is root, is going to be.

    An error is ignored here: what then can't be opened has a message that names the address or the file.
    """
    from sockd.base.paths import make_directory  # noqa: PLC0415 - `sockd status` does without

    for path in (wanted.runtime, wanted.logs):
        with suppress(OSError):
            make_directory(path, 0o755, user)
