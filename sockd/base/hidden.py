"""Says where a unit of systemd hides a path, and what in a drop-in would show it."""

from collections.abc import Mapping
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
# What stands in the root of a mount that hides, and what shows a path below it (systemd.exec(5)).
_HOME = "ProtectHome=tmpfs and BindReadOnlyPaths={}"
_TMP = "BindReadOnlyPaths={}"
_SIGNS = {"/systemd/inaccessible/": _HOME, "systemd-private-": _TMP}
# The settings that hide, and which directories they hide.
SETTINGS = {"ProtectHome": ("/home", "/root", "/run/user"), "PrivateTmp": ("/tmp", "/var/tmp")}  # noqa: S108
# Those that show directories in spite of these.
SHOWING = ("BindPaths", "BindReadOnlyPaths")


def hidden_by_unit(path: Path) -> str:
    """The end of a message about a path that can't be had; empty where no unit hides it from this process."""
    try:
        lines = _MOUNTS.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return hidden_by_mounts(path, lines)


def hidden_by_mounts(path: Path, lines: list[str]) -> str:
    """The same for the lines of a mountinfo file (proc(5)): the innermost mount decides."""
    mounts = [line.split()[3:5] for line in lines]
    around = [(len(where), root, where) for root, where in mounts if _holds(where, path)]
    if not around:
        return ""
    _, root, where = max(reversed(around), key=lambda mount: mount[0])  # the last of several at one place
    return next((_words(where, how, path) for sign, how in _SIGNS.items() if sign in root), "")


def hidden_by_settings(path: Path, settings: Mapping[str, str]) -> str:
    """The same for a unit that doesn't run, by what `systemctl show` says of it."""
    shown = [
        bound.split(":")[1] for key in SHOWING for bound in settings.get(key, "").split() if ":" in bound
    ]
    if any(_holds(where, path) for where in shown):
        return ""
    for key, hidden in SETTINGS.items():
        if settings.get(key, "no") in ("no", "read-only", ""):
            continue
        for where in hidden:
            if _holds(where, path):
                return _words(where, _HOME if key == "ProtectHome" else _TMP, path)
    return ""


def _holds(where: str, path: Path) -> bool:
    return Path(where) == path or Path(where) in path.parents


def _words(where: str, how: str, path: Path) -> str:
    drop_in = how.format(path)
    return f"; the unit hides {where}: put {drop_in} below [Service] of a drop-in, and restart sockd"
