"""The step of an upgrade in which exec(3) puts the new program in the place of the running one.

What survives exec: the process with its id and its children, descriptors that are not closed on exec, the
mask of blocked signals, the environment. What does not: memory, threads, handlers of signals. So the sockets
are made to survive, and the handover is in a file whose descriptor the environment names; signals are blocked
before, and taken by the new program once it has its handlers.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NoReturn

from sockd.base import descriptors
from sockd.upgrade import passing
from sockd.upgrade.signals import Signals
from sockd.upgrade.value import Handover, UpgradeRefusedError

# What systemd passed to the first program: now it comes with the handover.
_SOCKET_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
# With these one speaks to systemd in the daemon's name, which a rehearsal is not to do.
_NOTIFY_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")
# Python's own options that take a value, possibly in an argument of its own.
_VALUE_OPTIONS = "WX"


def exec_argv(
    *arguments: str, executable: str = sys.executable, original: Sequence[str] = tuple(sys.orig_argv)
) -> list[str]:
    """`python -P … -m sockd ARGUMENTS`: the same Python, with the same options of its own.

    `pip install --upgrade` has replaced what that Python imports. With -P nothing is imported from the
    working directory, whatever that is by now.
    """
    return [executable, "-P", *_interpreter_options(original), "-m", "sockd", *arguments]


def _interpreter_options(original: Sequence[str]) -> Iterator[str]:
    rest = iter(original[1:])
    for argument in rest:
        if not argument.startswith("-") or argument in ("-", "--"):
            return
        if argument.startswith("--"):  # --check-hash-based-pycs MODE is the only one that runs a program
            yield argument
            yield from _value(rest)
            continue
        for index, letter in enumerate(argument[1:], 1):
            if letter in "mc":  # the program; before it stand options of one letter each
                if index > 1:
                    yield argument[:index]
                return
            if letter in _VALUE_OPTIONS:
                yield argument
                if index == len(argument) - 1:
                    yield from _value(rest)
                break
        else:
            if argument != "-P":
                yield argument


def _value(rest: Iterator[str]) -> Iterator[str]:
    value = next(rest, None)
    if value is not None:
        yield value


def environment(environ: Mapping[str, str], handover: int) -> dict[str, str]:
    """The environment of the new program, which finds its handover at this file descriptor."""
    kept = {name: value for name, value in environ.items() if name not in _SOCKET_VARIABLES}
    return kept | {passing.VARIABLE: str(handover)}


def rehearsal_environment(environ: Mapping[str, str], handover: int) -> dict[str, str]:
    """The environment of the child in which the new program rehearses."""
    kept = environment(environ, handover)
    return {name: value for name, value in kept.items() if name not in _NOTIFY_VARIABLES}


def replace(argv: list[str], environ: Mapping[str, str], handover: Handover, signals: Signals) -> NoReturn:
    """Become the new program, which gets the handover with its sockets; every other descriptor closes.

    HandoverError or UpgradeRefusedError: nothing has changed, and this program goes on.
    """
    # The new program opens files, such as its own modules, before it can close any.
    with descriptors.beyond():
        _replace(argv, environ, handover, signals)


def _replace(argv: list[str], environ: Mapping[str, str], handover: Handover, signals: Signals) -> NoReturn:
    file = passing.write(handover)
    fds = [*handover.inherited(), file]
    signals.hold()
    try:
        passing.inherit(fds, True)
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        signals.settle()
        os.execve(argv[0], argv, environment(environ, file))  # noqa: S606 - no shell is meant
    except (OSError, ValueError) as error:
        passing.inherit(fds, False)
        os.close(file)
        signals.release()
        why = error.strerror if isinstance(error, OSError) else error
        raise UpgradeRefusedError(f"the new program can't be started: {argv[0]}: {why}") from None
