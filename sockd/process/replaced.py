"""Refuses to load modules of sockd that were installed after this program began to run.

Between an upgrade of the package and `sockd upgrade` the running program is of one version and the files on
the disk are of another. A module that is loaded only now, such as those for TLS at the first TLS endpoint,
would be the other version's: it may lack a name, or mean something else by it. What is loaded already goes
on as it is, and so does a reload that needs no more.
"""

import os
import sys
import time
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from sockd.base.errors import SockdError

_PACKAGE = "sockd."


class ReplacedError(SockdError, ImportError):
    """Another version of sockd has been installed, and a part of this one is missing."""

    def __init__(self) -> None:
        super().__init__(
            "another version of sockd was installed after this one was started, and a part of this one that"
            " is needed now was not loaded before: take what is new out of the file and run sockd upgrade, or"
            " restart sockd"
        )


class Finder(MetaPathFinder):
    """Finds sockd's own modules, unless their files are newer than `started` (seconds since the epoch)."""

    def __init__(self, started: float) -> None:
        self._started = started

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(_PACKAGE):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None or self._newer(spec.origin):
            raise ReplacedError
        return spec

    def _newer(self, file: str) -> bool:
        try:
            # The time of the inode: an installer may give a file any other.
            return os.stat(file).st_ctime > self._started
        except OSError:
            return True  # it is being replaced now


def refuse_replacements() -> None:
    """From now on load no module of sockd that is installed later."""
    sys.meta_path.insert(0, Finder(time.time()))
