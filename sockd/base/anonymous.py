"""Files without a name, for what another program or a library reads from a descriptor or a path."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

# What a sandbox or an old kernel answers to memfd_create(2).
_REFUSED = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EINVAL)


def nameless(label: str) -> int:
    """The descriptor of an empty file in memory, which no disk can be too full for.

    Where the system refuses that, it is a temporary file whose name is gone already.
    """
    try:
        return os.memfd_create(label, os.MFD_CLOEXEC)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


@contextmanager
def path_to(data: bytes, label: str) -> Iterator[str]:
    """A path to this content, which only this process, or its user, can read; it is gone afterwards."""
    descriptor = nameless(label)
    try:
        os.write(descriptor, data)
        path = f"/proc/self/fd/{descriptor}"
        if os.path.exists(path):
            yield path
            return
    finally:
        os.close(descriptor)
    with tempfile.NamedTemporaryFile() as file:  # /proc isn't mounted
        file.write(data)
        file.flush()
        yield file.name
