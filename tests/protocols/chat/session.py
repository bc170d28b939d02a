"""A chat on a clock, and members who come to it by a stream."""

from typing import Any

from twisted.internet.testing import StringTransport
from twisted.logger import Logger

from sockd.base.metrics import End
from sockd.base.peers import Peer
from sockd.protocols.chat.options import ChatOptions
from sockd.protocols.chat.service import ChatService
from sockd.protocols.chat.specification import specification
from sockd.protocols.chat.stream import GREETING_DELAY, ChatConnection
from sockd.protocols.contract import Host
from tests.protocols.reactors import ClockReactor


class Transport(StringTransport):
    """Twisted's fake, with what chat uses of sockd's own transport."""

    end: End | None = None
    identity = ""
    limit = 0
    unsent = 0
    name = ""
    refused = ""
    peer = Peer.inet(("192.0.2.1", 1001))

    def limit_read(self, count: int) -> None:
        pass

    def resumeProducing(self) -> None:
        if not self.disconnecting:  # where sockd's own transport does nothing
            super().resumeProducing()

    def refuse(self, reason: str, why: str = "") -> None:
        self.end = End.REFUSED
        self.refused = f"{reason}: {why}"
        self.loseConnection()

    def limit_unsent(self, count: int) -> None:
        self.limit = count

    @property
    def paused(self) -> bool:
        return bool(self.producerState == "paused")


class Session:
    """One endpoint on a clock, and those who come to it."""

    def __init__(self, clock: ClockReactor | None = None, **options: Any) -> None:
        self.clock = clock or ClockReactor()
        self.host: Host[ChatOptions] = Host(
            "lobby", ChatOptions(**options), self.clock, Logger(), fail=lambda _error: None
        )
        self.service = self.host.service = ChatService(self.host)
        self.service.chat.guests = 0
        assert specification.stream is not None
        self.factory = specification.stream(self.host)
        self.came_back: list[ChatConnection] = []

    def connect(self, name: str = "") -> tuple[ChatConnection, Transport]:
        protocol, transport = self.factory.buildProtocol(None), Transport()
        protocol.makeConnection(transport)
        if not name:
            self.clock.advance(GREETING_DELAY)
        else:
            protocol.dataReceived(f"/nick {name}\n".encode())
            self.clock.advance(10)
        transport.clear()
        return protocol, transport

    def succeed(self, *members: tuple[ChatConnection, Transport], **options: Any) -> "Session":
        """The same endpoint in the next program, with these members."""
        for call in self.clock.getDelayedCalls():
            call.cancel()  # it is gone with its program
        new = Session(self.clock, **options)
        new.service.thaw(self.service.freeze())
        for old, transport in members:
            protocol = new.factory.buildProtocol(None)
            protocol.transport, protocol.connected = transport, 1
            transport.producerState = "producing"
            protocol.thaw(old.freeze())
            new.came_back.append(protocol)
        return new


def heard(transport: Transport) -> list[str]:
    told: bytes = transport.value()
    transport.clear()
    return told.decode().splitlines()
