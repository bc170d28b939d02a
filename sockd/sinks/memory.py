"""Has the allocator keep what sinks free, for the records that come next."""

import ctypes
from contextlib import suppress

# mallopt(3); glibc gives whatever is free at its heap's end back to the kernel as soon as it is more than
# 128 KiB, and gets it again page by page: a fourth of line-log's time.
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
KEPT = 8 * 1024 * 1024  # bytes free at the end of a heap: what a sink at its bound holds
_LARGE = 2 * 1024 * 1024  # blocks of so many bytes are the kernel's all the same


def keep_freed() -> None:
    """For the whole process; does nothing where the C library has no such options."""
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_TRIM_THRESHOLD, KEPT)
        mallopt(_MMAP_THRESHOLD, _LARGE)
