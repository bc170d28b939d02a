"""What stands in for the reactor, sockets and ports in a rehearsal: complete, and without any effect.

A protocol that is thawed may use all that the contract offers it, and what Twisted's interfaces do. So a
stand-in has every name of what it stands for; a test compares the two.
"""

import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn, Self

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from sockd.base.addresses import AddressError, parse
from sockd.base.metrics import Counters
from sockd.base.peers import Peer, Sockaddr
from sockd.transports.connection import Connection


class StillReactor(Clock):
    """A reactor in which no time passes and nothing happens: Twisted's core, timers, threads, descriptors."""

    running = True

    def __init__(self) -> None:
        super().__init__()
        self.advance(time.monotonic())  # the clock of all times that are handed over

    def callFromThread(self, method: Callable[..., object], *args: object, **kwargs: object) -> None:  # noqa: N802
        self.callLater(0, method, *args, **kwargs)

    callInThread = callWhenRunning = callFromThread  # noqa: N815

    def getThreadPool(self) -> Self:  # noqa: N802
        return self

    def callInThreadWithCallback(  # noqa: N802
        self, _done: object, method: Callable[..., object], *args: object, **kwargs: object
    ) -> None:
        self.callLater(0, method, *args, **kwargs)

    def resolve(self, _name: object, _timeout: object = None) -> Deferred[str]:
        return Deferred()

    def getReaders(self) -> list[object]:  # noqa: N802
        return []

    getWriters = removeAll = getReaders  # noqa: N815

    def addReader(self, *_: object) -> None:  # noqa: N802
        """Nothing is ever read, written, triggered or stopped."""

    removeReader = addWriter = removeWriter = addReader  # noqa: N815
    addSystemEventTrigger = removeSystemEventTrigger = fireSystemEvent = addReader  # noqa: N815
    suggestThreadPoolSize = run = stop = crash = iterate = addReader  # noqa: N815


class DeafSocket:
    """A connection's socket that neither sends nor receives; the rest of `socket.socket` does nothing."""

    type = socket.SOCK_STREAM
    proto = 0
    timeout = 0.0

    def __init__(self, peer: Peer, listener: str) -> None:
        self.family = _family(peer)
        self._there = peer.sockaddr
        self._here: Sockaddr = None
        if not peer.local:
            with suppress(AddressError):
                self._here = (peer.host, parse(listener).port)

    def fileno(self) -> int:
        return -1

    def getsockname(self) -> Sockaddr:
        return self._here

    def getpeername(self) -> Sockaddr:
        return self._there

    def getsockopt(self, _level: int, _option: int, size: int = 0) -> int | bytes:
        return bytes(size) if size else 0

    def gettimeout(self) -> float:
        return 0.0

    def getblocking(self) -> bool:
        return False

    def connect_ex(self, *_: object) -> int:
        return 0

    def _later(self, *_: object) -> NoReturn:
        raise BlockingIOError

    recv = recv_into = recvfrom = recvfrom_into = recvmsg = recvmsg_into = _later
    send = sendall = sendto = sendmsg = sendmsg_afalg = sendfile = _later
    accept = connect = _later

    def _nothing(self, *_: object) -> None:
        """It has no options and no state."""

    bind = close = detach = dup = ioctl = listen = makefile = _nothing
    setblocking = set_inheritable = setsockopt = settimeout = share = shutdown = _nothing

    def get_inheritable(self) -> bool:
        return False


def _family(peer: Peer) -> socket.AddressFamily:
    if peer.local:
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in peer.sockaddr[0] else socket.AF_INET


class StillConnection(Connection):
    """A connection over a DeafSocket, which has no descriptor to read from or write to."""

    __slots__ = ()

    def __init__(self, *args: Any) -> None:  # Any: what a Connection takes
        super().__init__(*args)
        self._read = self._write = _blocks


def _blocks(*_: object) -> NoReturn:
    raise BlockingIOError


class DeafPort:
    """A datagram protocol's transport that sends nothing."""

    def __init__(self, failed: Callable[[str], None]) -> None:
        self.counters = Counters()
        self.failed = failed

    def send(self, _data: bytes, _peer: Peer) -> bool:
        return True

    def send_many(self, _replies: Sequence[tuple[bytes, Peer]]) -> None:
        """They are as good as sent."""

    def refuse(self, _reason: str, _peers: object, _why: str = "") -> None:
        """Nothing comes that could be refused."""

    def pauseProducing(self) -> None:  # noqa: N802
        """Nothing is ever read."""

    resumeProducing = pauseProducing  # noqa: N815

    def gone(self, _peer: Peer) -> bool:
        return False
