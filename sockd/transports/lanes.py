"""An endpoint's connections as the reactor sees them: one descriptor, which has a slice of each turn."""

import select
from collections import deque
from time import perf_counter
from typing import Any, Protocol

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sockd.base import descriptors
from sockd.transports.flush import SLICE, Flusher

# Asked for at a time: what can't be handled within a slice needn't be fetched.
MANY = 64
_IN = select.EPOLLIN
_GONE = select.EPOLLHUP | select.EPOLLERR

_log = Logger(namespace="sockd")


class Selector(Protocol):
    """Who calls transports when there is something to read or room to write: a reactor, or a lane of it."""

    def addReader(self, reader: Any) -> object: ...  # noqa: N802
    def removeReader(self, reader: Any) -> object: ...  # noqa: N802
    def addWriter(self, writer: Any) -> object: ...  # noqa: N802
    def removeWriter(self, writer: Any) -> object: ...  # noqa: N802


@implementer(IReadDescriptor)
class Lane:
    """A selector of its own within the reactor: an epoll descriptor that another one watches (epoll(7)).

    As long as it has a transport it costs a descriptor.
    """

    def __init__(self, flusher: Flusher) -> None:
        self._flusher = flusher
        self._reactor = flusher.reactor
        self._poller: Any = None
        self._there: dict[int, Any] = {}
        self._wanted: dict[int, int] = {}
        self._left: deque[tuple[Any, int, int]] = deque()  # fetched, but the slice was over

    logs_nothing = True  # with a prefix

    def logPrefix(self) -> str:  # noqa: N802
        return "sockd"

    def fileno(self) -> int:
        return -1 if self._poller is None else self._poller.fileno()

    # -- what transports ask for

    def addReader(self, reader: Any) -> None:  # noqa: N802
        self._want(reader, select.EPOLLIN)

    def removeReader(self, reader: Any) -> None:  # noqa: N802
        self._unwant(reader, select.EPOLLIN)

    def addWriter(self, writer: Any) -> None:  # noqa: N802
        self._want(writer, select.EPOLLOUT)

    def removeWriter(self, writer: Any) -> None:  # noqa: N802
        self._unwant(writer, select.EPOLLOUT)

    def _want(self, one: Any, event: int) -> None:
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

    def _unwant(self, one: Any, event: int) -> None:
        number = one.fileno()
        wanted = self._wanted.get(number, 0)
        if wanted == event:
            self._poller.unregister(number)
            del self._there[number], self._wanted[number]
            if not self._there:
                self._close()
        elif wanted & event:
            self._poller.modify(number, wanted & ~event)
            self._wanted[number] = wanted & ~event

    # -- in the reactor

    def _open(self) -> None:
        # Who is to be watched has a connection already, be it the last that could be had.
        self._poller = descriptors.take(select.epoll)
        self._reactor.addReader(self)

    def _close(self) -> None:
        self._reactor.removeReader(self)
        self._poller.close()
        self._poller = None
        self._left.clear()

    def doRead(self) -> None:  # noqa: N802
        """Have transports handle what there is for them, until the slice is over."""
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
            return  # the last one has left
        events = iter(self._poller.poll(0, MANY))
        for number, event in events:
            try:
                one = there[number]
            except KeyError:
                continue  # the event before had it leave
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

    def _handle(self, one: Any, event: int) -> None:
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

    def _failed(self, one: Any, error: BaseException) -> None:
        """A bug of ours costs that transport its connection, as in Twisted's reactors."""
        _log.failure("a transport failed")
        one.connectionLost(Failure(error))

    def connectionLost(self, reason: Failure) -> None:  # noqa: N802
        """The reactor ends."""
        for one in tuple(self._there.values()):
            one.connectionLost(reason)
