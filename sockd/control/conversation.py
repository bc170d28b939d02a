"""One connection of the control socket: it reads a request, waits for the answer, and reads the next."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter

from twisted.internet.interfaces import IHalfCloseableProtocol, IPullProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from sockd.base.frozen import State
from sockd.base.lines import TOO_LONG, LineSplitter
from sockd.base.metrics import End
from sockd.base.reactor import Clock, Later, Timer
from sockd.base.units import format_duration
from sockd.control import requests
from sockd.control.language import MAX_REQUEST_BYTES, Json, Refused
from sockd.control.requests import Request
from sockd.transports.connection import Connection
from sockd.transports.sockets.unix import credentials, groups_of


@dataclass(frozen=True, slots=True)
class Caller:
    """The process at the other end, as it was when it connected."""

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
    """Who may use the control socket: root, the daemon's own user, and the members of a group, if any."""

    uid: int
    group: int | None

    def admits(self, caller: Caller) -> bool:
        return caller.uid in (0, self.uid) or self.group in caller.groups


# Seconds that a client may take to send a complete request, since it connected or was last answered, and to
# receive an answer, or each part of a long one.
REQUEST_TIMEOUT = 30.0
# Seconds that it may take to receive all parts: what an answer is made of is kept as long.
ANSWER_TIMEOUT = 300.0
# Seconds that making a part of an answer takes, and characters that it has, both by one piece more at most.
PART_TIME = 0.00025
PART_SIZE = 32 * 1024
# Seconds that it may take to close its end after we have closed ours.
LINGER_TIMEOUT = 5.0
# Seconds that a client which has sent nothing may keep its place while others wait for one.
IDLE_TIMEOUT_WHEN_FULL = 1.0


@implementer(IHalfCloseableProtocol, IPullProducer)
class Conversation(Protocol):
    """Reads requests and hands each to `ask(self, request)`, which calls `reply` when it has the answer.

    While a request is being worked on, nothing is read and no deadline runs. If the client closes the
    connection in that time, the work goes on and its answer is dropped. The next request, which may have
    arrived already, is read when the answer has left.

    A long answer leaves in parts (`answer_in_pieces`): each is made `later`, once the client has taken the
    one before, so that no more of it is ever in memory.
    """

    transport: Connection

    def __init__(
        self,
        clock: Clock,
        ask: Callable[["Conversation", Request], None],
        caller: Caller,
        later: Later,
        command: str | None = None,
    ) -> None:
        self.caller = caller
        self._later = later
        self._pieces: Iterator[str] | None = None  # of the answer, those that are still to be made
        self._failed: Callable[[], bytes] | None = None
        self._must_end = 0.0  # when the client must have received all of them
        self.command = command  # that is being worked on
        self._busy = command is not None  # with a request, or with sending its answer
        self._clock = clock
        self._ask = ask
        self._lines = LineSplitter(MAX_REQUEST_BYTES - 1)
        self._closing = False
        self._timer: Timer | None = None

    # -- requests

    def connectionMade(self) -> None:  # noqa: N802
        if self._busy:
            self.transport.pauseProducing()
        else:
            self._set_deadline(REQUEST_TIMEOUT)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self._lines.add(data)
        self._next()

    def readConnectionLost(self) -> None:  # noqa: N802
        if self._lines.rest:
            self._turn_away_for("the request has no newline at its end")
        else:
            self._close()

    def writeConnectionLost(self) -> None:  # noqa: N802
        """Doesn't happen: we close both directions together."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002, N802
        self._closing = True
        self._pieces = None
        self._stop_timer()

    def _next(self) -> None:
        line = self._lines.take()
        if line is TOO_LONG:
            self._turn_away_for(f"the request is too long: it may have {MAX_REQUEST_BYTES} bytes")
        elif line is not None:
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

    # -- answers

    def answer(self, result: Json) -> None:
        """Answer the request that is being worked on: it is done."""
        self.reply(requests.answer(result))

    def refuse(self, status: int, *problems: str) -> None:
        """Answer the request that is being worked on: it can't be done, with the status and the reasons."""
        self.reply(requests.refusal(Refused(status, *problems)))

    def reply(self, line: bytes) -> None:
        """Send the line that answers the request; go on with the next one when it has left."""
        self.command = None
        if not self._closing:
            self._set_deadline(REQUEST_TIMEOUT)
            self.transport.write(line)
            self.transport.registerProducer(self, False)

    def answer_in_pieces(self, pieces: Iterator[str], failed: Callable[[], bytes]) -> None:
        """Send the pieces of an answer's line, made part by part; go on with the next request after them.

        Making them may raise: `failed()` is called while the exception is being handled, and what it returns
        is the answer if none of the pieces has been sent; else the connection is cut.
        """
        self.command = None
        self._pieces, self._failed = pieces, failed
        self._must_end = 0.0
        self._send_part()

    def _send_part(self) -> None:
        pieces, failed = self._pieces, self._failed
        if self._closing or pieces is None or failed is None:
            self._pieces = None
            return
        part: list[str] = []
        size, until = 0, perf_counter() + PART_TIME
        try:
            for piece in pieces:
                part.append(piece)
                size += len(piece)
                if size >= PART_SIZE or perf_counter() > until:
                    break
            else:
                self._pieces = None
        except BaseException:  # noqa: BLE001 - whatever a third party's object raises when it is looked at
            self._pieces = None
            refusal = failed()
            if self._must_end:
                self.transport.cut(End.FAILED)
            else:
                self.reply(refusal)
            return
        now = self._clock.seconds()
        first = not self._must_end
        if first:
            self._must_end = now + ANSWER_TIMEOUT
        self._set_deadline(max(0.0, min(REQUEST_TIMEOUT, self._must_end - now)))
        if not part and not first:
            self.resumeProducing()  # the part before was the last: nothing is sent, after which it would be
            return
        self.transport.write("".join(part).encode())
        if first:
            self.transport.registerProducer(self, False)

    def turn_away(self, refused: Refused) -> None:
        """Send a refusal, read no more requests and close the connection."""
        self.transport.write(requests.refusal(refused))
        self._close()

    def _turn_away_for(self, problem: str) -> None:
        self.turn_away(requests.wrong(problem))

    # -- IPullProducer: the transport asks for more when it has sent everything

    def resumeProducing(self) -> None:  # noqa: N802
        if self._pieces is not None:
            self._stop_timer()  # from here on it waits for us
            self._later(self._send_part)
            return
        self.transport.unregisterProducer()
        self._busy = False
        self._set_deadline(REQUEST_TIMEOUT)
        self._next()
        if not self._busy:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:  # noqa: N802
        """The client reads nothing any more: `connectionLost` follows."""

    # -- deadlines and endings

    def hurry(self) -> None:
        """Close the connection soon if its client sends nothing: others may be waiting for its place."""
        if self._timer is not None and not self._busy and not self._lines.rest:
            left = self._timer.getTime() - self._clock.seconds()
            self._set_deadline(max(0.0, min(IDLE_TIMEOUT_WHEN_FULL, left)))

    def _set_deadline(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self._clock.callLater(seconds, self._expired)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expired(self) -> None:
        self._timer = None
        if self._closing or self._busy:
            self.transport.cut(End.STALLED)
        elif self._lines.rest:
            self._turn_away_for(f"the request was not complete within {format_duration(REQUEST_TIMEOUT)}")
        else:
            self._close(End.IDLE)

    def _close(self, end: End = End.DONE) -> None:
        self._closing = True
        self._set_deadline(LINGER_TIMEOUT)
        self.transport.close(end)

    # -- upgrade

    def freeze(self) -> State:
        """What the client has sent after the request that is being worked on."""
        return self._lines.freeze()

    def thaw(self, state: State) -> None:
        """Go on with what another program's conversation was frozen to."""
        self._lines.thaw(state)
