"""The moment of an upgrade: the handover is written, and exec starts the new program in this process."""

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import NoReturn

from sockd import reserve
from sockd.handover import passing
from sockd.handover.errors import UpgradeRefusedError
from sockd.handover.value import Handover
from sockd.upgrade.program import environment
from sockd.upgrade.signals import Signals


def replace(argv: list[str], environ: Mapping[str, str], handover: Handover, signals: Signals) -> NoReturn:
    """Become the new program, with the handover and its sockets; every other descriptor closes.

    HandoverError or UpgradeRefusedError: nothing has changed, and this program goes on.
    """
    # The new program opens files, its own modules for some, before it can close any.
    with reserve.beyond():
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
