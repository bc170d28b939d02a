"""Members who come by a stream: TCP, TLS or a Unix socket.

A member that sends faster than it may is slowed, never dropped, and nothing that it sent is lost. Every line
takes one from the member's bucket, and so do each LINE_WEIGHT bytes received: blank or endless lines are no
way around the rate. Lines are worked off one by one, and `_process` stops at a line, holds it back and reads
no more from the member until a timer fires, for one of three reasons:

- The bucket is empty. The timer fires when the next line is allowed.
- Answers wait for the member, a quarter of what may wait at all. It asked for them (`/who`, `/help`), so it
  waits until it has read them, where what others say to a member that stops reading costs its connection
  (`limit_unsent`).
- What was delivered in this event has taken long enough. The timer fires in a later turn of the reactor, so
  that a `rate` of thousands can't make all others wait.

A connection becomes a member's when its first line is one of a chat's (`strangers`), or when not even the
beginning of one has come within GREETING_DELAY: people are greeted before they type, while a browser sends
its request immediately, and gets an answer that it understands. Until then nobody hears of the connection.

The timers are the host's (`Host.later`): those of all members share one slice of each turn, however many are
due in the same moment.
"""

from collections.abc import Callable
from functools import partial

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure

from sockd.base.frozen import State
from sockd.base.lines import LineSplitter, Mark
from sockd.base.metrics import End
from sockd.base.reactor import Timer
from sockd.limits.rates import Bucket
from sockd.protocols.chat import commands
from sockd.protocols.chat.lines import LONGEST_LINE
from sockd.protocols.chat.options import ChatOptions
from sockd.protocols.chat.room import Member
from sockd.protocols.chat.service import ChatService
from sockd.protocols.chat.strangers import NO_CHAT, Stranger, first_line
from sockd.protocols.chat.telnet import EndlessError, Telnet, edited, special
from sockd.protocols.contract import Host, StreamTransport
from sockd.protocols.stream import StreamProtocol

LINE_WEIGHT = 1024  # bytes received that count as much as a line
DELIVERIES_PER_EVENT = 1000  # lines to members: about a quarter of a millisecond's work
UNSENT_RETRY = 0.05  # seconds until we look again whether a member has taken its answers
GREETING_DELAY = 0.1  # seconds in which a client that speaks first has spoken
# Bytes that one event reads. The costliest are telnet commands between single letters: 0.8 ms.
READ_LIMIT = 2048

_ENDLESS = Stranger("telnet without end", b"-- a telnet subnegotiation without end: goodbye\n")
_REASONS = {End.PEER: "closed the connection", End.RESET: "lost the connection"}


class ChatConnection(StreamProtocol):
    """One member's connection."""

    _member: Member

    def __init__(self, host: Host[ChatOptions]) -> None:
        service: ChatService = host.service
        self._chat = service.chat
        self._reactor = host.reactor
        self._later = host.later
        self._queue = host.options.queue
        self._pace = Bucket(host.options.rate, host.reactor.seconds())
        self._lines = LineSplitter(LONGEST_LINE, blank_lines=False)
        self._telnet = Telnet()
        self._greeted = False  # it was taken in, or turned away
        self._known = False  # its first line is no stranger's
        self._greeting: Timer | None = None  # until it is greeted in any case
        self._held: bytes | Mark | None = None  # the line that waits
        self._received = 0  # bytes that don't weigh as much as a line yet
        self._timer: Timer | None = None  # while nothing is read

    def connectionMade(self) -> None:  # noqa: N802
        transport = self.transport
        transport.limit_unsent(self._queue)
        transport.limit_read(READ_LIMIT)
        self._member = _member(transport)
        self._greeting = self._later(self._greeting_due, delay=GREETING_DELAY)

    def _greet(self) -> None:
        """Take the member in, or turn it away where the chat is full."""
        self._cancel_greeting()
        self._greeted = True
        if self._chat.admit(self._member):
            self._chat.welcome(self._member)
        else:
            self._chat.turn_away(self._member)

    def _cancel_greeting(self) -> None:
        timer, self._greeting = self._greeting, None
        if timer is not None:
            timer.cancel()

    def _greeting_due(self) -> None:
        self._greeting = None
        if not self._lines.unfinished:  # else the end of its first line decides
            self._greet()

    def freeze(self) -> State:
        member, held = self._member, self._held
        return {
            "name": member.name if member.present else None,
            "room": member.room.name if member.room is not None else None,
            "lines": self._lines.freeze(),
            "telnet": self._telnet.freeze(),
            "greeted": self._greeted,
            "known": self._known,
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
        transport.limit_read(READ_LIMIT)
        self._pace = Bucket.thaw(state["pace"])
        self._lines.thaw(state["lines"])
        held = state["held"]
        self._held = Mark(held) if isinstance(held, str) else held
        self._received = int(state["received"])
        name = state["name"]
        if name is None:
            self._member = _member(transport)
        else:
            self._member = self._chat.resume(name, state["room"], transport.write, transport.loseConnection)
            self._member.named = partial(setattr, transport, "name")
            self._member.replay = self._queue // 2
        self._thaw_beginning(state)
        if state["waiting"]:
            self._wait(0)

    def _thaw_beginning(self, state: State) -> None:
        """What versions before this one don't have: a connection that isn't a member's yet, and telnet."""
        self._greeted = bool(state.get("greeted", True))
        self._known = bool(state.get("known", True))
        if "telnet" in state:
            self._telnet.thaw(state["telnet"])
        if self._telnet.spoken:
            self._member.send = partial(_send_to_telnet, self.transport.write)
        if not self._greeted:
            self._greeting = self._later(self._greeting_due, delay=GREETING_DELAY)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        count = len(data)
        telnet = self._telnet.unfinished or special(data)
        if telnet:
            try:
                data = self._telnet.text(data, self._lines.unfinished)
            except EndlessError:
                self._refuse(_ENDLESS)
                return
        self._lines.add(data)
        weight, self._received = divmod(self._received + count, LINE_WEIGHT)
        if weight:
            self._pace.spend(self._reactor.seconds(), weight)
        if not self._known:
            self._known, stranger = first_line(self._lines.rest)
            if stranger is not None:
                self._refuse(stranger)
                return
            if self._known and not self._greeted:
                self._greet()
        if telnet:
            self._answer_telnet()
        if self._timer is None:
            self._process()

    def _refuse(self, stranger: Stranger) -> None:
        """Answer a client of another protocol, and do nothing of what else it sends."""
        self.transport.write(stranger.answer)
        self._depart(f"spoke {stranger.protocol}", announced=True)
        self.transport.refuse(NO_CHAT, stranger.why)

    def _answer_telnet(self) -> None:
        """Send what a telnet client waits for; from its first command on, its lines end as telnet has it."""
        telnet, member = self._telnet, self._member
        if telnet.answers:
            self.transport.write(telnet.answers)
            telnet.answers = b""
        if telnet.spoken:
            member.send = partial(_send_to_telnet, self.transport.write)
        if telnet.asked:
            telnet.asked = False
            if member.present:
                self._chat.reply(member, "yes, the chat is there")

    def _process(self) -> None:
        """Work off the lines that were received, as far as the member may go on now."""
        member = self._member
        now = self._reactor.seconds()
        delivered = 0
        while member.present or not self._greeted:
            line = self._held or self._lines.take()
            wait = UNSENT_RETRY if self.transport.unsent > self._queue // 4 else self._pace.delay(now)
            if wait and (line or self._pace.in_debt(now)):
                self._held = line
                self._wait(wait)
                return
            if line is None:
                return
            if delivered > DELIVERIES_PER_EVENT:
                self._held = line
                self._wait(0)
                return
            self._held = None
            self._pace.spend(now)
            delivered += len(member.room.members) if member.room is not None else 1
            if isinstance(line, bytes) and b"\xff" in line:
                line = edited(line)
                if line is None:
                    line = commands.QUIT
            commands.handle(self._chat, member, line)

    def _wait(self, seconds: float) -> None:
        self.transport.pauseProducing()
        self._timer = self._later(self._go_on, delay=seconds)

    def _go_on(self) -> None:
        self._timer = None
        self._process()
        if self._timer is None:
            self.transport.resumeProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        end = self.transport.end or (End.PEER if reason.check(ConnectionDone) else End.RESET)
        self._depart(_REASONS.get(end, str(end)), announced=True)

    @property
    def busy(self) -> bool:
        """Whether lines that the member has sent still wait for their time."""
        return self._timer is not None

    def last_word(self, reason: str) -> None:
        """Sockd closes the connection. The member is told why; the room hears it when it is lost."""
        if self._member.present:
            self._chat.reply(self._member, f"this connection is closed: {reason}")

    def drain(self) -> None:
        """The daemon stops. The member is told so, and nothing of the other members, who leave as well."""
        if self._member.present:
            self._chat.reply(self._member, "the server closes this connection")
        self._depart("", announced=False)
        self.transport.loseConnection()

    def _depart(self, reason: str, *, announced: bool) -> None:
        self._cancel_greeting()
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self._chat.depart(self._member, reason, announced=announced)


# What a member refers to is the transport, never the protocol: that would be a cycle.


def _member(transport: StreamTransport) -> Member:
    named = partial(setattr, transport, "name")
    return Member(transport.write, transport.loseConnection, named, transport.identity)


def _send_to_telnet(write: Callable[[bytes], object], data: bytes) -> None:
    """Send lines as telnet has them."""
    write(data.replace(b"\n", b"\r\n"))


class ChatFactory(Factory):
    """Makes a ChatConnection for each connection."""

    noisy = False

    def __init__(self, host: Host[ChatOptions]) -> None:
        self._host = host

    def buildProtocol(self, addr: IAddress | None) -> ChatConnection:  # noqa: N802, ARG002
        return ChatConnection(self._host)
