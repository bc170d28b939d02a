"""Finds the control socket of the daemon that is meant: by its path, by the file, or where it usually is."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sockd.config.source import DEFAULT_FILE
from sockd.process.directories import runtime_directories

_USUAL = "control.sock"


@dataclass(frozen=True)
class Places:
    """Where the socket may be, the likeliest first, and why it may be nowhere: the file says so."""

    paths: tuple[str, ...]
    off: str = ""


def places(control: str | None, file: Path | None) -> Places:
    """The places to look at, where the user has named a socket, a file or neither.

    A file may have been edited since the daemon read it, so that the usual places count too. Without a word
    these count first; only where nothing is there the usual file is read, as not everybody may.
    """
    if control:
        return Places((control,))
    usual = tuple(_in_runtime_directory(_USUAL))
    there = tuple(path for path in usual if not _missing(path))
    if file is None and there:
        return Places(there[:1])
    named, off = _of_file(file or Path(DEFAULT_FILE))
    # The last one is the place that a message names where there is nothing anywhere.
    return Places(tuple(dict.fromkeys((*named, *there))) or usual[-1:], off)


def _of_file(file: Path) -> tuple[list[str], str]:
    """The paths that `daemon.control` may mean, and in words where the file says `off`."""
    if _missing(str(file)):
        return [], ""
    from sockd.config import document  # noqa: PLC0415 - seldom needed

    root = document.read(file).root
    daemon = root.get("daemon") if isinstance(root, dict) else None
    control = daemon.get("control") if isinstance(daemon, dict) else None
    if not isinstance(control, str) or not control:
        return [], ""
    if control == "off":
        return [], f"daemon.control is off in {file}"
    if control.startswith(("/", "@")):
        return [control], ""
    return list(_in_runtime_directory(control)), ""


def _in_runtime_directory(name: str) -> Iterator[str]:
    return (os.path.join(directory, name) for directory in runtime_directories(os.environ, os.getuid()))


def _missing(path: str) -> bool:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        pass  # it may be there: connecting says that this user isn't allowed to use it
    return False
