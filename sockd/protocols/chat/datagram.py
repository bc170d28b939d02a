"""Members who come by datagrams: UDP peers that proved their address, and peers on a Unix socket.

A datagram has no connection behind it, so each member has a session in its place. It ends when the member
quits. A UDP member leaves when it is silent for five minutes, as nothing else says that it has gone. On a
Unix socket the kernel can be asked, so that silence means nothing there; but a member that takes nothing for
ten seconds leaves. What comes faster than the rate can't be slowed, so it is dropped and counted, with one
notice until the member has rested.

An event works off lines until it has caused DELIVERIES_PER_EVENT, and sends some of these (`outbox`). Lines
that are left wait, and nothing more is read before they have been said, in later turns.
"""

from collections import deque
from collections.abc import Hashable, Iterable, Sequence

from sockd.base.frozen import State
from sockd.base.lines import LineSplitter
from sockd.base.peers import Peer
from sockd.base.reactor import Clock, Timer
from sockd.limits.rates import Bucket
from sockd.limits.reflection import no_client
from sockd.protocols.chat import commands
from sockd.protocols.chat.lines import LONGEST_LINE
from sockd.protocols.chat.options import ChatOptions
from sockd.protocols.chat.outbox import Outbox
from sockd.protocols.chat.proof import PROVE
from sockd.protocols.chat.room import Member
from sockd.protocols.chat.service import ChatService
from sockd.protocols.chat.strangers import NO_CHAT, Stranger, first_line
from sockd.protocols.contract import DatagramProtocol, DatagramTransport, Host
from sockd.protocols.contract import Member as ListedMember

# Seconds without a datagram from a member until it is asked whether it is there, and until it leaves.
SILENCE_WARNING = 240.0
SILENCE_LIMIT = 300.0
# Seconds in which a Unix socket takes nothing until we know that nobody reads there. Its queue is short and a
# join alone may fill it, so that one refusal says little.
UNREAD_LIMIT = 10.0
# Deliveries to members that an event makes of the lines that it has read; each costs a look at its member.
DELIVERIES_PER_EVENT = 1000
# Seconds of silence until the kernel is asked whether a Unix socket is still there, and again after as many.
GONE_INTERVAL = 60.0
GONE_CHECKS = 50  # in one sweep: each is three system calls, 10 µs


class DatagramSession:
    """What a connection is to a member by a stream: its peer, its rate, and when it was last heard."""

    __slots__ = (
        "asked",
        "checked",
        "heard",
        "key",
        "known",
        "listener",
        "member",
        "notified",
        "pace",
        "peer",
        "since",
        "unread_since",
    )

    def __init__(
        self, listener: "ChatDatagrams", key: Hashable, peer: Peer, pace: Bucket, now: float
    ) -> None:
        self.listener = listener
        self.key = key
        self.peer = peer
        self.pace = pace
        self.since = now
        self.heard = now
        self.checked = now  # that its socket is there
        self.known = False  # its first line is no stranger's
        self.asked = False  # whether it is still there
        self.notified = False  # that its lines are dropped
        self.unread_since: float | None = None
        self.member = Member(self.send, self.close)

    def freeze(self) -> State:
        room = self.member.room
        return {
            "peer": self.peer.freeze(),
            "name": self.member.name,
            "room": None if room is None else room.name,
            "pace": self.pace.freeze(),
            "since": self.since,
            "heard": self.heard,
            "known": self.known,
            "asked": self.asked,
            "notified": self.notified,
            "unread_since": self.unread_since,
        }

    def thaw(self, state: State) -> None:
        self.since = float(state.get("since", self.heard))  # versions before this one froze none
        self.known = bool(state.get("known", True))
        self.asked = bool(state["asked"])
        self.notified = bool(state["notified"])
        self.unread_since = state["unread_since"]

    def send(self, data: bytes) -> None:
        self.listener.outbox.add(data, self)

    def sent(self, taken: bool) -> None:
        """A datagram was sent to it; on a Unix socket, whether there was room for it."""
        listener = self.listener
        if taken:
            self.unread_since = None
        elif self.peer.local:
            now = listener.clock.seconds()
            if self.unread_since is None:
                self.unread_since = now
            elif now - self.unread_since >= UNREAD_LIMIT:
                listener.lose(self, "does not read")

    def close(self) -> None:
        self.listener.forget(self)


class ChatDatagrams(DatagramProtocol):
    """The members of one datagram listener. Nobody else is ever answered, except with a challenge."""

    def __init__(self, host: Host[ChatOptions]) -> None:
        self._service: ChatService = host.service
        self._chat = self._service.chat
        self._rate = host.options.rate
        self.clock: Clock = host.reactor
        self._later = host.later
        self._udp_ports = host.udp_ports
        self._sessions: dict[Hashable, DatagramSession] = {}
        self.outbox = Outbox(host.later)
        # What was read and isn't worked off: datagrams, and lines of the one before them.
        self._waiting: deque[tuple[bytes, Peer]] = deque()
        self._speaker: DatagramSession | None = None
        self._lines = LineSplitter(LONGEST_LINE, blank_lines=False)
        self._call: Timer | None = None

    def start(self, transport: DatagramTransport) -> None:
        super().start(transport)
        self.outbox.open(transport)
        self._service.datagram_listeners.add(self)

    def reload(self, options: ChatOptions) -> None:
        """Take the rate for members who come later."""
        self._rate = options.rate

    def freeze(self) -> State:
        waiting = [[data, peer.freeze()] for data, peer in self._waiting]
        if self._speaker is not None:
            waiting.insert(0, [self._lines.rest, self._speaker.peer.freeze()])
        return {
            "sessions": [session.freeze() for session in self._sessions.values()],
            "waiting": waiting,
            "unsent": [[data, to.peer.freeze()] for data, to in self.outbox],
        }

    def thaw(self, state: State) -> None:
        """Members go on where they were; nobody is told anything."""
        for each in state["sessions"]:
            peer = Peer.thaw(each["peer"])
            session = DatagramSession(self, _key(peer), peer, Bucket.thaw(each["pace"]), float(each["heard"]))
            session.thaw(each)
            session.member = self._chat.resume(each["name"], each["room"], session.send, session.close)
            self._sessions[session.key] = session
        for data, peer in state.get("unsent", ()):
            to = self._sessions.get(_key(Peer.thaw(peer)))
            if to is not None:
                self.outbox.add(bytes(data), to)
        self._waiting += [(bytes(data), Peer.thaw(peer)) for data, peer in state.get("waiting", ())]
        self._go_on_later()

    # -- datagrams and lines, in turns

    def datagrams(self, batch: Sequence[tuple[bytes, Peer]]) -> None:
        self._waiting += batch
        if self._call is None:
            self._work_off()

    def _work_off(self) -> None:
        """Say what was read, as far as one event may, and send some of it."""
        self._call = None
        self.outbox.in_event = True
        left = DELIVERIES_PER_EVENT
        while left > 0 and not self.outbox.crowded and (self._speaker is not None or self._waiting):
            try:
                left -= self._work_off_one()
            except BaseException:  # noqa: BLE001 - whatever was raised, the other datagrams still count
                self._drop_lines()
                self.transport.failed("datagram")
        self.outbox.end_event()
        self._go_on_later()

    def _go_on_later(self) -> None:
        if self._speaker is not None or self._waiting:
            self.transport.pauseProducing()
            self._call = self._later(self._work_off)
        else:
            self.transport.resumeProducing()

    def _work_off_one(self) -> int:
        """One line of the datagram that is worked off, or the next datagram; the deliveries that it made."""
        speaker = self._speaker
        if speaker is None:
            self.datagram(*self._waiting.popleft())
            return 1
        room = speaker.member.room
        self._say(speaker, self.clock.seconds())
        return 1 if room is None else len(room.members)

    def datagram(self, data: bytes, peer: Peer) -> None:
        if peer.sockaddr is None:
            self.transport.refuse("no return address", (peer,))
            return
        now = self.clock.seconds()
        key = _key(peer)
        session = self._sessions.get(key)
        if session is not None and (session.peer.uid, session.peer.pid) != (peer.uid, peer.pid):
            self.lose(session, "another process has its socket now")
            session = None
        if session is not None:
            self._process(session, data, now)
        elif peer.local:
            self._admit(key, data, peer, now)
        elif self._service.proof.accepts(data, peer, now):
            peer.proved = True
            self._admit(key, data.partition(b"\n")[2], peer, now)
        elif (stranger := _stranger(data)) is not None:
            self._refuse(stranger, peer)  # without an answer: the address may be forged
        else:
            challenge = self._service.proof.challenge(data, peer, now)
            if challenge is None:
                self.transport.refuse("not a member", (peer,), no_client(peer, self._udp_ports) or "")
            else:
                self.transport.send(challenge, peer)

    def _admit(self, key: Hashable, data: bytes, peer: Peer, now: float) -> None:
        stranger = _stranger(data)
        if stranger is not None:
            self._turn_away(stranger, peer)
            return
        session = DatagramSession(self, key, peer, Bucket(self._rate, now), now)
        if self._chat.admit(session.member):
            self._sessions[key] = session
            self._service.member_log.joined(peer, session.member.name)
            self._chat.welcome(session.member)
            self._process(session, data, now)
        else:
            self.transport.refuse("chat full", (peer,))
            self._chat.turn_away(session.member)

    def _process(self, session: DatagramSession, data: bytes, now: float) -> None:
        """Have the lines of a member's datagram worked off, the last of which needs no newline."""
        session.heard = now
        session.asked = False
        if session.known or self._meets(session, data):
            self._speaker = session
            self._lines.add(data + b"\n")

    def _say(self, session: DatagramSession, now: float) -> None:
        """Do what the next line asks for; the rest of a datagram that comes too fast is dropped."""
        member, line = session.member, self._lines.take()
        if line is None or not member.present:
            self._drop_lines()
            return
        if session.notified and session.pace.is_full(now):
            session.notified = False
        if session.pace.delay(now):
            self.transport.refuse("too fast", (session.peer,))
            if not session.notified:
                session.notified = True
                self._chat.reply(
                    member, f"faster than {session.pace.rate}: what you send is dropped for a moment"
                )
            self._drop_lines()
            return
        session.pace.spend(now)
        # The code may arrive twice, or come from two windows that share an address.
        if not isinstance(line, bytes) or not line.startswith(PROVE):
            commands.handle(self._chat, member, line)

    def _drop_lines(self) -> None:
        """Go on with the next datagram, whatever is left of this one."""
        self._lines.thaw({})
        self._speaker = None

    def _meets(self, session: DatagramSession, data: bytes) -> bool:
        """Whether a member's first line, if it is there, is no stranger's; else the member is let go."""
        if data.startswith(PROVE):
            return True
        session.known, stranger = first_line(data + b"\n")
        if stranger is None:
            return True
        self._turn_away(stranger, session.peer)
        self.lose(session, f"spoke {stranger.protocol}")
        return False

    def _turn_away(self, stranger: Stranger, peer: Peer) -> None:
        self._refuse(stranger, peer)
        self.transport.send(stranger.answer, peer)

    def _refuse(self, stranger: Stranger, peer: Peer) -> None:
        self.transport.refuse(NO_CHAT, (peer,), stranger.why)

    def members(self) -> Iterable[ListedMember]:
        for session in tuple(self._sessions.values()):
            if session.member.present:
                idle = self.clock.seconds() - session.heard
                yield ListedMember(session.peer, session.member.name, session.since, idle)

    def end_member(self, peer: Peer, reason: str) -> bool:
        session = self._sessions.get(_key(peer))
        if session is None:
            return False
        self._chat.reply(session.member, f"this connection is closed: {reason}")
        self.lose(session, reason)
        return True

    def lose(self, session: DatagramSession, reason: str, *, announced: bool = True) -> None:
        """Take out a member that has gone without a word."""
        self.forget(session, reason)
        self._chat.depart(session.member, reason, announced=announced)

    def forget(self, session: DatagramSession, reason: str = "quit") -> None:
        """End a session; its member leaves, or has left, the chat by itself."""
        if self._sessions.pop(session.key, None) is not None:
            self._service.member_log.left(session.peer, session.member.name, reason)

    def sweep(self, now: float) -> None:
        self._sweep_some(deque(self._sessions.values()), now, 0)

    def _sweep_some(self, sessions: deque[DatagramSession], now: float, checks: int) -> None:
        """Look at these, until some have left that many others are told of; at the rest in a later turn."""
        left = DELIVERIES_PER_EVENT
        while sessions:
            if left <= 0:
                self._later(self._sweep_some, sessions, now, checks)
                return
            session = sessions.popleft()
            if self._sessions.get(session.key) is not session:
                continue  # it has left in between
            told = 0 if session.member.room is None else len(session.member.room.members)
            if not session.peer.local:
                self._sweep_remote(session, now)
            elif checks < GONE_CHECKS and now - max(session.heard, session.checked) >= GONE_INTERVAL:
                checks += 1
                session.checked = now
                if self.transport.gone(session.peer):
                    self.lose(session, "its socket is gone")
            left -= 1 if session.member.present else 1 + told

    def _sweep_remote(self, session: DatagramSession, now: float) -> None:
        silent = now - session.heard
        if silent >= SILENCE_LIMIT:
            self._chat.reply(session.member, "you were silent for 5 minutes: goodbye")
            self.lose(session, "silent for 5 minutes")
        elif silent >= SILENCE_WARNING and not session.asked:
            session.asked = True
            self._chat.reply(session.member, "still there? send anything, or you leave in a minute")

    def drain(self) -> None:
        for session in tuple(self._sessions.values()):
            self._chat.reply(session.member, "the server closes this connection")
            self.lose(session, "the server closes this connection", announced=False)
        self.outbox.close()  # now: in the next turn there may be no socket any more

    def stop(self) -> None:
        self._service.datagram_listeners.discard(self)
        if self._call is not None:
            self._call.cancel()
        self.outbox.close()
        self._lose_some(deque(self._sessions.values()))

    def _lose_some(self, sessions: deque[DatagramSession]) -> None:
        """Take these out, as many as one event may, and the rest in later turns: the others hear of each."""
        left = DELIVERIES_PER_EVENT
        while sessions:
            if left <= 0:
                self._later(self._lose_some, sessions)
                return
            session = sessions.popleft()
            left -= 1 if session.member.room is None else len(session.member.room.members)
            self.lose(session, "its listener closed")


def _stranger(data: bytes) -> Stranger | None:
    """The other protocol that a datagram's first line belongs to; the last line needs no newline."""
    return first_line(data + b"\n")[1]


def _key(peer: Peer) -> Hashable:
    """What tells members apart: the peer's address and the address that it sent to."""
    return peer.sockaddr, peer.control
