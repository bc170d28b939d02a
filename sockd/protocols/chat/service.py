"""What all listeners of a chat endpoint share: the rooms, and the sweep that finds silent datagram peers."""

import secrets
from typing import Any, Protocol

from sockd.protocols.chat.chat import Chat
from sockd.protocols.chat.proof import Proof
from sockd.protocols.chat.specification import ChatOptions
from sockd.protocols.chat.visits import Visits
from sockd.protocols.contract import Host

SWEEP = 10.0  # seconds between two looks for silent peers


class Swept(Protocol):
    def sweep(self, now: float) -> None:
        """Take out who was silent for too long."""


class ChatService:
    def __init__(self, host: Host[ChatOptions]) -> None:
        options = host.options
        self.chat = Chat(
            room=options.room,
            rooms=options.rooms,
            history=options.history,
            members=options.members,
            queue=options.queue,
        )
        self.proof = Proof(secrets.token_bytes(32), host.reactor.seconds(), host.udp_ports)
        self.visits = Visits(host.endpoint, host.log, host.reactor.seconds())
        self.doors: set[Swept] = set()
        self._reactor = host.reactor
        self._timer: Any = None

    def startService(self) -> None:  # noqa: N802
        if self._timer is None:
            self._timer = self._reactor.callLater(SWEEP, self._sweep)

    def stopService(self) -> None:  # noqa: N802
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _sweep(self) -> None:
        self._timer = self._reactor.callLater(SWEEP, self._sweep)
        now = self._reactor.seconds()
        for door in tuple(self.doors):
            door.sweep(now)
