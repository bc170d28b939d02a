"""Who may use the control socket."""

import os
import socket
import subprocess
import sys

import pytest

from sockd.control.conversation import Allowed, Caller

# Becomes somebody else, then connects.
OTHER = """
import os, socket, sys
os.setgroups([4713, 4714])
os.setgid(4712)
os.setuid(4711)
with socket.socket(socket.AF_UNIX) as sock:
    sock.connect("\\0" + sys.argv[1])
    sys.stdin.read()
"""


def test_a_caller_as_the_kernel_sees_it() -> None:
    """uid, pid and every group of the process at the other end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        caller = Caller.of(ours)
    assert caller == Caller(os.geteuid(), os.getpid(), frozenset((os.getegid(), *os.getgroups())))


def test_groups_that_the_kernel_does_not_tell() -> None:
    """Where the supplementary groups can't be had, the first one still counts."""

    class Socket:
        def getsockopt(self, level: int, option: int, length: int) -> bytes:
            if option == socket.SO_PEERCRED:
                return b"\x07\0\0\0\x08\0\0\0\x09\0\0\0"
            raise OSError(34, "Numerical result out of range")

    assert Caller.of(Socket()) == Caller(8, 7, frozenset((9,)))  # type: ignore[arg-type]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_supplementary_groups() -> None:
    """A group that a process is in besides its own counts."""
    ours, theirs = socket.socketpair()
    listening = socket.socket(socket.AF_UNIX)
    with ours, theirs, listening:
        listening.bind("")  # the kernel picks an abstract name
        listening.listen()
        name = listening.getsockname()[1:].decode()
        with subprocess.Popen([sys.executable, "-c", OTHER, name], stdin=subprocess.PIPE) as child:
            accepted, _ = listening.accept()
            with accepted:
                caller = Caller.of(accepted)
            child.communicate(timeout=60)
    assert (caller.uid, caller.pid, caller.groups) == (4711, child.pid, frozenset((4712, 4713, 4714)))
    assert Allowed(1, 4714).admits(caller)
    assert not Allowed(1, 4715).admits(caller)


@pytest.mark.parametrize(
    ("uid", "groups", "group", "may"),
    [
        (0, (), None, True),
        (50, (), None, True),
        (51, (0, 50), None, False),
        (51, (4,), 4, True),
        (51, (5,), 4, False),
    ],
)
def test_who_may(uid: int, groups: tuple[int, ...], group: int | None, may: bool) -> None:
    """Root, the daemon's own user (50 here), and members of the group if there is one; no other caller."""
    assert Allowed(50, group).admits(Caller(uid, 1, frozenset(groups))) is may
