"""What stands in for sockets, the reactor and the daemon while protocols rehearse."""

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.task import Clock

from sockd.addresses import AddressError, parse
from sockd.metrics import Counters
from sockd.peers import Peer


class StillReactor(Clock):
    """A reactor in which no time passes and nothing ever happens."""

    def __init__(self) -> None:
        super().__init__()
        self.advance(time.monotonic())  # the clock of all times that are handed over

    def callFromThread(self, method: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N802
        self.callLater(0, method, *args, **kwargs)

    callInThread = callFromThread  # noqa: N815

    def getThreadPool(self) -> Any:  # noqa: N802
        return self

    def callInThreadWithCallback(self, _told: Any, method: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N802
        self.callLater(0, method, *args, **kwargs)

    def callWhenRunning(self, method: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N802
        self.callLater(0, method, *args, **kwargs)

    def addReader(self, _reader: object) -> None:  # noqa: N802
        """Nothing is ever read."""

    removeReader = addWriter = removeWriter = addReader  # noqa: N815


class DeafSocket:
    """A connection's socket that takes nothing and gives nothing."""

    def __init__(self, peer: Peer, listener: str) -> None:
        self.family = _family(peer)
        self._here: Any = None
        if not peer.local:
            with suppress(AddressError):
                self._here = (peer.host, parse(listener).port)

    def fileno(self) -> int:
        return -1

    def recv(self, _size: int) -> bytes:
        raise BlockingIOError

    def send(self, _data: object) -> int:
        raise BlockingIOError

    def getsockname(self) -> Any:
        return self._here

    def getsockopt(self, *_what: object) -> int:
        return 0

    def setsockopt(self, *_what: object) -> None:
        """It has no options."""

    shutdown = setsockopt


def _family(peer: Peer) -> socket.AddressFamily:
    if peer.local:
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in peer.sockaddr[0] else socket.AF_INET


class DeafPort:
    """A datagram protocol's transport that sends nothing."""

    def __init__(self, failed: Callable[[str], None]) -> None:
        self.counters = Counters()
        self.failed = failed

    def send(self, _data: bytes, _peer: Peer) -> bool:
        return True
