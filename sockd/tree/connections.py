"""The connections of one endpoint, over all its listeners."""

from collections.abc import Callable, Iterable, Iterator
from socket import socket
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from sockd.base.frozen import State
from sockd.base.metrics import Counters, End
from sockd.base.peers import Peer
from sockd.base.reactor import Watcher
from sockd.base.units import Rate, counted
from sockd.limits.sources import source
from sockd.limits.suppression import LogLimiter
from sockd.plan.plan import Limits
from sockd.protocols.contract import StreamFactory
from sockd.transports.connection import Connection
from sockd.transports.continued import ContinuedWork
from sockd.transports.fields import UNSENT_LIMIT
from sockd.transports.flush import Flusher
from sockd.transports.lanes import Lane
from sockd.transports.twisted import TwistedProtocol
from sockd.tree.admission import Admission
from sockd.tree.draining import Drain, Draining
from sockd.tree.protocol import spoken
from sockd.tree.refusals import Refusals
from sockd.tree.reporting import Endings
from sockd.tree.sweep import Sweep

if TYPE_CHECKING:
    from sockd.tree.contexts import Sessions

# An endpoint's first connections are watched by the reactor itself, or its first one if that speaks TLS: a
# lane costs a system call more for each turn, 1.5 µs, which is little when many share it.
WATCHED_DIRECTLY = 4
_FULL_LOGGED = Rate(1, 60.0)  # that the limit was reached
_DONE = End.DONE  # bound once, as in `transports.connection`


class Connections:
    """Has a connection from its admission to its end; the owner of a Connection, in its words.

    `room_changed()` is called when the limit is reached and when it is left; `numbers` are those that the
    connections get, one after the other.
    """

    def __init__(
        self,
        endpoint: str,
        limits: Limits,
        flusher: Flusher,
        log: Logger,
        counters: Counters,
        room_changed: Callable[[], None],
        numbers: Iterator[int],
        admission: Admission,
    ) -> None:
        self.endpoint = endpoint
        self.limits = limits
        self.admission = admission
        self._counters = counters
        self._reactor = flusher.reactor
        self._direct = flusher.direct
        self._log = log
        self._room_changed = room_changed
        self.numbers = numbers
        self._connections: dict[Connection, None] = {}
        self.in_order = True  # iterating over them gives their numbers in order
        self._newest = 0
        self._held = False
        self.crowd = Lane(flusher)
        self.work = ContinuedWork(flusher, self.protocol_failed, self.crowd)
        self.later = self.work.later
        self._draining = Draining(flusher.reactor, self.protocol_failed, self.work.each)
        self._sweep = Sweep(
            flusher.reactor, self._connections, self._draining, self.over_limit, limits, admission
        )
        self._asked: StreamFactory | None = None  # the factory that has said what it speaks, and …
        self._spoken: tuple[str, ...] = ()  # … what that is
        self.refusals = Refusals(endpoint, flusher.reactor, log)
        self._endings = Endings(endpoint, flusher.reactor, log)
        self._full = LogLimiter(flusher.reactor, _FULL_LOGGED)

    def __len__(self) -> int:
        return len(self._connections)

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._connections)

    def __contains__(self, connection: Connection) -> bool:
        return connection in self._connections

    # -- admission

    def limit(self, limits: Limits) -> None:
        """From now on these limits hold; a smaller number of connections closes none."""
        if limits.unsent != self.limits.unsent:
            for connection in self._connections:
                connection.bound_unsent(limits.unsent)
        self.limits = limits
        self._sweep.follow(limits, self.admission)

    def log_share(self, share: int | None) -> None:
        """From now on log one in `share` connections; with 0 only the refused, with None not even those."""
        self._endings.log_unlogged()
        self._endings.share = share
        self.refusals.lines = share is not None

    def log_unlogged(self) -> None:
        """Log how many connections had no line of their own because only a share of them has."""
        self._endings.log_unlogged()

    def room(self) -> int:
        """How many more connections there may be."""
        return self.limits.connections - len(self._connections)

    def refusal(self, peer: Peer, sock: socket) -> str | None:
        """The counter's name of the reason to refuse this peer; without one its connection is counted."""
        return self.admission.refusal(peer, sock, self._reactor.seconds())

    def admit_anew(self, admission: Admission) -> None:
        """From now on this one says who may connect; connections that it doesn't allow are closed."""
        old, self.admission = self.admission, admission
        admission.succeed(old)
        self._sweep.follow(self.limits, admission)
        self.work.each(self._connections, self._admit_again)

    def _admit_again(self, connection: Connection) -> None:
        """Ask the rules of a reload about a connection that is there."""
        # A peer behind a proxy is checked once its PROXY header is complete.
        if connection not in self._connections or not connection.admitted:
            return
        admission = self.admission
        admission.keep(connection)
        reason = admission.barred(connection.peer, connection.sock)
        if reason is not None:
            self.over_limit(connection, reason, admission.why(reason, connection.peer))
            connection.cut(End.BARRED)

    def over_limit(self, connection: Connection, reason: str, why: str) -> None:
        """Count a connection that can't go on, for a reason that its listener has no part in."""
        self._refused(self._counters, connection, reason, why)

    def _refused(self, counters: Counters, connection: Connection, reason: str, why: str) -> None:
        counters.refused[reason] += 1
        self.refusals.note_connection(connection.peer, reason)
        if why:
            connection.why = f"{reason}: {why}"

    def sessions(self, factory: StreamFactory | None) -> "Sessions":
        """The TLS context, and its sessions, for a connection of this factory that begins now."""
        if factory is not self._asked:
            self._asked, self._spoken = factory, ()
            try:
                self._spoken = spoken(factory)
            except BaseException:  # noqa: BLE001
                self.protocol_failed("acceptableProtocols")
        return self.admission.sessions(self._spoken)

    # -- one connection

    def add(self, connection: Connection, protocol: TwistedProtocol) -> None:
        """Serve an accepted connection."""
        self._have(connection)
        if len(self._connections) >= self.limits.connections:
            self._log_full()
            self._room_changed()
        if self._held:
            connection.hold(True)
        connection.start(protocol)
        if connection in self._connections:
            self._draining.came(connection)

    def go_on(self, connection: Connection, protocol: TwistedProtocol, state: State) -> None:
        """Serve a connection that was served by the program before."""
        self._have(connection)
        self.admission.keep(connection)
        if self.room() <= 0:
            self._room_changed()
        if self._held:
            connection.hold(True)
        connection.resume(protocol, state)

    def _have(self, connection: Connection) -> None:
        connection.number = connection.number or next(self.numbers)
        self._connections[connection] = None
        connection.listener.connections += 1
        self.in_order = self.in_order and connection.number > self._newest
        self._newest = connection.number
        if self.limits.unsent != UNSENT_LIMIT:
            connection.bound_unsent(self.limits.unsent)
        self._sweep.start()

    def reject(self, connection: Connection, end: End) -> None:
        """There will be no protocol for this connection, which may be one of ours already."""
        if connection in self._connections:
            connection.close(end)
            return
        self.admission.left(connection.sock)
        self._endings.log(connection, end)
        connection.sock.close()

    def _log_full(self) -> None:
        if self._full.allows("full"):
            self._log.warn(
                "{endpoint}: at its limit of {text}; new connections wait in the kernel's backlog",
                endpoint=self.endpoint, limit=self.limits.connections,
                text=counted(self.limits.connections, "connection"), event="at limit",
            )  # fmt: skip

    # -- transports.connection.Owner

    def lane(self, *, secure: bool) -> Watcher:
        # A single handshake takes as long as a slice.
        direct = len(self._connections) < (1 if secure else WATCHED_DIRECTLY)
        return self._direct if direct else self.crowd

    def ended(self, connection: Connection, end: End) -> None:
        if end is _DONE and self.draining(connection):
            end = End.DRAINED  # its protocol closed it because it was asked to, or would have been soon
        was_full = len(self._connections) >= self.limits.connections
        del self._connections[connection]
        connection.listener.connections -= 1
        self._sweep.ended(connection)
        self.admission.left(connection.sock)
        self.refusals.accounts.connection_ended(
            source(connection.peer), connection.received, connection.sent, self._reactor.seconds()
        )
        self._endings.log(connection, end)
        if was_full:
            self._room_changed()
        self._draining.ended(connection, end)

    def refused(self, connection: Connection, reason: str, why: str = "") -> None:
        self._refused(connection.counters, connection, reason, why)

    def protocol_failed(self, where: str) -> None:
        self._counters.refused[f"exception in {where}"] += 1
        self._endings.protocol_failed(where)

    # -- all of them

    def hold(self, held: bool, *, at_once: bool = False) -> None:
        """Read from none of them while the protocol's service is down; `at_once`: however long that takes."""
        if held != self._held:
            self._held = held
            if at_once:
                for connection in self._connections:
                    connection.hold(held)
            else:
                self.work.each(self._connections, lambda connection: connection.hold(self._held))

    def drain(self) -> Deferred[None]:
        """Let them finish, and all that still come; fires when all have ended."""
        drain = self._draining.begin_all(self._connections)
        self._hurry(drain)
        return drain.done

    def drain_some(self, connections: Iterable[Connection], within: float | None = None) -> Drain:
        """Let these finish; those that have not finished `within` this many seconds are closed."""
        drain = self._draining.begin(connections, within)
        self._hurry(drain)
        return drain

    def _hurry(self, drain: Drain) -> None:
        if drain.connections:
            self._sweep.hurry()

    def draining(self, connection: Connection) -> bool:
        """Whether this one is to finish."""
        return connection in self._draining.connections

    @property
    def drained(self) -> list[Deferred[None]]:
        """Each fires when the connections of one drain have ended."""
        return self._draining.pending

    def cut(self) -> None:
        """End all of them now."""
        self.work.each(self._connections, lambda connection: connection.cut(End.CUT))

    def close(self) -> None:
        """No connections are left: stop the timers, and log what is yet to be summed up."""
        self._sweep.stop()
        self._endings.close()
