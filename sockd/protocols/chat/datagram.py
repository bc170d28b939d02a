"""Members who come by datagrams: UDP peers that proved their address, and peers on a Unix socket."""

from typing import Any

from sockd.base.peers import Peer
from sockd.limits.rates import Bucket
from sockd.protocols.chat import commands
from sockd.protocols.chat.lines import Lines
from sockd.protocols.chat.options import ChatOptions
from sockd.protocols.chat.proof import PROVE
from sockd.protocols.chat.room import Member
from sockd.protocols.chat.service import ChatService
from sockd.protocols.contract import DatagramProtocol, DatagramTransport, Host, State

SILENCE = 300.0  # seconds without a datagram until a member is taken for gone
WARNING = 240.0  # seconds until it is asked
FAILING = 10.0  # seconds in which a Unix socket took nothing: nobody reads there


class Guest:
    """A member and the peer it is."""

    __slots__ = ("door", "failing_since", "heard", "key", "member", "pace", "peer", "told", "warned")

    def __init__(self, door: "Door", key: Any, peer: Peer, pace: Bucket, now: float) -> None:
        self.door = door
        self.key = key
        self.peer = peer
        self.pace = pace
        self.heard = now
        self.warned = False
        self.told = False  # that lines were dropped
        self.failing_since: float | None = None
        self.member = Member(self.send, self.close)

    def freeze(self) -> State:
        room = self.member.room
        return {
            "peer": self.peer.freeze(),
            "name": self.member.name,
            "room": None if room is None else room.name,
            "pace": self.pace.freeze(),
            "heard": self.heard,
            "warned": self.warned,
            "told": self.told,
            "failing_since": self.failing_since,
        }

    def thaw(self, state: State) -> None:
        self.warned = bool(state["warned"])
        self.told = bool(state["told"])
        self.failing_since = state["failing_since"]

    def send(self, data: bytes) -> None:
        if not self.door.open or self.door.transport.send(data, self.peer):
            self.failing_since = None
        elif self.peer.local:
            # Not at once: the queue of such a socket is short, and a join alone may fill it.
            now = self.door.reactor.seconds()
            if self.failing_since is None:
                self.failing_since = now
            elif now - self.failing_since >= FAILING:
                self.door.lose(self, "does not read")

    def close(self) -> None:
        self.door.forget(self)


class Door(DatagramProtocol):
    """One datagram listener's members. Nobody else is ever answered, but with a challenge."""

    def __init__(self, host: Host[ChatOptions]) -> None:
        self._service: ChatService = host.service
        self._chat = self._service.chat
        self._rate = host.options.rate
        self.reactor = host.reactor
        self._guests: dict[Any, Guest] = {}
        self.open = False

    def start(self, transport: DatagramTransport) -> None:
        super().start(transport)
        self.open = True
        self._service.doors.add(self)

    def reload(self, options: ChatOptions) -> None:
        """The rate is that of members who come from now on."""
        self._rate = options.rate

    def freeze(self) -> State:
        return {"guests": [guest.freeze() for guest in self._guests.values()]}

    def thaw(self, state: State) -> None:
        """Members go on where they were; nobody is told anything."""
        for each in state["guests"]:
            peer = Peer.thaw(each["peer"])
            guest = Guest(self, _key(peer), peer, Bucket.thaw(each["pace"]), float(each["heard"]))
            guest.thaw(each)
            guest.member = self._chat.come_back(each["name"], each["room"], guest.send, guest.close)
            self._guests[guest.key] = guest

    def datagram(self, data: bytes, peer: Peer) -> None:
        if peer.sockaddr is None:
            self.transport.counters.refused["no return address"] += 1
            return
        now = self.reactor.seconds()
        key = _key(peer)
        guest = self._guests.get(key)
        if guest is not None and (guest.peer.uid, guest.peer.pid) != (peer.uid, peer.pid):
            self.lose(guest, "another process has its socket now")
            guest = None
        if guest is not None:
            self._hear(guest, data, now)
        elif peer.local:
            self._admit(key, data, peer, now)
        elif self._service.proof.given(data, peer, now):
            self._admit(key, data.partition(b"\n")[2], peer, now)
        else:
            challenge = self._service.proof.challenge(data, peer, now)
            if challenge is None:
                self.transport.counters.refused["not a member"] += 1
            else:
                self.transport.send(challenge, peer)

    def _admit(self, key: Any, data: bytes, peer: Peer, now: float) -> None:
        guest = Guest(self, key, peer, Bucket(self._rate, now), now)
        if self._chat.admit(guest.member):
            self._guests[key] = guest
            self._service.visits.began(peer, guest.member.name)
            self._chat.welcome(guest.member)
            self._hear(guest, data, now)
        else:
            self.transport.counters.refused["chat full"] += 1
            self._chat.turn_away(guest.member)

    def _hear(self, guest: Guest, data: bytes, now: float) -> None:
        guest.heard = now
        guest.warned = False
        member = guest.member
        lines = Lines()
        lines.feed(data + b"\n")
        while member.present and (line := lines.take()) is not None:
            if guest.told and guest.pace.is_full(now):
                guest.told = False
            if guest.pace.delay(now):
                self.transport.counters.refused["too fast"] += 1
                if not guest.told:
                    guest.told = True
                    self._chat.reply(
                        member, f"faster than {guest.pace.rate}: what you send is dropped for a moment"
                    )
                return
            guest.pace.spend(now)
            # The code may arrive twice, or come from two windows that share an address.
            if not isinstance(line, bytes) or not line.startswith(PROVE):
                commands.hear(self._chat, member, line)

    def lose(self, guest: Guest, reason: str, *, announced: bool = True) -> None:
        """A member has gone without saying so."""
        self.forget(guest, reason)
        self._chat.depart(guest.member, reason, announced=announced)

    def forget(self, guest: Guest, reason: str = "quit") -> None:
        if self._guests.pop(guest.key, None) is not None:
            self._service.visits.ended(guest.peer, guest.member.name, reason)

    def sweep(self, now: float) -> None:
        for guest in tuple(self._guests.values()):
            silent = now - guest.heard
            if silent >= SILENCE:
                self._chat.reply(guest.member, "you were silent for 5 minutes: goodbye")
                self.lose(guest, "silent for 5 minutes")
            elif silent >= WARNING and not guest.warned:
                guest.warned = True
                self._chat.reply(guest.member, "still there? send anything, or you leave in a minute")

    def drain(self) -> None:
        for guest in tuple(self._guests.values()):
            self._chat.reply(guest.member, "the server closes this connection")
            self.lose(guest, "the server closes this connection", announced=False)

    def stop(self) -> None:
        self._service.doors.discard(self)
        self.open = False
        for guest in tuple(self._guests.values()):
            self.lose(guest, "its listener closed")


def _key(peer: Peer) -> Any:
    """What tells members apart."""
    return peer.sockaddr, peer.control
