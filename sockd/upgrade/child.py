"""The rehearsal as the running program sees it: a child process, bounded in time and in what it prints."""

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from sockd.base import descriptors
from sockd.base.reactor import TwistedReactor
from sockd.base.text import visible
from sockd.upgrade import passing
from sockd.upgrade.exec import rehearsal_environment
from sockd.upgrade.value import Handover, UpgradeRefusedError

TIME_LIMIT = 60.0  # seconds
OUTPUT_LIMIT = 64 * 1024  # bytes of each stream that are kept
_HANDOVER_DESCRIPTOR = 3  # of the child
# A place in a traceback, the last of which is where the exception was raised.
_PLACE = re.compile(r'  File "([^<"].*)", line ([0-9]+)')


def rehearse(
    reactor: TwistedReactor,
    argv: Sequence[str],
    environ: Mapping[str, str],
    handover: Handover,
) -> Deferred[str]:
    """Fires with what the child printed, its version, if its status is 0.

    Otherwise it fails with UpgradeRefusedError, for the reasons that the child printed on its standard error.
    Cancelling kills the child.
    """
    if not os.access(argv[0], os.X_OK):
        raise UpgradeRefusedError(f"the new program can't be started: {argv[0]} is gone, or may not be run")
    child = Child(reactor)
    try:
        with descriptors.beyond():
            _start(child, reactor, argv, environ, handover)
    except OSError as error:
        raise UpgradeRefusedError(f"the rehearsal can't be started: {error.strerror or error}") from None
    return child.ended


def _start(
    child: "Child",
    reactor: TwistedReactor,
    argv: Sequence[str],
    environ: Mapping[str, str],
    handover: Handover,
) -> None:
    file = passing.write(handover)
    try:
        with open(os.devnull, "rb") as nothing:  # the child's standard input
            reactor.spawnProcess(
                child,
                argv[0],
                list(argv),
                rehearsal_environment(environ, _HANDOVER_DESCRIPTOR),
                childFDs={0: nothing.fileno(), 1: "r", 2: "r", _HANDOVER_DESCRIPTOR: file},
            )
    finally:
        os.close(file)


class Child(ProcessProtocol):
    """The child, and what it prints."""

    transport: IProcessTransport

    def __init__(self, reactor: TwistedReactor) -> None:
        self._reactor = reactor
        self._printed = {1: bytearray(), 2: bytearray()}
        self._killed = ""  # for this reason
        self.ended: Deferred[str] = Deferred(lambda _: self._kill("it was cancelled"))

    def connectionMade(self) -> None:  # noqa: N802
        self.timer = self._reactor.callLater(TIME_LIMIT, self._kill, f"it took longer than {TIME_LIMIT:.0f}s")

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N802, N803
        printed = self._printed[childFD]
        printed += data[: OUTPUT_LIMIT - len(printed)]

    def _kill(self, why: str) -> None:
        self._killed = why
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess("KILL")
        self.transport.loseConnection()  # what it started may keep the pipes open

    def processEnded(self, reason: Failure) -> None:  # noqa: N802
        if self.timer.active():
            self.timer.cancel()
        if self.ended.called:
            return
        if self._killed:
            self.ended.errback(UpgradeRefusedError(f"the rehearsal was ended: {self._killed}"))
        elif reason.check(ProcessDone) and (said := self._lines(1)):
            self.ended.callback("\n".join(said))
        else:
            self.ended.errback(
                UpgradeRefusedError(*self._why(cast("ProcessDone | ProcessTerminated", reason.value)))
            )

    def _lines(self, stream: int) -> list[str]:
        text = self._printed[stream].decode(errors="replace")
        return [visible(line) for line in text.splitlines() if line.strip()]

    def _why(self, end: ProcessDone | ProcessTerminated) -> list[str]:
        lines = self._lines(2)
        if not lines:
            how = f"status {end.exitCode}" if end.signal is None else f"signal {end.signal}"
            return [f"the rehearsal ended with {how} and printed nothing"]
        if lines[0].startswith(("Traceback ", '  File "')):  # the latter of a program that is no Python
            places = [place for line in lines if (place := _PLACE.match(line))]
            where = f" ({places[-1][1]}:{places[-1][2]})" if places else ""
            return [f"the new program doesn't start: {lines[-1]}{where}"]
        return lines
