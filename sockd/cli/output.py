"""The one way from the `sockd` command to a terminal: all text that is printed passes through here.

Most of it came from elsewhere: a daemon's answers, names of files and peers, the environment, exceptions.
Nothing of it may drive the terminal: control characters are shown as escapes, in JSON as JSON has them.
"""

import errno
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress

from sockd.base.errors import SockdError
from sockd.base.tables import aligned
from sockd.base.text import visible
from sockd.control.language import Json

# Statuses of a shell for a program that such a signal has ended.
INTERRUPTED = 128 + signal.SIGINT
_DIED_OF_SIGPIPE = 128 + signal.SIGPIPE


class OutputError(SockdError):
    """Standard output takes nothing. `status` is what the command ends with, `quiet` that it says nothing."""

    def __init__(self, why: str, status: int = os.EX_IOERR, *, quiet: bool = False) -> None:
        super().__init__(f"sockd: can't write to standard output: {why}")
        self.status = status
        self.quiet = quiet


def show(*lines: str) -> None:
    """Print these lines on standard output; a newline within one of them is shown as an escape too."""
    put("\n".join(map(visible, lines)))


def complain(*lines: str) -> None:
    """Print these lines on standard error. Where that is closed, or full, nobody can be told."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            sys.stderr.write("".join(f"{visible(line)}\n" for line in lines))
            sys.stderr.flush()


def show_json(value: Json) -> None:
    """Print a value for programs: JSON in ASCII, without any control character but newlines."""
    put(json.dumps(value, indent=2).replace("\x7f", "\\u007f"))


def show_table(rows: Iterable[Sequence[str]]) -> None:
    """Print rows as a table, in the terminal's width where standard output is one."""
    put(aligned(rows, terminal_width()))


def terminal_width() -> int | None:
    """How many columns the terminal has that standard output is; None where it is none."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns


def put(text: str, end: str = "\n") -> None:
    """Write text that is safe already, immediately."""
    if sys.stdout is None:
        raise OutputError("it is closed")
    try:
        sys.stdout.write(f"{text}{end}")
        sys.stdout.flush()
    except OSError as error:
        raise output_error(error) from None


def output_error(error: OSError) -> OutputError:
    """What a write or a flush of standard output ran into; nothing more is written to it."""
    if sys.stdout is not None:
        # Python flushes what is left when it ends, which must not fail again.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    if error.errno == errno.EPIPE:  # its reader has seen enough, as `head` has
        return OutputError("nobody reads it", _DIED_OF_SIGPIPE, quiet=True)
    return OutputError(error.strerror or str(error))
