"""Members who come by datagrams: UDP peers that proved their address, and peers on a Unix socket.

A datagram has no connection behind it, so each member has a session in its place. It ends when the member
quits, or is silent for five minutes, or takes nothing from its Unix socket for ten seconds. What comes faster
than the rate can't be slowed, so it is dropped and counted, with one notice until the member has rested.
"""

from collections.abc import Hashable

from sockd.base.lines import LineSplitter
from sockd.base.peers import Peer
from sockd.base.reactor import Clock
from sockd.limits.rates import Bucket
from sockd.protocols.chat import commands
from sockd.protocols.chat.lines import LONGEST_LINE
from sockd.protocols.chat.options import ChatOptions
from sockd.protocols.chat.proof import PROVE
from sockd.protocols.chat.room import Member
from sockd.protocols.chat.service import ChatService
from sockd.protocols.contract import DatagramProtocol, DatagramTransport, Host, State

# Seconds without a datagram from a member until it is asked whether it is there, and until it leaves.
SILENCE_WARNING = 240.0
SILENCE_LIMIT = 300.0
# Seconds in which a Unix socket takes nothing until we know that nobody reads there. Its queue is short and a
# join alone may fill it, so that one refusal says little.
UNREAD_LIMIT = 10.0


class DatagramSession:
    """What a connection is to a member by a stream: its peer, its rate, and when it was last heard."""

    __slots__ = ("asked", "heard", "key", "listener", "member", "notified", "pace", "peer", "unread_since")

    def __init__(
        self, listener: "ChatDatagrams", key: Hashable, peer: Peer, pace: Bucket, now: float
    ) -> None:
        self.listener = listener
        self.key = key
        self.peer = peer
        self.pace = pace
        self.heard = now
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
            "heard": self.heard,
            "asked": self.asked,
            "notified": self.notified,
            "unread_since": self.unread_since,
        }

    def thaw(self, state: State) -> None:
        self.asked = bool(state["asked"])
        self.notified = bool(state["notified"])
        self.unread_since = state["unread_since"]

    def send(self, data: bytes) -> None:
        listener = self.listener
        if not listener.open or listener.transport.send(data, self.peer):
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
        self._sessions: dict[Hashable, DatagramSession] = {}
        self.open = False

    def start(self, transport: DatagramTransport) -> None:
        super().start(transport)
        self.open = True
        self._service.datagram_listeners.add(self)

    def reload(self, options: ChatOptions) -> None:
        """Take the rate for members who come later."""
        self._rate = options.rate

    def freeze(self) -> State:
        return {"sessions": [session.freeze() for session in self._sessions.values()]}

    def thaw(self, state: State) -> None:
        """Members go on where they were; nobody is told anything."""
        for each in state["sessions"]:
            peer = Peer.thaw(each["peer"])
            session = DatagramSession(self, _key(peer), peer, Bucket.thaw(each["pace"]), float(each["heard"]))
            session.thaw(each)
            session.member = self._chat.resume(each["name"], each["room"], session.send, session.close)
            self._sessions[session.key] = session

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
        else:
            challenge = self._service.proof.challenge(data, peer, now)
            if challenge is None:
                self.transport.refuse("not a member", (peer,))
            else:
                self.transport.send(challenge, peer)

    def _admit(self, key: Hashable, data: bytes, peer: Peer, now: float) -> None:
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
        """Work off the lines of a member's datagram, the last of which needs no newline."""
        session.heard = now
        session.asked = False
        member = session.member
        lines = LineSplitter(LONGEST_LINE, blank_lines=False)
        lines.add(data + b"\n")
        while member.present and (line := lines.take()) is not None:
            if session.notified and session.pace.is_full(now):
                session.notified = False
            if session.pace.delay(now):
                self.transport.refuse("too fast", (session.peer,))
                if not session.notified:
                    session.notified = True
                    self._chat.reply(
                        member, f"faster than {session.pace.rate}: what you send is dropped for a moment"
                    )
                return
            session.pace.spend(now)
            # The code may arrive twice, or come from two windows that share an address.
            if not isinstance(line, bytes) or not line.startswith(PROVE):
                commands.handle(self._chat, member, line)

    def lose(self, session: DatagramSession, reason: str, *, announced: bool = True) -> None:
        """Take out a member that has gone without a word."""
        self.forget(session, reason)
        self._chat.depart(session.member, reason, announced=announced)

    def forget(self, session: DatagramSession, reason: str = "quit") -> None:
        """End a session; its member leaves, or has left, the chat by itself."""
        if self._sessions.pop(session.key, None) is not None:
            self._service.member_log.left(session.peer, session.member.name, reason)

    def sweep(self, now: float) -> None:
        for session in tuple(self._sessions.values()):
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

    def stop(self) -> None:
        self._service.datagram_listeners.discard(self)
        self.open = False
        for session in tuple(self._sessions.values()):
            self.lose(session, "its listener closed")


def _key(peer: Peer) -> Hashable:
    """What tells members apart: the peer's address and the address that it sent to."""
    return peer.sockaddr, peer.control
