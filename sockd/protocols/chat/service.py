"""What all listeners of a chat endpoint share: the rooms, and the sweep that finds silent datagram peers."""

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from twisted.logger import Logger

from sockd.base.peers import Peer
from sockd.base.units import Rate
from sockd.limits.rates import Bucket
from sockd.protocols.chat import rooms
from sockd.protocols.chat.options import ChatOptions
from sockd.protocols.chat.rooms import Chat
from sockd.protocols.contract import Host, State

TOLD = Rate(20, 1.0)  # lines; of those beyond, the next line has the number


class Visits:
    """Tells of one endpoint's at a bounded rate. Time is passed in, in seconds."""

    def __init__(self, endpoint: str, log: Logger, now: float) -> None:
        self._endpoint = endpoint
        self._log = log
        self._pace = Bucket(TOLD, now)
        self.untold = 0

    def began(self, peer: Peer, name: str, now: float) -> None:
        self._tell("{endpoint}: {peer} joined as {name}", peer, now, name=name, event="member joined")

    def ended(self, peer: Peer, name: str, reason: str, now: float) -> None:
        self._tell(
            "{endpoint}: {peer}, {name}, left: {reason}",
            peer, now, name=name, reason=reason, event="member left",
        )  # fmt: skip

    def _tell(self, text: str, peer: Peer, now: float, **fields: str) -> None:
        if self._pace.delay(now):
            self.untold += 1
            return
        self._pace.spend(now)
        untold, self.untold = self.untold, 0
        more = " ({untold} more came or left)" if untold else ""
        self._log.info(text + more, endpoint=self._endpoint, peer=peer.text, untold=untold, **fields)


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
        self.visits = Visits(host.endpoint, host.log, host.reactor.seconds())
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

    def reload(self, options: ChatOptions) -> None:
        """Take other bounds and another first room; `rate` and `queue` are for who comes from now on."""
        self.chat.tune(**_tuning(options))
        self._settling = SETTLING

    def freeze(self) -> State:
        return {"chat": rooms.freeze(self.chat), "secret": self._secret, "untold": self.visits.untold}

    def thaw(self, state: State) -> None:
        rooms.thaw(self.chat, state["chat"])
        self._secret = bytes(state["secret"])
        self.visits.untold = int(state["untold"])
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
