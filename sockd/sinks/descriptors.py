"""Paths that stand for a descriptor of our own, as `/dev/stdout` does."""

import os
from pathlib import Path

_MOST_LINKS = 40  # as the kernel has it (path_resolution(7))


def descriptor(path: Path) -> int | None:
    """The number behind `/dev/stdout`, `/dev/fd/3`, `/proc/self/fd/3` or a link to one; else None.

    Opening such a path again would give a place in the file of its own, so that two who append to one
    redirected output overwrite each other; and another user may not be allowed to.
    """
    ours = f"/proc/{os.getpid()}/fd"
    name = str(path)
    for _ in range(_MOST_LINKS):
        directory, _, last = name.rpartition("/")
        if os.path.realpath(directory or "/") == ours and last.isascii() and last.isdigit():
            return int(last)
        try:
            name = os.path.join(directory, os.readlink(name))
        except OSError:
            return None
    return None
