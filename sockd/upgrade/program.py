"""How the new program is called: with what arguments, in which environment."""

import sys
from collections.abc import Iterator, Mapping, Sequence

from sockd.handover.passing import VARIABLE

# What systemd told the first program of the sockets that it passed: they come with the handover now.
_SPENT = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
# What speaks to systemd in the daemon's name: no business of a rehearsal's.
_MAIN_ONLY = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")
# Python's own options that take a value, and may have it in an argument of its own.
_WITH_VALUE = "WX"


def exec_argv(
    *arguments: str, executable: str = sys.executable, original: Sequence[str] = tuple(sys.orig_argv)
) -> list[str]:
    """`python -P … -m sockd ARGUMENTS`, by the same Python with the same options of its own.

    `pip install --upgrade` replaces what that Python imports. With -P nothing is imported from the present
    directory, wherever that may be by now.
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
            if letter in _WITH_VALUE:
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
    """That of the new program, which finds its handover at this file descriptor."""
    kept = {name: value for name, value in environ.items() if name not in _SPENT}
    return kept | {VARIABLE: str(handover)}


def rehearsal_environment(environ: Mapping[str, str], handover: int) -> dict[str, str]:
    """That of the child in which the new program rehearses."""
    kept = environment(environ, handover)
    return {name: value for name, value in kept.items() if name not in _MAIN_ONLY}
