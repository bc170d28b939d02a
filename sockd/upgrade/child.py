"""The rehearsal as the running program sees it: a child, bounded in time and in what it says."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from sockd.base import descriptors
from sockd.base.text import visible
from sockd.upgrade import passing
from sockd.upgrade.exec import rehearsal_environment
from sockd.upgrade.value import Handover, UpgradeRefusedError

LONGEST = 60.0  # seconds
MOST_SAID = 64 * 1024  # bytes of each stream that are kept
_HANDOVER = 3  # the child's descriptor


def rehearse(
    reactor: Any, argv: Sequence[str], environ: Mapping[str, str], handover: Handover
) -> Deferred[str]:
    """Fires with what the child said on its standard output, when all went well: it says something then.

    Fails with UpgradeRefusedError, the reasons being what it said on its standard error. Cancelling kills it.
    """
    child = _Child(reactor)
    try:
        with descriptors.beyond():
            _start(child, reactor, argv, environ, handover)
    except OSError as error:
        raise UpgradeRefusedError(f"the rehearsal can't be started: {error.strerror or error}") from None
    return child.ended


def _start(
    child: "_Child", reactor: Any, argv: Sequence[str], environ: Mapping[str, str], handover: Handover
) -> None:
    file = passing.write(handover)
    try:
        with open(os.devnull, "rb") as nothing:  # the child's standard input
            reactor.spawnProcess(
                child,
                argv[0],
                list(argv),
                rehearsal_environment(environ, _HANDOVER),
                childFDs={0: nothing.fileno(), 1: "r", 2: "r", _HANDOVER: file},
            )
    finally:
        os.close(file)


class _Child(ProcessProtocol):
    transport: IProcessTransport

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._said = {1: bytearray(), 2: bytearray()}
        self._killed = ""  # why
        self.ended: Deferred[str] = Deferred(lambda _: self._kill("it was cancelled"))

    def connectionMade(self) -> None:  # noqa: N802
        self._timer = self._reactor.callLater(LONGEST, self._kill, f"it took longer than {LONGEST:.0f}s")

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N802, N803
        said = self._said[childFD]
        said += data[: MOST_SAID - len(said)]

    def _kill(self, why: str) -> None:
        self._killed = why
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess("KILL")
        self.transport.loseConnection()  # what it started may keep the pipes open

    def processEnded(self, reason: Failure) -> None:  # noqa: N802
        if self._timer.active():
            self._timer.cancel()
        if self.ended.called:
            return
        if self._killed:
            self.ended.errback(UpgradeRefusedError(f"the rehearsal was ended: {self._killed}"))
        elif reason.check(ProcessDone) and (said := self._lines(1)):
            self.ended.callback("\n".join(said))
        else:
            self.ended.errback(UpgradeRefusedError(*self._why(reason.value)))

    def _lines(self, stream: int) -> list[str]:
        text = self._said[stream].decode(errors="replace")
        return [visible(line) for line in text.splitlines() if line.strip()]

    def _why(self, end: Any) -> list[str]:
        lines = self._lines(2)
        if not lines:
            how = f"status {end.exitCode}" if end.signal is None else f"signal {end.signal}"
            return [f"the rehearsal ended with {how} and said nothing"]
        if lines[0].startswith("Traceback "):
            return [f"the new program doesn't start: {lines[-1]}"]
        return lines
