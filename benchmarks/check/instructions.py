"""Counts a daemon's own instructions, the kernel's left out: it runs under valgrind's callgrind all its life.

A processor's counter (perf) would be quicker, but few virtual machines have one.
"""

import platform
import re
import shutil
import subprocess
import sysconfig
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks.check.errors import MisbehavedError, NotCountableError

_SUM = re.compile(r"^(?:summary|totals): (\d+)$", re.MULTILINE)
_VGDB_TIMEOUT = 60.0  # seconds that vgdb may take to be heard


class Instructions:
    """A meter, for a daemon that was started under `prefix`."""

    def __init__(self, directory: Path) -> None:
        self._dump = directory / "callgrind"
        self._pipes = directory / "vgdb"
        self._pid = 0
        self._dumps = 0
        valgrind, vgdb = shutil.which("valgrind"), shutil.which("vgdb")
        if valgrind is None or vgdb is None:
            raise NotCountableError("valgrind is not installed")
        self._vgdb = vgdb
        self.prefix = [
            valgrind, "--tool=callgrind", "--instr-atstart=no",
            f"--callgrind-out-file={self._dump}", f"--vgdb-prefix={self._pipes}",
        ]  # fmt: skip

    def attach(self, pid: int) -> None:
        self._pid = pid
        self._tell("instrumentation", "on")

    def measure(self, work: Callable[[], None]) -> Counter[str]:
        self._tell("zero")
        work()
        self._tell("dump", "measured")
        self._dumps += 1
        dump = Path(f"{self._dump}.{self._dumps}")
        found = _SUM.search(dump.read_text())
        dump.unlink()
        if found is None:
            raise MisbehavedError("callgrind's file has no sum")
        return Counter({"instructions": int(found[1])})

    def _tell(self, *words: str) -> None:
        vgdb = [self._vgdb, f"--vgdb-prefix={self._pipes}", f"--pid={self._pid}"]
        try:
            subprocess.run([*vgdb, *words], check=True, capture_output=True, text=True, timeout=_VGDB_TIMEOUT)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise NotCountableError(f"valgrind doesn't begin to count: {error} {error.stderr!r}") from error


def build() -> str:
    """What instructions depend on besides our code: each compiler makes others of the same Python."""
    minor = ".".join(platform.python_version_tuple()[:2])
    optimized = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    made = f"{platform.python_compiler()}{' with profile' if optimized else ''}"
    return f"{platform.python_implementation()} {minor}, {made}, {platform.machine()}"
