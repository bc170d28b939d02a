"""A listening stream socket in the reactor: takes what it may, leaves the rest to the backlog."""

import errno
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from sockd.base import descriptors

# Accepted in one event; the other transports have their turn in between. In a storm of 15,000 connections a
# second theirs came 3 ms later with 64, half a millisecond with 8, and as many were accepted.
ACCEPTS = 8
# How long (seconds) newcomers stay in the backlog when the process or the system is out of something.
BREATHER = 0.5
# Errors of the newcomer's own, and of its network (accept(2)); any other would come again at once.
_NEWCOMERS = {
    errno.ECONNABORTED,
    errno.EPERM,
    errno.EPROTO,
    errno.ENOPROTOOPT,
    errno.EOPNOTSUPP,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENONET,
}


@implementer(IReadDescriptor)
class Acceptor:
    """Reads from the socket only while it is open and nobody asked it to pause.

    `take(sock, sockaddr)` gets each accepted, non-blocking socket; `room()` says how many more may be had;
    `short(error)` is told when none can be had for now, as file descriptors or memory ran out, and
    `lost(error, self)` when the reactor won't call us any more. `reserved`: these newcomers get
    descriptors that are kept back from all others.
    """

    def __init__(
        self,
        sock: socket.socket,
        reactor: Any,
        take: Callable[[socket.socket, Any], None],
        room: Callable[[], int],
        short: Callable[[OSError], None],
        lost: Callable[[BaseException, object], None],
        *,
        reserved: bool = False,
    ) -> None:
        self.sock = sock
        self.fileno = sock.fileno
        self._reactor = reactor
        self._take = take
        self._room = room
        self._short = short
        self._lost = lost
        self._reserved = reserved
        self._reading = False
        self._wanted = False
        self._sound = True
        self._breather: Any = None

    logs_nothing = True  # with a prefix: it spares the reactor a context for each event

    def logPrefix(self) -> str:  # noqa: N802
        return "sockd"

    def accept(self, wanted: bool) -> None:
        """Begin or cease to accept."""
        self._wanted = wanted
        reading = wanted and self._breather is None
        if reading != self._reading:
            self._reading = reading
            if reading:
                self._reactor.addReader(self)
            else:
                self._reactor.removeReader(self)

    def doRead(self) -> None:  # noqa: N802
        for _ in range(ACCEPTS):
            if not self._reading or self._room() <= 0:
                return
            if not self._accept_one():
                return

    def take_queued(self, most: int) -> None:
        """Accept what waits in the backlog, `most` and the room permitting: closing would reset it."""
        for _ in range(most):
            if not self._sound or self._room() <= 0 or not self._accept_one():
                return

    def _accept_one(self) -> bool:
        if not self._reserved and descriptors.lent():
            self._rest()  # a thread has just found that there are no others
            return False
        try:
            sock, sockaddr = descriptors.take(self.sock.accept) if self._reserved else self.sock.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno in _NEWCOMERS:
                return True  # the next one may do
            return self._fall_short(error)
        sock.setblocking(False)
        try:
            self._take(sock, sockaddr)
        except OSError as error:  # as epoll_ctl(2) has it: memory ran out, or what a user may watch
            return self._fall_short(error)
        return True

    def _fall_short(self, error: OSError) -> bool:
        self._short(error)
        self._rest()
        return False

    def _rest(self) -> None:
        if self._breather is None:
            self._breather = self._reactor.callLater(BREATHER, self._rested)
            self.accept(self._wanted)

    def _rested(self) -> None:
        self._breather = None
        self.accept(self._wanted)

    def connectionLost(self, reason: Failure) -> None:  # noqa: N802
        """The reactor is done with it: there was an exception that nobody caught."""
        self._reading = False
        self._sound = False  # who is queued might bring the same exception about
        self._lost(reason.value or Exception(str(reason)), self)

    def leave(self) -> None:
        """Leave the reactor; the socket stays open."""
        self.accept(False)
        if self._breather is not None:
            self._breather.cancel()
            self._breather = None
