"""One connection of the control socket: a request at a time, each within its bounds."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IPullProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from sockd.base.metrics import End
from sockd.base.units import format_duration
from sockd.control import requests
from sockd.control.language import LONGEST_REQUEST, Refused
from sockd.control.requests import Request
from sockd.protocols.contract import State
from sockd.transports.sockets.unix import credentials, groups_of


@dataclass(frozen=True, slots=True)
class Caller:
    """A process as it was when it connected."""

    uid: int
    pid: int
    groups: frozenset[int]

    @classmethod
    def of(cls, sock: socket.socket) -> "Caller":
        """From SO_PEERCRED and SO_PEERGROUPS (unix(7), socket(7))."""
        uid, pid = credentials(sock)
        return cls(uid, pid, groups_of(sock))


@dataclass(frozen=True, slots=True)
class Allowed:
    """Root, the daemon's own user, and the members of a group (None: of none)."""

    uid: int
    group: int | None

    def admits(self, caller: Caller) -> bool:
        return caller.uid in (0, self.uid) or self.group in caller.groups


# How long (seconds) a client has for a complete request, since it connected or was answered last, and for
# taking an answer.
PATIENCE = 30.0
# How long (seconds) it has to close its end after we are done with it.
LINGER = 5.0
# How long (seconds) it has to begin, or to close its end, when others may be waiting for its place.
HURRY = 1.0


@implementer(IHalfCloseableProtocol, IPullProducer)
class Conversation(Protocol):
    """Reads requests and gives them to `ask(self, request)`, which has `reply` called in the end.

    While a request is in work, nothing is read and nothing is timed; a client that leaves meanwhile changes
    nothing but that nobody gets the answer. The next request is looked at when the answer has gone.
    """

    transport: Any

    def __init__(
        self,
        reactor: Any,
        ask: Callable[["Conversation", Request], None],
        caller: Caller,
        command: str | None = None,
    ) -> None:
        self.caller = caller
        self.command = command  # in work
        self._busy = command is not None  # with a request, or with sending its answer
        self._reactor = reactor
        self._ask = ask
        self._buffer = b""
        self._closing = False
        self._timer: Any = None

    # -- reading

    def connectionMade(self) -> None:  # noqa: N802
        if self._busy:
            self.transport.pauseProducing()
        else:
            self._give(PATIENCE)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self._buffer += data
        self._next()

    def readConnectionLost(self) -> None:  # noqa: N802
        if self._buffer:
            self._turn_away_for("the request has no newline at its end")
        else:
            self._close()

    def writeConnectionLost(self) -> None:  # noqa: N802
        """Never ours alone: both directions end together."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002, N802
        self._closing = True
        self._stop_timer()

    def _next(self) -> None:
        line, newline, rest = self._buffer.partition(b"\n")
        if len(line) + 1 > LONGEST_REQUEST:
            self._turn_away_for(f"the request is too long: it may have {LONGEST_REQUEST} bytes")
        elif newline:
            self._buffer = rest
            self._busy = True
            self._stop_timer()
            self.transport.pauseProducing()
            self._begin(line)

    def _begin(self, line: bytes) -> None:
        try:
            request = requests.read(line)
        except Refused as refused:
            self.reply(requests.refusal(refused))
            return
        self.command = request.command
        self._ask(self, request)

    # -- answering

    def answer(self, result: Any) -> None:
        """The request in work is done."""
        self.reply(requests.answer(result))

    def refuse(self, status: int, *problems: str) -> None:
        """The request in work can't be done."""
        self.reply(requests.refusal(Refused(status, *problems)))

    def reply(self, line: bytes) -> None:
        """Send a line that answers the request in work; go on with the next one when it has gone."""
        self.command = None
        if not self._closing:
            self._give(PATIENCE)
            self.transport.write(line)
            self.transport.registerProducer(self, False)

    def turn_away(self, refused: Refused) -> None:
        """Say why, and read no more requests."""
        self.transport.write(requests.refusal(refused))
        self._close()

    def _turn_away_for(self, problem: str) -> None:
        self.turn_away(requests.wrong(problem))

    # -- IPullProducer, which the transport asks for more when everything has gone

    def resumeProducing(self) -> None:  # noqa: N802
        self.transport.unregisterProducer()
        self._busy = False
        self._give(PATIENCE)
        self._next()
        if not self._busy:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:  # noqa: N802
        """The client takes nothing any more; the end of the connection is told by itself."""

    # -- time and endings

    def hurry(self) -> None:
        """Others may wait for its place: who asks nothing has not much longer."""
        if self._timer is not None and not self._busy and not self._buffer:
            self._give(max(0.0, min(HURRY, self._timer.getTime() - self._reactor.seconds())))

    def _give(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self._reactor.callLater(seconds, self._expired)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expired(self) -> None:
        self._timer = None
        if self._closing or self._busy:
            self.transport.cut(End.STALLED)
        elif self._buffer:
            self._turn_away_for(f"the request was not complete within {format_duration(PATIENCE)}")
        else:
            self._close(End.IDLE)

    def _close(self, end: End = End.DONE) -> None:
        self._closing = True
        self._give(LINGER)
        self.transport.close(end)

    # -- upgrade

    def freeze(self) -> State:
        """What of it the request in work leaves to be done: the requests that follow."""
        return {"buffer": self._buffer}

    def thaw(self, state: State) -> None:
        self._buffer = bytes(state.get("buffer", b""))
