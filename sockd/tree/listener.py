"""One address of an endpoint as a supervised child: what listeners for streams and for datagrams share.

A socket may outlive its listener. In a reload, a listener that takes the place of another at the same address
gets a duplicate of the socket (`take_over`); both have it until the old one lets go (`release`) and the new
one is its only owner (`own`). A listener whose address is wanted by another one, which may yet fail, closes
its socket and can open it again (`park`, `unpark`). systemd's fd store has duplicates for the next program
(`Sockets.stay`). As long as anything else has the socket, its file stays, and so does its queue.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from twisted.logger import Logger

from sockd.base.addresses import Address, Kind
from sockd.base.errors import SockdError
from sockd.base.metrics import Counters
from sockd.base.peers import Peer
from sockd.plan.plan import ListenerPlan
from sockd.protocols.contract import DatagramProtocol, Specification
from sockd.transports.acceptor import Acceptor
from sockd.transports.datagrams.port import DatagramPort
from sockd.transports.flush import Flusher
from sockd.transports.listening import Listening
from sockd.transports.sockets.opening import Opened
from sockd.transports.sockets.watch import FileWatch
from sockd.tree.connections import Connections
from sockd.tree.refusals import Why
from sockd.tree.sockets import Sockets
from sockd.tree.states import EFFECTS, Cause, Effect


class SocketFileLostError(SockdError):
    """The file of an open Unix socket was removed or replaced: nobody can reach the socket any more."""


@dataclass(frozen=True)
class Common:
    """What the listeners of one endpoint have in common."""

    specification: Specification
    connections: Connections
    flusher: Flusher
    log: Logger
    sockets: Sockets


class Listener(ABC):
    """`start` opens the address, `stop` closes it; `serve` says whether to accept and receive.

    `failed(error)` is called when an open listener can't serve any more. `address` is the one that is open:
    its port is never 0, and it is never systemd's name. Of several sockets that systemd passed under one name
    this listener has the one with its `number`.
    """

    def __init__(
        self, plan: ListenerPlan, number: int, common: Common, failed: Callable[[BaseException], None]
    ) -> None:
        self.plan = plan
        self.number = number
        self.address: Address = plan.address
        self.listening = Listening(str(plan.address))
        self.opened: Opened | None = None
        self._common = common
        self._reactor = common.flusher.reactor
        self._failed = failed
        self._effect = Effect(accepts=False, reads=False, receives=False)
        self._given: Opened | None = None
        self._borrowed = False
        self._watch: FileWatch | None = None

    @property
    def counters(self) -> Counters:
        """What is counted at this address."""
        return self.listening.counters

    def refuse(self, reason: str, peers: Sequence[Peer], why: Why = "") -> None:
        """Count one refusal for each of these peers, note them, and log them at a bounded rate."""
        self.counters.refused[reason] += len(peers)
        note, where = self._common.connections.refusals.note, self.listening.name
        if len(peers) == 1:
            note(where, reason, peers[0], why)
            return
        # Senders of datagrams that come together: few, or the same one many times.
        each = {id(peer): peer for peer in peers}
        for number, count in Counter(map(id, peers)).items():
            note(where, reason, each[number], why, count)

    @property
    @abstractmethod
    def descriptor(self) -> Acceptor | DatagramPort | None:
        """What the reactor watches; None while the address is closed."""

    @abstractmethod
    def serve(self, effect: Effect) -> None:
        """Accept and receive, or not."""

    @abstractmethod
    def _begin(self, opened: Opened) -> None:
        """Have `descriptor` for this socket; OpenError where the protocol doesn't speak over it."""

    @abstractmethod
    def _leave(self, *, queued: bool) -> None:
        """Have no `descriptor` any more; `queued`: first take in what waits at the socket."""

    def _closed(self) -> None:  # noqa: B027 - a stream's protocols end with their connections
        """The socket is closed, if it was open."""

    # -- supervised

    def start(self) -> None:
        """Open the address; OpenError where that fails. Nothing is accepted before `serve` says so."""
        opened, self._given = self._given or self._open(), None
        self.opened = opened
        systemds = self.plan.address.kind is Kind.SYSTEMD
        self.address = opened.address if systemds else replace(opened.address, kind=self.plan.address.kind)
        self.listening.name = str(self.address)
        try:
            self._begin(opened)
            if opened.file is not None:
                self._watch = FileWatch(self._reactor, opened.file, self._file_lost)
            self.serve(self._effect)
        except BaseException:
            self._close()
            raise

    def _open(self) -> Opened:
        address, sockets = self.plan.address, self._common.sockets
        if address.kind is Kind.SYSTEMD:
            return sockets.named(address.path, self.number, self.plan.socket)
        return sockets.open(address, self.plan.socket)

    def stop(self) -> None:
        """Take in what waits at the socket, then close it; or leave both to the next program."""
        self._close(stays=self._common.sockets.stay)

    def lost(self, why: BaseException, what: object) -> None:
        """Close, as `what` can't serve any more; a late report of an earlier `descriptor` changes nothing."""
        if what is self.descriptor:
            self._close()
            self._failed(why)

    def _file_lost(self) -> None:
        self.lost(SocketFileLostError("the socket's file was removed or replaced"), self.descriptor)

    def _close(self, *, stays: bool = False, queue_stays: bool = True) -> None:
        """`stays`: another listener or program has the socket too, and keeps its file; its queue as well,
        unless `queue_stays` is false.
        """
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        opened, self.opened = self.opened, None
        stays, self._borrowed = stays or self._borrowed, False
        if opened is not None and not stays:
            self._remove_file(opened)
        self._leave(queued=not (stays and queue_stays) and opened is not None and opened.ours)
        if opened is not None:
            self._common.sockets.close(opened, stays=stays)
        self._closed()

    def _remove_file(self, opened: Opened) -> None:
        # Before the socket is closed: its inode's number may be somebody else's file right after.
        if opened.file is not None:
            try:
                opened.file.remove()
            except OSError as error:
                self._common.log.info(
                    "{endpoint}: {path} stays behind: {why}",
                    endpoint=self._common.connections.endpoint, path=opened.file.path, why=error.strerror,
                    event="left",
                )  # fmt: skip

    # -- one socket, two listeners

    def take_over(self, opened: Opened) -> None:
        """Have the next start use this socket, which another listener has as well, until we `own` it."""
        self._given = opened
        self._borrowed = True

    def own(self) -> None:
        """The other listener has let go of the socket."""
        self._borrowed = False

    def release(self, heir: ListenerPlan) -> None:
        """Another listener has the socket now; let go of it and of its file.

        Clients in the backlog are served there, unless only one of the two speaks TLS.
        """
        self._close(stays=True, queue_stays=heir.tls == self.plan.tls)

    def park(self) -> DatagramProtocol | None:
        """Close the socket as `stop` does; what this returns is for `unpark`."""
        self._close()
        return None

    def unpark(self, protocol: DatagramProtocol | None) -> None:  # noqa: ARG002
        """Open the address again, with what `park` returned; OpenError where that fails."""
        self.start()

    # -- what some listeners have

    def held_by(self, cause: Cause) -> bool:
        """Whether this keeps the listener from serving, or from serving newcomers."""
        return not EFFECTS[cause].accepts

    @property
    def takes_datagrams(self) -> bool:
        """Whether it is open, and datagrams arrive at it."""
        return isinstance(self.descriptor, DatagramPort)

    def drain(self) -> None:  # noqa: B027 - connections are asked to finish by their own drain
        """The address is about to close: say so to peers that have no connection."""
