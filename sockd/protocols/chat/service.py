"""What all listeners of a chat endpoint share: the rooms, and the sweep that finds silent datagram peers."""

import os
from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from twisted.logger import Logger

from sockd.base.metrics import summary
from sockd.base.peers import Peer
from sockd.base.reactor import Clock
from sockd.base.units import Rate
from sockd.limits.suppression import LogLimiter
from sockd.protocols.chat import rooms
from sockd.protocols.chat.options import ChatOptions
from sockd.protocols.chat.rooms import Chat
from sockd.protocols.contract import Host, State

VISITS_LOGGED = Rate(20, 1.0)  # lines about datagram members that join or leave


class Visits:
    """Logs the members of one endpoint that joined or left by datagrams, at a bounded rate."""

    def __init__(self, endpoint: str, log: Logger, clock: Clock) -> None:
        self._endpoint = endpoint
        self._log = log
        self.limiter = LogLimiter(clock, VISITS_LOGGED, self._summarise)

    def began(self, peer: Peer, name: str) -> None:
        if self.limiter.allows("joined"):
            self._log.info(
                "{endpoint}: {peer} joined as {name}",
                endpoint=self._endpoint, peer=peer.text, name=name, event="member joined",
            )  # fmt: skip

    def ended(self, peer: Peer, name: str, reason: str) -> None:
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


if TYPE_CHECKING:
    from sockd.protocols.chat.proof import Proof

SWEEP = 10.0  # seconds between two looks for silent peers
SETTLING = 2  # sweeps until what a change made superfluous is forgotten: by then it isn't undone any more


class Swept(Protocol):
    def sweep(self, now: float) -> None:
        """Take out who was silent for too long."""


class ChatService:
    def __init__(self, host: Host[ChatOptions]) -> None:
        self.chat = Chat(**_tuning(host.options))
        self._secret = os.urandom(32)
        self.visits = Visits(host.endpoint, host.log, host.reactor)
        self.doors: set[Swept] = set()
        self._reactor = host.reactor
        self._udp_ports = host.udp_ports
        self._settling = 0  # sweeps
        self._timer: Any = None

    @cached_property
    def proof(self) -> "Proof":
        """What UDP peers have to show; with its hash comes OpenSSL, 4 MB, so only where it is asked for."""
        from sockd.protocols.chat.proof import Proof  # noqa: PLC0415

        return Proof(self._secret, self._reactor.seconds(), self._udp_ports)

    def startService(self) -> None:  # noqa: N802
        if self._timer is None:
            self._timer = self._reactor.callLater(SWEEP, self._sweep)

    def stopService(self) -> None:  # noqa: N802
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self.visits.limiter.close()

    def reload(self, options: ChatOptions) -> None:
        """Take other bounds and another first room; `rate` and `queue` are for who comes from now on."""
        self.chat.tune(**_tuning(options))
        self._settling = SETTLING

    def freeze(self) -> State:
        return {
            "chat": rooms.freeze(self.chat),
            "secret": self._secret,
            "visits": self.visits.limiter.freeze(),
        }

    def thaw(self, state: State) -> None:
        rooms.thaw(self.chat, state["chat"])
        self._secret = bytes(state["secret"])
        self.visits.limiter.thaw(state["visits"])
        self._settling = SETTLING

    def _sweep(self) -> None:
        self._timer = self._reactor.callLater(SWEEP, self._sweep)
        now = self._reactor.seconds()
        for door in tuple(self.doors):
            door.sweep(now)
        if self._settling:
            self._settling -= 1
            if not self._settling:
                self.chat.settle()


def _tuning(options: ChatOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("room", "rooms", "history", "members", "queue")}
