"""What all listeners of a chat endpoint share: its rooms, the log of datagram members, a periodic sweep."""

import os
from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, TypedDict

from twisted.logger import Logger

from sockd.base.frozen import State
from sockd.base.metrics import summary
from sockd.base.peers import Peer
from sockd.base.reactor import Clock, Timer
from sockd.base.units import Rate
from sockd.limits.suppression import LogLimiter
from sockd.protocols.chat.options import ChatOptions
from sockd.protocols.chat.rooms import Chat
from sockd.protocols.contract import Host

if TYPE_CHECKING:
    from sockd.protocols.chat.proof import AddressProof

MEMBER_LOG_RATE = Rate(20, 1.0)  # lines about datagram members that join or leave
SWEEP_INTERVAL = 10.0  # seconds between two looks for silent peers
# Sweeps until a reload or an upgrade is final, so that what it left behind is forgotten.
SETTLE_SWEEPS = 2


class MemberLog:
    """Logs the members of one endpoint that join or leave by datagrams, at a bounded rate.

    Members by streams need none: their connections are logged.
    """

    def __init__(self, endpoint: str, log: Logger, clock: Clock) -> None:
        self._endpoint = endpoint
        self._log = log
        self.limiter = LogLimiter(clock, MEMBER_LOG_RATE, self._summarise)

    def joined(self, peer: Peer, name: str) -> None:
        if self.limiter.allows("joined"):
            self._log.info(
                "{endpoint}: {peer} joined as {name}",
                endpoint=self._endpoint, peer=peer.text, name=name, event="member joined",
            )  # fmt: skip

    def left(self, peer: Peer, name: str, reason: str) -> None:
        if self.limiter.allows("left"):
            self._log.info(
                "{endpoint}: {peer}, {name}, left: {reason}",
                endpoint=self._endpoint, peer=peer.text, name=name, reason=reason, event="member left",
            )  # fmt: skip

    def _summarise(self, suppressed: Counter[str]) -> None:
        self._log.info(
            "{endpoint}: within a second also: {summary}",
            endpoint=self._endpoint, summary=summary(suppressed), visits=dict(suppressed), event="members",
        )  # fmt: skip


class Swept(Protocol):
    """A datagram listener, which learns only from time that a peer has gone."""

    def sweep(self, now: float) -> None:
        """Take out the members that were silent for too long."""


class ChatService:
    """The service of a chat endpoint."""

    def __init__(self, host: Host[ChatOptions]) -> None:
        self.chat = Chat(**_bounds(host.options), guests=_unused_number())
        self.member_log = MemberLog(host.endpoint, host.log, host.reactor)
        self.datagram_listeners: set[Swept] = set()
        self._secret = os.urandom(32)
        self._reactor = host.reactor
        self._udp_ports = host.udp_ports
        self._sweeps_to_settle = 0
        self._timer: Timer | None = None

    @cached_property
    def proof(self) -> "AddressProof":
        """What UDP peers have to show; its hash loads OpenSSL, 4 MB, so it is made when first needed."""
        from sockd.protocols.chat.proof import AddressProof  # noqa: PLC0415

        return AddressProof(self._secret, self._reactor.seconds(), self._udp_ports)

    def startService(self) -> None:  # noqa: N802
        if self._timer is None:
            self._timer = self._reactor.callLater(SWEEP_INTERVAL, self._sweep)

    def stopService(self) -> None:  # noqa: N802
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self.member_log.limiter.close()

    def reload(self, options: ChatOptions) -> None:
        """Take other bounds and another first room; `rate` and `queue` are for members who come later."""
        self.chat.configure(**_bounds(options))
        self._sweeps_to_settle = SETTLE_SWEEPS

    def freeze(self) -> State:
        return {
            "chat": self.chat.freeze(),
            "secret": self._secret,
            "member_log": self.member_log.limiter.freeze(),
        }

    def thaw(self, state: State) -> None:
        self.chat.thaw(state["chat"])
        self._secret = bytes(state["secret"])
        self.member_log.limiter.thaw(state["member_log"])
        self._sweeps_to_settle = SETTLE_SWEEPS

    def _sweep(self) -> None:
        self._timer = self._reactor.callLater(SWEEP_INTERVAL, self._sweep)
        now = self._reactor.seconds()
        for listener in tuple(self.datagram_listeners):
            listener.sweep(now)
        self.chat.announce_departures()
        if self._sweeps_to_settle:
            self._sweeps_to_settle -= 1
            if not self._sweeps_to_settle:
                self.chat.settle()


def _unused_number() -> int:
    """Where the numbers of guests begin: at random, so that after a restart no guest is taken for another."""
    return 10_000 + int.from_bytes(os.urandom(4)) % 90_000


class _Bounds(TypedDict):
    room: str
    rooms: int
    history: int
    members: int
    queue: int


def _bounds(options: ChatOptions) -> _Bounds:
    """The options that the rooms share; `rate` is each member's own."""
    return _Bounds(
        room=options.room,
        rooms=options.rooms,
        history=options.history,
        members=options.members,
        queue=options.queue,
    )
