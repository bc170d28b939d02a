"""What a connection consists of: its attributes, and the one place that moves its state."""

import math
import os
import socket
from typing import Any, Protocol

from sockd.base.metrics import End
from sockd.base.peers import NAME_LIMIT, Peer
from sockd.base.reactor import Later, Watcher
from sockd.transports.ending import FACTS, TRANSITIONS, ConnectionEvent, ConnectionState
from sockd.transports.faces import face
from sockd.transports.flush import Flusher
from sockd.transports.listening import Listening
from sockd.transports.twisted import TwistedProducer, TwistedProtocol

# Bytes that one read takes at most. After a full one the next takes more, as the peer sends in bulk: that
# saves a quarter of the CPU for messages of a megabyte. The kernel fills the bytes that the protocol gets.
READ_SIZE = 64 * 1024
BULK_READ_SIZE = 512 * 1024
# Bytes unsent above which we stop reading from the peer: it gets no more answers before it has taken these.
HIGH_WATER = 64 * 1024
# Bytes unsent above which only progress counts (`sending`), where the endpoint says nothing else.
UNSENT_LIMIT = 16 * 1024 * 1024

_OPEN = ConnectionState.OPEN  # bound once, as in `connection`

Served = Any  # Any: a Connection, which is built upon this module


class Owner(Protocol):
    """The connections that one connection belongs to: they hear of its end and of a protocol that raised."""

    @property
    def later(self) -> Later:
        """Has something called in a later turn of the reactor, within the slice that they share."""

    def lane(self, *, secure: bool) -> Watcher:
        """Where the connection is to be watched: the reactor itself, or a lane of it."""

    def ended(self, connection: Served, end: End) -> None:
        """The connection is lost, and its protocol has been told."""

    def refused(self, connection: Served, reason: str, why: str = "") -> None:
        """Count that it is refused for this reason; `why` is the reason as it was found, for the log."""

    def protocol_failed(self, where: str) -> None:
        """Called while the exception is being handled."""


class _Often:
    """What each event needs, next to each other in memory.

    Python lays out a class's slots in the order of their names, a base class's first. With 1,000 connections
    that echo in turn, an echo and its client cost 12 misses of the processor's first cache this way, and 19
    with all slots in one class (cachegrind).
    """

    __slots__ = (
        "_dirty",
        "_fd",
        "_flusher",
        "_follows",
        "_high_water",
        "_one",
        "_out",
        "_read",
        "_read_size",
        "_reading",
        "_sends",
        "_sent_before",
        "_write",
        "_writing",
        "counters",
        "disconnecting",
        "protocol",
        "received",
        "sent",
        "unsent",
    )


class ConnectionFields(_Often):
    """The attributes that reading, sending and ending share, and the moves of the state."""

    __slots__ = (
        # Hosted protocols set attributes of their own on their transport, and keep weak references to it:
        # neither costs an echo anything that could be measured.
        "__dict__",
        "__weakref__",
        "_alive",
        "_asked",
        "_event_grants",
        "_granted",
        "_name",
        "_own_limit",
        "_owner",
        "_parting",
        "_paused",
        "_producer",
        "_producer_paused",
        "_reactor",
        "_reads",
        "_rest",
        "_streaming",
        "_unsent_limit",
        "admitted",
        "begun",
        "connected",
        "dropped",
        "end",
        "identity",
        "lane",
        "lingering",
        "listener",
        "mark_received",
        "mark_sent",
        "mark_time",
        "number",
        "opened",
        "peer",
        "ready",
        "sock",
        "state",
        "why",
    )

    movable = True  # to another program, by an upgrade
    secure = False
    # The address that the client connected to, where a PROXY header names another one than the socket has.
    destination: tuple[str, int] | None = None

    def __init__(
        self,
        sock: socket.socket,
        peer: Peer,
        flusher: Flusher,
        owner: Owner,
        listener: Listening,
    ) -> None:
        self.sock = sock
        # Not the socket's own methods: these take their arguments without a tuple, 1,100 instructions less
        # for each answer.
        self._fd = sock.fileno()
        self._read = os.read
        self._write = os.write
        self.peer = peer
        self.identity = ""  # the name that a verified certificate proves
        self._name = ""
        self.listener = listener
        self.counters = listener.counters
        self.number = 0  # the owner's, which tells connections apart by it
        self._flusher = flusher
        self._reactor = flusher.reactor
        self._owner = owner
        self.lane = owner.lane(secure=self.secure)
        self.protocol: TwistedProtocol = None

        # Sending: see `sending`.
        self._one: bytes | memoryview | None = None  # to be sent, where it is all there is
        self._out: list[bytes | memoryview] = []  # else
        self.unsent = 0
        self.sent = 0
        self._unsent_limit = UNSENT_LIMIT
        self._own_limit: float = math.inf  # the protocol's
        self._granted = 0  # unsent bytes above the limit that may be; 0 while there are none
        self._event_grants = False  # this event may have more of them
        self._high_water: float = HIGH_WATER
        self._writing = False  # the lane says when there is room for more
        self._dirty = False  # the flusher will flush it, or its own event does
        self._asked = False  # in its own event, to be flushed though it wrote nothing
        self._producer: TwistedProducer = None
        self._producer_paused = False
        self._streaming = False

        # Reading: see `reading`.
        self.received = 0
        self._sent_before = -1  # how much was sent when something came last
        self._read_size = READ_SIZE
        self._paused = 0  # why nothing is read: bits
        self._reading = False  # the lane says when there is something to read
        self._rest = b""  # read, and not wanted yet: nothing more is read before it is
        self.dropped = 0  # bytes that came and that the protocol was not given; over TLS some as they came

        # Ending: the state, and what it implies (`ending.Facts`), set by `_enter` alone.
        self.end: End | None = None
        self._parting = False  # sockd ends it, and the protocol had its last word
        self.why = ""  # what was wrong, for the log, where more is known than `end` says
        self._enter(_OPEN)

        # The three clocks, in the reactor's seconds, and the marks of the last sweep that saw it move.
        self.opened = self.begun = self.mark_time = self._reactor.seconds()
        self.mark_received = self.mark_sent = 0
        self.ready = True  # what comes before the protocol (PROXY header, handshake) is over, since `begun`
        self.admitted = True  # the peer's real address is known and was admitted

    def __repr__(self) -> str:
        return f"<connection of {self.peer.text} to {self.listener.name}>"

    def fileno(self) -> int:
        return self._fd

    @property
    def owner(self) -> Owner:
        """The connections that it belongs, or belonged, to."""
        return self._owner

    @property
    def name(self) -> str:
        """What the protocol calls the peer, such as a chat's nickname; empty unless the protocol sets it."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a peer's name is a str, not {type(name).__name__}")
        self._name = name[:NAME_LIMIT]

    @property
    def _only_receives(self) -> bool:
        """Whether the protocol wants what comes after the end is certain (`contract.StreamFactory`)."""
        try:
            return bool(getattr(face(self.protocol), "only_receives", False))
        except BaseException:  # noqa: BLE001
            return False

    @property
    def at_work(self) -> bool:
        """Whether the protocol says that it is `busy` with what the peer has sent."""
        try:
            return getattr(face(self.protocol), "busy", False) is True
        except BaseException:  # noqa: BLE001
            return False

    @property
    def unanswered(self) -> bool:
        """Whether the peer spoke last, to a protocol that doesn't only receive."""
        return self.received > 0 and self.sent == self._sent_before and not self._only_receives

    # -- the state

    def _enter(self, state: ConnectionState) -> None:
        """Be in this state: Twisted's attributes, and those of the hot path, are what it implies."""
        facts = FACTS[state]
        self.state = state
        self._reads = facts.reads
        self._sends = facts.sends
        self._alive = facts.alive
        self._follows = facts.follows or self._producer is not None
        self.connected = facts.connected
        self.disconnecting = facts.disconnecting
        self.lingering = facts.lingering

    def _happens(self, event: ConnectionEvent) -> bool:
        """Move the state as the table says; False where it says nothing, and the event comes too late."""
        state = TRANSITIONS.get((self.state, event))
        if state is None:
            return False
        self._enter(state)
        # A move may end the reading. It begins none, but where the connection lingers in spite of pauses.
        if self.lingering:
            self.mark_time = self._reactor.seconds()
            self._update_reading()
        elif self._reading and not self._reads:
            self._update_reading()
        return True

    # -- what the parts of a connection ask of each other

    def _update_reading(self) -> None:
        """Have the lane watch for input, or no longer, as state and pauses say."""
        raise NotImplementedError

    def _deliver(self, data: bytes) -> None:
        """Hand the protocol what has waited in `_rest`."""
        raise NotImplementedError

    def _all_sent(self) -> None:
        """Everything unsent has gone, and the state wants something to follow."""
        raise NotImplementedError

    def _unsendable(self, error: OSError) -> None:
        """The kernel takes nothing more, for now or for ever: act on what it says."""
        raise NotImplementedError

    def cut(self, end: End) -> None:
        """Abort the connection for this reason: the protocol hears of it in the reactor's next turn."""
        raise NotImplementedError

    def _failed(self, where: str) -> None:
        """The protocol raised; called while the exception is being handled."""
        raise NotImplementedError
