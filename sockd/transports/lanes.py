"""An endpoint's connections as one descriptor of the reactor, which has a slice of each of its turns.

# Theory of operation

The reactor handles every event that epoll reports before it asks again. So a thousand connections of one
endpoint, all with something to read, would keep another endpoint's single peer waiting for all thousand. A
lane prevents that with nested epoll (epoll(7)): the connections are registered in an epoll descriptor of the
lane's own, and only that one is registered in the reactor's epoll. It is readable whenever any of the
connections has an event. The reactor then calls the lane's `doRead` as it would a connection's.

`doRead` handles events for a slice of time (`flush.SLICE`) and returns, whatever is left. Events that it
had fetched and not handled are kept in `_left`, and come first the next time; those that are still in the
kernel keep the lane's descriptor readable, so that the reactor comes back in its next turn. Each lane has
one slice a turn, and so each endpoint does, however many connections it has.

It costs a system call more in each turn (1.5 µs), which is why an endpoint's first few connections are
watched by the reactor itself (`tree.connections`).

An event is only as good as the registration that it was fetched for. A connection may have left the lane
since, and its number may be another's: so `_there` is asked before each call, and sockets are closed only
after the turn (`Flusher.bury`).
"""

import select
from collections import deque
from time import perf_counter
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sockd.base import descriptors
from sockd.base.reactor import Descriptor
from sockd.transports.flush import SLICE, Flusher

# Events that are fetched by one call; more than can be handled within a slice need not be.
EVENTS_PER_POLL = 64
_GONE = select.EPOLLHUP | select.EPOLLERR
_IN = select.EPOLLIN

_log = Logger(namespace="sockd")


@implementer(IReadDescriptor)
class Lane:
    """Watches descriptors as a reactor does (`base.reactor.Watcher`); one descriptor to the reactor itself.

    As long as it watches anything it costs a file descriptor.
    """

    def __init__(self, flusher: Flusher) -> None:
        self._flusher = flusher
        self._reactor = flusher.reactor
        self._poller: Any = None  # Any: a select.epoll while `_there` has anything, unseen by mypy
        self._there: dict[int, Descriptor] = {}  # by number
        self._wanted: dict[int, int] = {}  # number -> the events that are registered for it
        self._left: deque[tuple[Descriptor, int, int]] = deque()  # fetched, but the slice was over

    logs_nothing = True  # with a prefix

    def logPrefix(self) -> str:  # noqa: N802
        return "sockd"

    def fileno(self) -> int:
        return -1 if self._poller is None else self._poller.fileno()

    # -- what descriptors ask for: Watcher

    def addReader(self, reader: Descriptor) -> None:  # noqa: N802
        self._want(reader, select.EPOLLIN)

    def removeReader(self, reader: Descriptor) -> None:  # noqa: N802
        self._unwant(reader, select.EPOLLIN)

    def addWriter(self, writer: Descriptor) -> None:  # noqa: N802
        self._want(writer, select.EPOLLOUT)

    def removeWriter(self, writer: Descriptor) -> None:  # noqa: N802
        self._unwant(writer, select.EPOLLOUT)

    def _want(self, one: Descriptor, event: int) -> None:
        number = one.fileno()
        wanted = self._wanted.get(number)
        if wanted is None:
            if self._poller is None:
                self._open()
            self._poller.register(number, event)
            self._there[number] = one
            self._wanted[number] = event
        elif not wanted & event:
            self._poller.modify(number, wanted | event)
            self._wanted[number] = wanted | event

    def _unwant(self, one: Descriptor, event: int) -> None:
        number = one.fileno()
        wanted = self._wanted.get(number, 0)
        if wanted == event:
            del self._there[number], self._wanted[number]
            try:
                self._poller.unregister(number)
            finally:
                if not self._there:
                    self._close()
        elif wanted & event:
            self._poller.modify(number, wanted & ~event)
            self._wanted[number] = wanted & ~event

    # -- in the reactor

    def _open(self) -> None:
        # A connection is accepted already, with what may have been the last free descriptor.
        self._poller = descriptors.take(select.epoll)
        self._reactor.addReader(self)

    def _close(self) -> None:
        self._reactor.removeReader(self)
        self._poller.close()
        self._poller = None
        self._left.clear()

    def doRead(self) -> None:  # noqa: N802
        """Have descriptors handle their events until the slice is over."""
        until = perf_counter() + SLICE
        self._flusher.hearing.add(self)
        there, left = self._there, self._left
        while left:
            one, number, event = left.popleft()
            if there.get(number) is one:
                self._handle(one, event)
            if perf_counter() > until:
                return
        if self._poller is None:
            return  # the last descriptor has left
        events = iter(self._poller.poll(0, EVENTS_PER_POLL))
        for number, event in events:
            try:
                one = there[number]
            except KeyError:
                continue  # an earlier event made it leave
            if event == _IN:
                try:
                    one.doRead()
                except BaseException as error:  # noqa: BLE001
                    self._failed(one, error)
            else:
                self._handle(one, event)
            if perf_counter() > until:
                left.extend((there[n], n, event) for n, event in events if n in there)
                return

    def _handle(self, one: Descriptor, event: int) -> None:
        try:
            if event & _GONE and not event & select.EPOLLIN:
                reading = self._wanted[one.fileno()] & select.EPOLLIN
                one.connectionLost(Failure(ConnectionDone() if reading else ConnectionLost()))
                return
            if event & select.EPOLLIN:
                one.doRead()
            if event & select.EPOLLOUT:
                one.doWrite()
        except BaseException as error:  # noqa: BLE001
            self._failed(one, error)

    def _failed(self, one: Descriptor, error: BaseException) -> None:
        """A bug of ours costs that connection and no other, as in Twisted's reactors."""
        _log.failure("a transport failed")
        one.connectionLost(Failure(error))

    def connectionLost(self, reason: Failure) -> None:  # noqa: N802
        """The reactor ends."""
        for one in tuple(self._there.values()):
            one.connectionLost(reason)
