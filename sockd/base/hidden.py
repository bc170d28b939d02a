"""Says where a unit of systemd hides a path from this process, and what in a drop-in would show it."""

from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
# What stands in the root of a mount that hides (systemd.exec(5)), and the setting that shows a path below it.
_SIGNS = {
    "/systemd/inaccessible/": "ProtectHome=tmpfs and BindReadOnlyPaths={}",
    "systemd-private-": "BindReadOnlyPaths={}",
}


def hidden_by_unit(path: Path) -> str:
    """The end of a message about a path that isn't there; empty where no unit is the reason."""
    try:
        lines = _MOUNTS.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return hidden_by(path, lines)


def hidden_by(path: Path, lines: list[str]) -> str:
    """The same for the lines of a mountinfo file (proc(5))."""
    for line in reversed(lines):
        root, where = line.split()[3:5]
        if not (Path(where) == path or Path(where) in path.parents):
            continue
        for sign, setting in _SIGNS.items():
            if sign in root:
                drop_in = setting.format(path)
                return (
                    f"; the unit hides {where}: put {drop_in} below [Service] of a drop-in, and restart sockd"
                )
    return ""
