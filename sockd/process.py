"""What is of the process, not of the tree: its directories."""

import warnings
from collections.abc import Mapping
from pathlib import Path

from sockd.errors import SockdError
from sockd.plan import Directories


def directories(environ: Mapping[str, str], uid: int) -> Directories:
    """Where relative paths lead: as systemd says, else root's usual places, else the user's own."""
    runtime = _first(environ.get("RUNTIME_DIRECTORY"))
    logs = _first(environ.get("LOGS_DIRECTORY"))
    if uid == 0:
        return Directories(runtime or Path("/run/sockd"), logs or Path("/var/log/sockd"))
    return Directories(runtime or _user("user_runtime_path"), logs or _user("user_log_path"))


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
