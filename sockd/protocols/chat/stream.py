"""Members who come by a stream: TCP or a Unix socket."""

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from sockd.base.metrics import End
from sockd.limits.rates import Bucket
from sockd.protocols.chat import commands
from sockd.protocols.chat.lines import Lines, Mark
from sockd.protocols.chat.options import ChatOptions
from sockd.protocols.chat.room import Member
from sockd.protocols.chat.service import ChatService
from sockd.protocols.contract import Host, State

WEIGHT = 1024  # bytes received that count as much as a line, so that blank or endless lines are no way round
# After so many lines to members, about a millisecond's work, others have their turn: a `rate` of thousands
# may allow what came in one read to be said at once.
DELIVERIES = 4000
OWING = 0.05  # seconds until we look again whether a member has taken the answers it asked for

_REASONS = {End.PEER: "closed the connection", End.RESET: "lost the connection"}


class ChatConnection(Protocol):
    """One member's connection. A member that sends faster than it may is not read from until it may again."""

    transport: Any
    _member: Member

    def __init__(self, host: Host[ChatOptions]) -> None:
        service: ChatService = host.service
        self._chat = service.chat
        self._reactor = host.reactor
        self._queue = host.options.queue
        self._pace = Bucket(host.options.rate, host.reactor.seconds())
        self._lines = Lines()
        self._held: bytes | Mark | None = None  # the line that has to wait
        self._received = 0
        self._timer: Any = None

    def connectionMade(self) -> None:  # noqa: N802
        transport = self.transport
        transport.limit_unsent(self._queue)
        self._member = Member(transport.write, transport.loseConnection, identity=transport.identity)
        if self._chat.admit(self._member):
            self._chat.welcome(self._member)
        else:
            self._chat.turn_away(self._member)

    def freeze(self) -> State:
        member, held = self._member, self._held
        return {
            "name": member.name if member.present else None,
            "room": member.room.name if member.room is not None else None,
            "lines": self._lines.freeze(),
            "held": held.value if isinstance(held, Mark) else held,
            "waiting": self._timer is not None,
            "received": self._received,
            "pace": self._pace.freeze(),
            "queue": self._queue,
        }

    def thaw(self, state: State) -> None:
        """Go on in the same room, at the same line; nobody is told anything."""
        transport = self.transport
        self._queue = int(state["queue"])
        transport.limit_unsent(self._queue)
        self._pace = Bucket.thaw(state["pace"])
        self._lines.thaw(state["lines"])
        held = state["held"]
        self._held = Mark(held) if isinstance(held, str) else held
        self._received = int(state["received"])
        name = state["name"]
        if name is None:
            self._member = Member(transport.write, transport.loseConnection)
        else:
            self._member = self._chat.come_back(
                name, state["room"], transport.write, transport.loseConnection
            )
            self._member.replay = self._queue // 2
        if state["waiting"]:
            self._wait(0)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self._lines.feed(data)
        weight, self._received = divmod(self._received + len(data), WEIGHT)
        if weight:
            self._pace.spend(self._reactor.seconds(), weight)
        if self._timer is None:
            self._hear()

    def _hear(self) -> None:
        """Work off what was received, as far as the member may go on now."""
        member = self._member
        now = self._reactor.seconds()
        delivered = 0
        while member.present:
            line = self._held or self._lines.take()
            # Answers that it asked for and hasn't read are no reason to drop a member, but one to wait.
            wait = OWING if self.transport.unsent > self._queue // 4 else self._pace.delay(now)
            if wait and (line or self._pace.in_debt(now)):
                self._held = line
                self._wait(wait)
                return
            if line is None:
                return
            if delivered > DELIVERIES:
                self._held = line
                self._wait(0)
                return
            self._held = None
            self._pace.spend(now)
            delivered += len(member.room.members) if member.room is not None else 1
            commands.hear(self._chat, member, line)

    def _wait(self, seconds: float) -> None:
        self.transport.pauseProducing()
        self._timer = self._reactor.callLater(seconds, self._go_on)

    def _go_on(self) -> None:
        self._timer = None
        self._hear()
        if self._timer is None:
            self.transport.resumeProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        end = self.transport.end or (End.PEER if reason.check(ConnectionDone) else End.RESET)
        self._depart(_REASONS.get(end, str(end)), announced=True)

    def drain(self) -> None:
        """The daemon stops. Each member is told so; that all the others leave too goes without saying."""
        if self._member.present:
            self._chat.reply(self._member, "the server closes this connection")
        self._depart("", announced=False)
        self.transport.loseConnection()

    def _depart(self, reason: str, *, announced: bool) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self._chat.depart(self._member, reason, announced=announced)


class _Factory(Factory):
    noisy = False

    def __init__(self, host: Host[ChatOptions]) -> None:
        self._host = host

    def buildProtocol(self, _addr: Any) -> ChatConnection:  # noqa: N802
        return ChatConnection(self._host)


def factory(host: Host[ChatOptions]) -> Factory:
    return _Factory(host)
