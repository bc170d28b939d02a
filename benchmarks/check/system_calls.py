"""Counts a running daemon's system calls, with strace attached for as long as a piece of work takes."""

import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks.check.errors import NotCountableError
from tests.end_to_end.programs import Process


class SystemCalls:
    """A meter: the names of the system calls of all threads, and how often each was made."""

    def __init__(self, pid: int, directory: Path) -> None:
        self._pid = pid
        self._table = directory / "strace.txt"

    def measure(self, work: Callable[[], None]) -> Counter[str]:
        strace = shutil.which("strace")
        if strace is None:
            raise NotCountableError("strace is not installed")
        counting = ["-f", "-c", "-U", "calls,name", "-o", str(self._table)]
        process = Process([strace, *counting, "-p", str(self._pid)], {"LC_ALL": "C"})
        try:
            # Where the kernel forbids it: see ptrace(2) on /proc/sys/kernel/yama/ptrace_scope.
            if b" attached" not in process.expect(r".*\n")[0]:
                raise NotCountableError(f"strace can't attach: {process.text.strip()}")
            work()
            process.signal(signal.SIGINT)
            process.wait()
        finally:
            process.end()
        return table(self._table.read_text())


def table(text: str) -> Counter[str]:
    """The rows of `strace -c -U calls,name`, without head and sum.

    Nor is `restart_syscall` counted: it is what a wait becomes that `Subject.stop_at_rest` has interrupted.
    """
    rows = (line.split() for line in text.splitlines())
    return Counter(
        {
            row[1]: int(row[0])
            for row in rows
            if len(row) == 2 and row[0].isdigit() and row[1] not in ("total", "restart_syscall")
        }
    )
