"""What a measurement was made on, and how it is printed."""

import os
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import sockd
import twisted


def machine() -> str:
    """One line: processor, system, and the versions that matter."""
    names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    processor = names[0] if names else platform.machine()
    cores = len(os.sched_getaffinity(0))
    return (
        f"{processor}, {cores} core{'' if cores == 1 else 's'}, load {os.getloadavg()[0]:.1f}; "
        f"Linux {platform.release()}; {platform.python_implementation()} {platform.python_version()}; "
        f"Twisted {twisted.__version__}; sockd {sockd.__version__}"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns, all but the first aligned to the right."""
    lines = [head, *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    return "\n".join(
        "  ".join(
            text.rjust(width) if at else text.ljust(width)
            for at, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"
