"""Runs a program in a sandbox in which the kernel refuses the system calls that are named.

As `python refusing.py CALL,CALL,… PROGRAM ARGUMENT…`. It takes libseccomp, by ctypes.
"""

import ctypes
import errno
import os
import sys

_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM  # SCMP_ACT_ALLOW, SCMP_ACT_ERRNO(EPERM)


def load() -> ctypes.CDLL | None:
    """The library; None where there is none."""
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return None
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_rule_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint]
    library.seccomp_load.argtypes = [ctypes.c_void_p]
    return library


def main(calls: str, *program: str) -> None:
    library = load()
    assert library is not None
    rules = library.seccomp_init(_ALLOW)
    for name in calls.split(","):
        number = library.seccomp_syscall_resolve_name(name.encode())
        assert library.seccomp_rule_add(rules, _REFUSE, number, 0) == 0, name
    assert library.seccomp_load(rules) == 0
    os.execv(program[0], program)


if __name__ == "__main__":
    main(*sys.argv[1:])
