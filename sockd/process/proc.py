"""What the kernel says of a process (proc(5))."""

from pathlib import Path

from sockd.base import descriptors


def status(pid: int | str, proc: Path = Path("/proc")) -> dict[str, str]:
    """The fields of /proc/PID/status by their names; OSError where there is no such process."""
    text = descriptors.take(lambda: (proc / str(pid) / "status").read_text("utf-8", "replace"))
    named = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in named}
