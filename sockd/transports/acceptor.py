"""A listening stream socket in the reactor: accepts while it may, and leaves the rest to the backlog."""

import errno
import socket
from collections.abc import Callable
from time import perf_counter

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from sockd.base import descriptors
from sockd.base.peers import Sockaddr
from sockd.base.reactor import Reactor, Timer
from sockd.transports.flush import SLICE

# Connections that one event accepts before other transports have their turn. In a storm of 15,000 connections
# a second that turn came 3 ms later with 64, and half a millisecond with 8; as many were accepted.
ACCEPTS_PER_EVENT = 8
# Seconds that newcomers stay in the backlog when the process or the system is out of descriptors or memory.
SHORTAGE_PAUSE = 0.5
# Errors of one newcomer or of its network (accept(2)). Any other would come again immediately.
_NEWCOMERS_ERRORS = {
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
    """Accepts connections of one listening socket.

    `take(sock, sockaddr)` is called with each accepted, non-blocking socket. `room()` says how many more
    connections there may be. `short(error)` is called when none can be accepted for now, as file descriptors
    or memory ran out, and `lost(error, self)` when the reactor won't call the acceptor any more. With
    `reserved` the newcomers get descriptors that are kept back from all others (`base.descriptors`).
    """

    def __init__(
        self,
        sock: socket.socket,
        reactor: Reactor,
        take: Callable[[socket.socket, Sockaddr], None],
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
        self._wanted = False  # by the listener, though a shortage may keep us from it
        self._sound = True  # the reactor has not given us up
        self._pause: Timer | None = None  # while there is a shortage

    logs_nothing = True  # with a prefix: it spares the reactor a context for each event

    def logPrefix(self) -> str:  # noqa: N802
        return "sockd"

    def accept(self, wanted: bool) -> None:
        """Begin or cease to accept."""
        self._wanted = wanted
        reading = wanted and self._pause is None
        if reading != self._reading:
            self._reading = reading
            if reading:
                self._reactor.addReader(self)
            else:
                self._reactor.removeReader(self)

    def doRead(self) -> None:  # noqa: N802
        until = perf_counter() + SLICE
        for _ in range(ACCEPTS_PER_EVENT):
            if not self._reading or self._room() <= 0:
                return
            # A newcomer may cost much: a room of a thousand is told of it.
            if not self._accept_one() or perf_counter() > until:
                return

    def take_queued(self, most: int) -> None:
        """Accept at most `most` connections of the backlog: closing the socket would reset them."""
        for _ in range(most):
            if not self._sound or self._room() <= 0 or not self._accept_one():
                return

    def _accept_one(self) -> bool:
        if not self._reserved and descriptors.lent():
            self._rest()  # a thread has just found that there are no other descriptors
            return False
        try:
            sock, sockaddr = descriptors.take(self.sock.accept) if self._reserved else self.sock.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno in _NEWCOMERS_ERRORS:
                return True  # the next one may do
            return self._fall_short(error)
        sock.setblocking(False)
        try:
            self._take(sock, sockaddr)
        except OSError as error:  # of epoll_ctl(2): memory ran out, or a user's limit of watched descriptors
            return self._fall_short(error)
        return True

    def _fall_short(self, error: OSError) -> bool:
        self._short(error)
        self._rest()
        return False

    def _rest(self) -> None:
        if self._pause is None:
            self._pause = self._reactor.callLater(SHORTAGE_PAUSE, self._rested)
            self.accept(self._wanted)

    def _rested(self) -> None:
        self._pause = None
        self.accept(self._wanted)

    def connectionLost(self, reason: Failure) -> None:  # noqa: N802
        """The reactor has given up this acceptor, because of an exception that nothing caught."""
        self._reading = False
        self._sound = False  # the next connection in the backlog might raise the same exception
        self._lost(reason.value or Exception(str(reason)), self)

    def leave(self) -> None:
        """Leave the reactor; the socket stays open."""
        self.accept(False)
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
