"""The daemon's end of the control socket: a JSON line asks, a JSON line answers."""

import os
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from sockd.base.metrics import Counters, End, summary
from sockd.base.peers import Peer
from sockd.base.units import Rate
from sockd.control import requests
from sockd.control.conversation import Allowed, Caller, Conversation
from sockd.control.language import LONGEST_ANSWER, Refused
from sockd.control.requests import Request
from sockd.limits.suppression import LogLimiter
from sockd.protocols.contract import State
from sockd.transports.acceptor import BREATHER, Acceptor
from sockd.transports.connection import Connection
from sockd.transports.flush import Flusher
from sockd.transports.listening import Listening

# So many connections at a time; the next ones wait in the backlog.
MOST = 32
_REQUESTS_LOGGED = Rate(10, 1.0)  # lines about a request each, by uid
_WARNINGS_LOGGED = Rate(1, 60.0)  # lines about callers that were refused, or could not be accepted

# Called with the arguments of its model (admin/requests.py) by their names; what it returns, or what its
# Deferred or coroutine comes to, is the answer's result. It raises Refused where it can't be done.
Command = Callable[..., Any]


class Control:
    """Serves a listening, non-blocking Unix socket from `start` to `close`.

    `allowed` may be replaced at any time; it holds for those who connect later.
    """

    def __init__(
        self,
        sock: socket.socket,
        flusher: Flusher,
        commands: Mapping[str, Command],
        allowed: Allowed,
        log: Logger,
        counters: Counters | None = None,
    ) -> None:
        self.allowed = allowed
        self._listening = Listening("control", counters)
        self.counters = self._listening.counters
        self._sock = sock
        self._flusher = flusher
        self._reactor = flusher.reactor
        self._commands = commands
        self._log = log
        self._conversations: dict[Connection, Conversation] = {}
        self._acceptor: Acceptor | None = None
        self._again: Any = None
        self._requests = LogLimiter(flusher.reactor, _REQUESTS_LOGGED, self._summarise)
        self._warnings = LogLimiter(flusher.reactor, _WARNINGS_LOGGED)

    def __len__(self) -> int:
        return len(self._conversations)

    # -- accepting

    def start(self) -> None:
        """Accept from now on."""
        self._again = None
        self._acceptor = Acceptor(
            self._sock, self._reactor, self._take, self._room, self._short, self._acceptor_lost, reserved=True
        )
        self._acceptor.accept(self._room() > 0)

    def retire(self) -> None:
        """Close the socket; who is connected still gets the answer, and may ask on."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._acceptor is not None:
            self._acceptor.leave()
            self._acceptor = None
        self._sock.close()

    def close(self) -> None:
        """Close the socket and all connections; what is in work goes on without an answer."""
        self.retire()
        self._requests.close()
        for server in tuple(self._conversations):
            server.cut(End.CUT)

    def _room(self) -> int:
        return MOST - len(self._conversations)

    def _room_changed(self) -> None:
        if self._acceptor is not None:
            self._acceptor.accept(self._room() > 0)

    def _take(self, sock: socket.socket, _sockaddr: Any) -> None:
        self.counters.accepted += 1
        caller = Caller.of(sock)
        conversation = self._converse(sock, Conversation(self._reactor, self._ask, caller))
        if not self.allowed.admits(caller):
            self.counters.refused["not allowed"] += 1
            self._warn("control: uid={uid},pid={pid} is not allowed", uid=caller.uid, pid=caller.pid)
            conversation.turn_away(
                Refused(os.EX_NOPERM, f"uid {caller.uid} is not allowed to use the control socket")
            )

    def _converse(self, sock: socket.socket, conversation: Conversation) -> Conversation:
        peer = Peer.unix(conversation.caller.uid, conversation.caller.pid)
        server = Connection(sock, peer, self._flusher, self, self._listening)
        self._conversations[server] = conversation
        self._room_changed()
        server.limit_unsent(LONGEST_ANSWER)
        server.start(conversation)
        if self._room() <= 0:
            self._hurry()
        return conversation

    def _hurry(self) -> None:
        for each in tuple(self._conversations.values()):
            each.hurry()

    def _short(self, error: OSError) -> None:
        self._hurry()
        self.counters.refused["accepting failed"] += 1
        self._warn("control: can't accept: {why}; newcomers wait", why=error.strerror)

    def _acceptor_lost(self, why: BaseException, acceptor: object) -> None:
        """A bug of ours: the reactor dropped the acceptor, not the socket."""
        if self._acceptor is acceptor:
            self._log.failure("control: accepting failed", Failure(why))
            self._acceptor = None
            self._again = self._reactor.callLater(BREATHER, self.start)

    def _warn(self, text: str, **fields: Any) -> None:
        if self._warnings.allows(text):
            self._log.warn(text, **fields, event="control")

    # -- transports.stream.Owner

    def lane(self, *, secure: bool) -> Any:  # noqa: ARG002
        return self._reactor

    def ended(self, server: Connection, end: End) -> None:  # noqa: ARG002 - why it ended is of no interest here
        del self._conversations[server]
        self._room_changed()

    def protocol_failed(self, where: str) -> None:
        self.counters.refused[f"exception in {where}"] += 1
        self._log.failure("control: a connection failed in {where}", where=where)

    # -- requests

    def _ask(self, conversation: Conversation, request: Request) -> None:
        if request.command not in requests.LOOKING:
            self._tell(conversation.caller, request)
        asked = maybeDeferred(self._call, request)
        asked.addCallback(requests.answer)
        asked.addErrback(self._refusal, request)
        asked.addCallback(conversation.reply)

    def _call(self, request: Request) -> Any:
        command = self._commands.get(request.command)
        if command is None:
            raise Refused(os.EX_USAGE, f"this daemon has no command '{request.command}'")
        return command(**request.arguments)

    def _refusal(self, failure: Failure, request: Request) -> bytes:
        if isinstance(failure.value, Refused):
            return requests.refusal(failure.value)
        self.counters.refused[f"exception in {request.command}"] += 1
        self._log.failure("control: {request} failed", failure, request=str(request))
        what = f"{request.command} failed: {type(failure.value).__name__}: {failure.getErrorMessage()}"
        return requests.refusal(Refused(os.EX_SOFTWARE, " ".join(what.split())[:300]))

    def _tell(self, caller: Caller, request: Request) -> None:
        if self._requests.allows(request.command):
            self._log.info(
                "control: uid={uid},pid={pid}: {request}",
                uid=caller.uid, pid=caller.pid, request=str(request), event="control",
            )  # fmt: skip

    def _summarise(self, suppressed: Counter[str]) -> None:
        self._log.info(
            "control: within a second also: {summary}",
            summary=summary(suppressed), requests=dict(suppressed), event="control",
        )  # fmt: skip

    # -- upgrade

    def pending(self) -> list[tuple[socket.socket, State]]:
        """The connections on which an upgrade was asked for, each with what `adopt` needs to know of it."""
        return [
            (server.sock, conversation.freeze())
            for server, conversation in self._conversations.items()
            if conversation.command == "upgrade" and server.connected
        ]

    def adopt(self, sock: socket.socket, state: State) -> Conversation:
        """Go on, in the new program, with such a connection: `answer` or `refuse` it."""
        sock.setblocking(False)
        conversation = Conversation(self._reactor, self._ask, Caller.of(sock), "upgrade")
        conversation.thaw(state)
        return self._converse(sock, conversation)
