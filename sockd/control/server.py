"""The daemon's end of the control socket: accepts connections, and runs the commands they ask for."""

import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from sockd.base.frozen import State
from sockd.base.metrics import Counters, End, summary
from sockd.base.peers import Peer
from sockd.base.reactor import Reactor, Timer
from sockd.base.units import Rate
from sockd.base.users import user_name
from sockd.control import answers, requests
from sockd.control.commands import COMMANDS
from sockd.control.conversation import Allowed, Caller, Conversation
from sockd.control.language import MAX_ANSWER_BYTES, Json, Refused
from sockd.control.requests import Request
from sockd.limits.rates import Buckets
from sockd.limits.suppression import LogLimiter
from sockd.transports.acceptor import SHORTAGE_PAUSE, Acceptor
from sockd.transports.connection import Connection
from sockd.transports.continued import ContinuedWork
from sockd.transports.flush import Flusher
from sockd.transports.listening import Listening

# Connections at a time; further ones wait in the backlog.
MAX_CONNECTIONS = 32
_REQUESTS_LOGGED = Rate(10, 1.0)  # lines about requests, one for each
_WARNINGS_LOGGED = Rate(1, 60.0)  # lines about accepting that failed
_TURNED_AWAY_LOGGED = Rate(3, 60.0)  # lines about a user who may not use the socket
_USERS_TURNED_AWAY = 256  # that have lines of their own; others share

# What a command does. It is called with the arguments that the command declares (commands.py), by their
# names; what it returns, or what its Deferred or coroutine comes to, is the answer's result. It raises
# Refused where it can't be done.
Effect = Callable[..., object]


class ControlServer:
    """Serves a listening, non-blocking Unix socket from `start` to `close`.

    `allowed` may be replaced at any time; it counts for callers that connect later.
    """

    def __init__(
        self,
        sock: socket.socket,
        flusher: Flusher,
        effects: Mapping[str, Effect],
        allowed: Allowed,
        log: Logger,
        counters: Counters | None = None,
    ) -> None:
        self.allowed = allowed
        self._listening = Listening("control", counters)
        self.counters = self._listening.counters
        self.sock = sock
        self._flusher = flusher
        self._reactor: Reactor = flusher.reactor
        self._effects = effects
        self._log = log
        self._conversations: dict[Connection, Conversation] = {}
        self.later = ContinuedWork(flusher, self.protocol_failed).later
        self._acceptor: Acceptor | None = None
        self._again: Timer | None = None
        self._requests = LogLimiter(flusher.reactor, _REQUESTS_LOGGED, self._summarise)
        self._warnings = LogLimiter(flusher.reactor, _WARNINGS_LOGGED)
        self._turned_away: Buckets[int] = Buckets(_TURNED_AWAY_LOGGED, _USERS_TURNED_AWAY)

    def __len__(self) -> int:
        return len(self._conversations)

    def __iter__(self) -> Iterator[Connection]:
        """The connections of its callers."""
        return iter(self._conversations)

    # -- accepting

    def start(self) -> None:
        """Accept connections from now on."""
        self._again = None
        self._acceptor = Acceptor(
            self.sock, self._reactor, self._take, self._room, self._short, self._acceptor_lost, reserved=True
        )
        self._acceptor.accept(self._room() > 0)

    def retire(self) -> None:
        """Close the socket. Callers that are connected get their answers, and may ask for more."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._acceptor is not None:
            self._acceptor.leave()
            self._acceptor = None
        self.sock.close()

    def close(self) -> None:
        """Close the socket and all connections. Requests that are being worked on go on without an answer."""
        self.retire()
        self._requests.close()
        for connection in tuple(self._conversations):
            connection.cut(End.CUT)

    def _room(self) -> int:
        return MAX_CONNECTIONS - len(self._conversations)

    def _room_changed(self) -> None:
        if self._acceptor is not None:
            self._acceptor.accept(self._room() > 0)

    def _take(self, sock: socket.socket, _sockaddr: object) -> None:
        self.counters.accepted += 1
        caller = Caller.of(sock)
        conversation = self._converse(sock, Conversation(self._reactor, self._ask, caller, self.later))
        if not self.allowed.admits(caller):
            self.counters.refused["not allowed"] += 1
            self._log_turned_away(caller)
            conversation.turn_away(
                Refused(os.EX_NOPERM, f"uid {caller.uid} is not allowed to use the control socket")
            )

    def _converse(self, sock: socket.socket, conversation: Conversation) -> Conversation:
        peer = Peer.unix(conversation.caller.uid, conversation.caller.pid)
        connection = Connection(sock, peer, self._flusher, self, self._listening)
        self._conversations[connection] = conversation
        self._room_changed()
        connection.limit_unsent(MAX_ANSWER_BYTES)
        connection.start(conversation)
        if self._room() <= 0:
            self._hurry()
        return conversation

    def _hurry(self) -> None:
        for each in tuple(self._conversations.values()):
            each.hurry()

    def _short(self, error: OSError) -> None:
        self._hurry()
        self.counters.refused["accepting failed"] += 1
        self._warn(
            "control: can't accept: {why}; new connections wait in the kernel's backlog", why=error.strerror
        )

    def _acceptor_lost(self, why: BaseException, acceptor: object) -> None:
        """The reactor dropped the acceptor, because of a bug in it; the socket is still open."""
        if self._acceptor is acceptor:
            self._log.failure("control: accepting failed", Failure(why))
            self._acceptor = None
            self._again = self._reactor.callLater(SHORTAGE_PAUSE, self.start)

    def _warn(self, text: str, **fields: object) -> None:
        if self._warnings.allows(text):
            self._log.warn(text, **fields, event="control")

    # -- the owner of a connection, as transports/connection.py has it

    def lane(self, *, secure: bool) -> Reactor:  # noqa: ARG002
        return self._reactor

    def ended(self, connection: Connection, end: End) -> None:  # noqa: ARG002
        del self._conversations[connection]
        self._room_changed()

    def refused(self, connection: Connection, reason: str, why: str = "") -> None:  # noqa: ARG002
        self.counters.refused[reason] += 1

    def protocol_failed(self, where: str) -> None:
        self.counters.refused[f"exception in {where}"] += 1
        self._log.failure("control: a connection failed in {where}", where=where)

    # -- requests

    def _ask(self, conversation: Conversation, request: Request) -> None:
        if COMMANDS[request.command].changes:
            self._log_request(conversation.caller, request)
        self.later(self._work_on, conversation, request)

    def _work_on(self, conversation: Conversation, request: Request) -> None:
        """Run the command, whose answer may be long: within the slice that all callers share."""
        asked = maybeDeferred(self._call, request)
        asked.addCallback(self._answer, conversation, request)
        asked.addErrback(lambda failure: conversation.reply(self._refusal(failure, request)))

    def _answer(self, result: Json, conversation: Conversation, request: Request) -> None:
        conversation.answer_in_pieces(answers.pieces(result), lambda: self._refusal(Failure(), request))

    def _call(self, request: Request) -> Json:
        effect = self._effects.get(request.command)
        if effect is None:
            raise Refused(os.EX_USAGE, f"this daemon has no command '{request.command}'")
        return effect(**request.arguments)

    def _refusal(self, failure: Failure, request: Request) -> bytes:
        if isinstance(failure.value, Refused):
            return requests.refusal(failure.value)
        self.counters.refused[f"exception in {request.command}"] += 1
        self._log.failure("control: {request} failed", failure, request=str(request))
        what = f"{request.command} failed: {type(failure.value).__name__}: {failure.getErrorMessage()}"
        return requests.refusal(Refused(os.EX_SOFTWARE, " ".join(what.split())[:300]))

    def _log_turned_away(self, caller: Caller) -> None:
        """Log who may not use the socket: each user a few times, however often another one tries."""
        if self._turned_away.take(caller.uid, self._reactor.seconds()):
            who, fields = _who(caller)
            self._log.warn(
                f"control: {who} is not allowed: neither root, nor sockd's user, nor in daemon.control_group",
                **fields,
                event="control",
            )

    def _log_request(self, caller: Caller, request: Request) -> None:
        if self._requests.allows(request.command):
            who, fields = _who(caller)
            self._log.info(f"control: {who}: {{request}}", request=str(request), event="control", **fields)

    def _summarise(self, suppressed: Counter[str]) -> None:
        self._log.info(
            "control: within a second also: {summary}",
            summary=summary(suppressed), requests=dict(suppressed), event="control",
        )  # fmt: skip

    # -- upgrade

    def pending(self) -> list[tuple[socket.socket, State]]:
        """The connections that wait for the answer to an upgrade, each with the state that `adopt` takes."""
        return [
            (connection.sock, conversation.freeze())
            for connection, conversation in self._conversations.items()
            if conversation.command == "upgrade" and connection.connected
        ]

    def adopt(self, sock: socket.socket, state: State) -> Conversation:
        """Go on with such a connection in the new program, which has to `answer` or `refuse` it."""
        sock.setblocking(False)
        conversation = Conversation(self._reactor, self._ask, Caller.of(sock), self.later, "upgrade")
        conversation.thaw(state)
        return self._converse(sock, conversation)


def _who(caller: Caller) -> tuple[str, dict[str, object]]:
    """The caller as lines of the log show it, and the fields of that format."""
    fields: dict[str, object] = {"uid": caller.uid, "pid": caller.pid}
    name = user_name(caller.uid)
    if not name:
        return "uid={uid},pid={pid}", fields
    return "uid={uid},pid={pid} ({user})", fields | {"user": name}
