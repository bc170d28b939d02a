"""The new program is called like the running one."""

import sys
from collections.abc import Sequence

import pytest

from sockd.upgrade.exec import environment, exec_argv, rehearsal_environment
from sockd.upgrade.passing import VARIABLE


@pytest.mark.parametrize(
    ("original", "options"),
    [
        (["python3", "/opt/sockd/bin/sockd", "run", "-X"], []),
        (["python3", "-P", "-m", "sockd", "run"], []),
        (["python3", "-B", "-W", "error", "-Wdefault", "-X", "dev", "-Xutf8=1", "twistd", "-n"],
         ["-B", "-W", "error", "-Wdefault", "-X", "dev", "-Xutf8=1"]),
        (["python3", "-bbIWerror", "-um", "sockd"], ["-bbIWerror", "-u"]),
        (["python3", "-IX", "dev", "-c", "import this"], ["-IX", "dev"]),
        (["python3", "--check-hash-based-pycs", "always", "-OO", "twistd"],
         ["--check-hash-based-pycs", "always", "-OO"]),
        (["python3", "-"], []),
        (["python3", "-W"], ["-W"]),
        (["python3"], []),
        ([], []),
    ],
)  # fmt: skip
def test_pythons_own_options_are_kept(original: Sequence[str], options: list[str]) -> None:
    """Those of the program that was run by it are not."""
    argv = exec_argv("run", "--config", "f", executable="/bin/python", original=original)
    assert argv == ["/bin/python", "-P", *options, "-m", "sockd", "run", "--config", "f"]


def test_it_is_this_python() -> None:
    """The one whose packages an administrator upgrades."""
    assert exec_argv("run")[0] == sys.executable


def test_the_environment_of_the_new_program() -> None:
    """It finds its handover, speaks to systemd as before, and gets no sockets a second time."""
    environ = {
        "LISTEN_PID": "1",
        "LISTEN_FDS": "2",
        "LISTEN_FDNAMES": "a:b",
        "NOTIFY_SOCKET": "@n",
        "HOME": "/",
    }
    assert environment(environ, 17) == {"NOTIFY_SOCKET": "@n", "HOME": "/", VARIABLE: "17"}


def test_a_rehearsal_does_not_speak_to_systemd() -> None:
    """It would do so in the daemon's name."""
    environ = {"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "HOME": "/"}
    assert rehearsal_environment(environ, 3) == {"HOME": "/", VARIABLE: "3"}
