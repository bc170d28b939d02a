"""Memory that was freed stays with the process, up to what a sink may hold."""

import ctypes
from contextlib import suppress

# glibc gives what is free at the end of its heap back to the kernel as soon as it is more than 128 KiB, and
# then gets it again page by page: a fourth of line-log's CPU time. The numbers are those of mallopt(3).
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
KEPT = 8 * 1024 * 1024  # bytes that may be free at the end of a heap: what a sink at its bound holds
_LARGE = 2 * 1024 * 1024  # bytes: larger blocks go back to the kernel all the same


def keep_freed() -> None:
    """Set this for the whole process, to its end; does nothing where the C library has no such options."""
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_TRIM_THRESHOLD, KEPT)
        mallopt(_MMAP_THRESHOLD, _LARGE)
