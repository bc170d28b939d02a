"""A datagram socket in the reactor: batches in, bounded for each event, and replies out."""

import errno
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import compress
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from sockd.base.metrics import Counters
from sockd.base.peers import Peer
from sockd.base.units import Rate
from sockd.limits.access import REFUSED as ACCESS
from sockd.limits.access import Access, Network
from sockd.limits.rates import Bucket
from sockd.limits.sources import CONNECT_RATE, Sources
from sockd.transports.datagrams.bounded import Batch, Bounded
from sockd.transports.datagrams.mmsg import NoAddressError, outbox
from sockd.transports.datagrams.receive import receiver
from sockd.transports.datagrams.senders import Senders
from sockd.transports.flush import Flusher

# Datagrams that one event reads, whatever their size: a flood on one socket leaves the others their turn.
DATAGRAMS_PER_EVENT = 64
# Bytes that one event reads, for the same reason; the call that reaches the limit may go over it.
BYTES_PER_EVENT = 256 * 1024
# Datagrams read at most from a socket that is to be closed: more than its buffer holds, unless more come.
QUEUED_LIMIT = 16384
# Up to this many replies are sent one by one, which is quicker than to lay out arrays for them.
SINGLE_SENDS = 10
# Linux's number (asm-generic/socket.h) of an option that has no name in Python; sock_diag(7) has its fields.
SO_MEMINFO = 55
MEMINFO = struct.Struct("9I")  # the last one: datagrams dropped

# The names under which refusals are counted, besides the kernel's own.
PER_SOURCE = "datagrams_per_source"
OF_ALL = "datagrams"
TOO_LONG = "longer than the kernel's limit"
NO_ADDRESS = "no return address"

# Counts a refusal of each of these peers; the words may be made only if they are logged.
Refuse = Callable[[str, Sequence[Peer], str | Callable[[], str]], None]


@implementer(IReadDescriptor)
class DatagramPort(Bounded):
    """One datagram socket, and the rates at which its datagrams are accepted.

    `protocol` is set before the first `read(True)`. `failed(where)` is called while an exception of the
    protocol is being handled, `lost(error, self)` when the reactor won't call the port any more. `refuse`
    counts what is refused, and `enter` what a peer has sent (`senders`). `sources` count what each source
    sends, where there is a rate for that.
    """

    # More than thirty attributes, and Python would look each of them up in a dict of the object's own.
    __slots__ = (
        "_all",
        "_dropped",
        "_flusher",
        "_guarded",
        "_limited",
        "_lost",
        "_outbox",
        "_paused",
        "_rate_words",
        "_reactor",
        "_reading",
        "_refuse",
        "_senders",
        "_source",
        "_wanted",
        "counters",
        "failed",
        "fileno",
        "protocol",
        "sock",
        "sources",
    )

    def __init__(
        self,
        sock: socket.socket,
        flusher: Flusher,
        counters: Counters,
        refuse: Refuse,
        enter: Callable[[Peer], None],
        failed: Callable[[str], None],
        lost: Callable[[BaseException, object], None],
        rate: Rate | None = None,
        rate_per_source: Rate | None = None,
        exempt: Iterable[Network] = (),
        *,
        answer_beyond: int = 0,
    ) -> None:
        super().__init__(bounded=sock.family != socket.AF_UNIX, beyond=answer_beyond)
        self.sock = sock
        self.fileno = sock.fileno
        self.protocol: Any = None  # Any: a DatagramProtocol before anything is read, which mypy can't see
        self.counters = counters
        self._refuse = refuse
        self._flusher = flusher
        self._reactor = flusher.reactor
        self.failed = failed
        self._lost = lost
        self._guarded = False  # whether there are rules of access
        self.limit(rate, rate_per_source, exempt)
        self._source = source = receiver(
            sock, flusher, DATAGRAMS_PER_EVENT, BYTES_PER_EVENT // DATAGRAMS_PER_EVENT
        )
        local = sock.family == socket.AF_UNIX
        self._senders = Senders(source.origin, enter, sock.getsockname(), local=local)
        self._outbox = outbox(DATAGRAMS_PER_EVENT)
        self._wanted = False  # by the listener
        self._paused = False  # by the protocol
        self._reading = False
        self._dropped = 0  # by the kernel, as far as counted

    logs_nothing = True  # with a prefix: it spares the reactor a context for each event

    def logPrefix(self) -> str:  # noqa: N802
        return "sockd"

    def limit(self, rate: Rate | None, rate_per_source: Rate | None, exempt: Iterable[Network] = ()) -> None:
        """Accept no more than this from now on; the rate per source doesn't concern `exempt` networks."""
        self._all = Bucket(rate, self._reactor.seconds()) if rate else None
        self.sources = Sources(None, rate_per_source, exempt) if rate_per_source else None
        self._rate_words = f"more than {rate} from all sources together"
        self._limits_changed()

    def forget(self) -> None:
        """Forget sources whose buckets are full again, while nothing comes that would do it."""
        if self.sources is not None:
            self.sources.forget(self._reactor.seconds())

    def admit(self, access: Access | None) -> None:
        """Take datagrams from, and send them to, the peers that this allows; None allows every peer."""
        self._guarded = access is not None
        self._limits_changed()
        self._senders.admit(access)

    def _limits_changed(self) -> None:
        self._limited = self._guarded or self._all is not None or self.sources is not None

    def read(self, wanted: bool) -> None:
        """Begin or cease to read. What arrives without being read fills the kernel's buffer, then is lost."""
        self._wanted = wanted
        self._update_reading()

    def pauseProducing(self) -> None:  # noqa: N802
        """Read no more until `resumeProducing`, as the protocol asks."""
        self._paused = True
        self._update_reading()

    def resumeProducing(self) -> None:  # noqa: N802
        """Read again."""
        self._paused = False
        self._update_reading()

    def _update_reading(self) -> None:
        reading = self._wanted and not self._paused
        if reading != self._reading:
            self._reading = reading
            if reading:
                self.count_drops()
                self._reactor.addReader(self)
            else:
                self._reactor.removeReader(self)

    def count_drops(self) -> None:
        """Count what the kernel dropped because its buffer was full, while we were held or too slow."""
        info = self.sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, MEMINFO.size)
        dropped = MEMINFO.unpack(info)[-1] if len(info) == MEMINFO.size else 0
        if dropped > self._dropped:
            self.counters.refused["dropped by the kernel"] += dropped - self._dropped
            self._dropped = dropped

    # -- in

    def take_queued(self) -> None:
        """Read what has arrived already: closing would lose it."""
        for _ in range(QUEUED_LIMIT // DATAGRAMS_PER_EVENT):
            # Not where it was the reading that failed, or where a batch brought the service down.
            if not self._reading or not self._read_batch():
                return

    def count_queued(self) -> None:
        """Count what has arrived and nobody will read, as the socket is about to be closed."""
        for _ in range(QUEUED_LIMIT):
            try:
                self.sock.recv(1)  # the rest of the datagram goes with it
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # of an earlier reply; the next call is sound
                continue
            self.counters.refused["unread at the close"] += 1

    def doRead(self) -> None:  # noqa: N802
        if self._source.plain:
            self._read_one()
        else:
            self._read_batch()

    def _read_one(self) -> None:
        """Read one datagram, in half the time of `_read_batch`; if there are more, the reactor comes back."""
        counters = self.counters
        try:
            data, key = self._source.receive_one()
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            counters.refused[_word(error)] += 1
            return
        peer = self._senders.one(key)
        if data is None:
            self.refuse(TOO_LONG, (peer,))
            return
        counters.datagrams_in += 1
        peer.datagrams += 1
        size = len(data)
        peer.size += size
        if not size:
            counters.empty += 1
        reason = self._limited and self._refusal(peer)
        if reason:
            self.refuse(reason, (peer,))
            return
        counters.bytes_in += size
        self._deliver(((data, peer),))

    def _read_batch(self) -> bool:
        """Read and deliver as many as one event may; whether there may be more."""
        counters = self.counters
        datagrams: list[bytes] = []
        peers: list[Peer] = []
        size = count = 0
        more = True
        while more and count < DATAGRAMS_PER_EVENT and size < BYTES_PER_EVENT:
            try:
                came, keys, taken, more, truncated = self._source.receive(DATAGRAMS_PER_EVENT - count)
            except (BlockingIOError, InterruptedError):
                more = False
            except OSError as error:
                # A reply that was refused comes back as an error of the socket; the next call is sound.
                counters.refused[_word(error)] += 1
                count += 1
            else:
                count += taken
                size += self._senders.receive(came, keys, peers)
                datagrams += came
                if truncated:
                    self.refuse(TOO_LONG, self._senders.of(truncated))
        if datagrams:
            counters.datagrams_in += len(datagrams)
            if not all(datagrams):
                counters.empty += datagrams.count(b"")
            batch = list(zip(datagrams, peers, strict=True))
            passed = self._passed(batch, peers)
            counters.bytes_in += size if len(passed) == len(batch) else sum([len(data) for data, _ in passed])
            if passed:
                self._deliver(passed)
        return more

    def _passed(self, batch: Batch, peers: Sequence[Peer]) -> Batch:
        """The datagrams that access and the rates let through; the others are counted."""
        if self._guarded:
            reasons = self._senders.refusals(peers)
            if any(reasons):
                self.refuse(ACCESS, list(compress(peers, reasons)))
                allowed = [reason is None for reason in reasons]
                batch, peers = list(compress(batch, allowed)), list(compress(peers, allowed))
        # The rate per source comes first: what one source sends too much must not use up the rate of all.
        if self.sources is not None and peers:
            granted = self.sources.take_many(peers, self._reactor.seconds())
            if not all(granted):
                self.refuse(PER_SOURCE, [peer for peer, may in zip(peers, granted, strict=True) if not may])
                batch = list(compress(batch, granted))
        if self._all is not None and batch:
            taken = self._all.take_many(len(batch), self._reactor.seconds())
            if taken < len(batch):
                self.refuse(OF_ALL, [peer for _, peer in batch[taken:]])
                batch = batch[:taken]
        return batch

    def _refusal(self, peer: Peer) -> str | None:
        """The counter's name of the reason why one datagram of this peer is refused, or None."""
        barred = self._senders.refusal(peer)
        if barred is not None:
            return barred
        now = self._reactor.seconds()
        if self.sources is not None and self.sources.take(peer, now) is not None:
            return PER_SOURCE
        return OF_ALL if self._all is not None and not self._all.take(now) else None

    def refuse(self, reason: str, peers: Sequence[Peer], why: str = "") -> None:
        """Count one refusal for each of these peers, and log it at a bounded rate."""
        if peers:
            self._refuse(reason, peers, why or partial(self._why, reason, peers[0]))

    def _why(self, reason: str, peer: Peer) -> str:
        """What the counter's name of a refusal stands for with this peer, in words."""
        if reason == ACCESS:
            return self._senders.why(peer)
        if reason == PER_SOURCE and self.sources is not None:
            return self.sources.why(CONNECT_RATE, peer)
        if reason == NO_ADDRESS:
            return "its socket has no name" if peer.local else "it sent to a broadcast or multicast address"
        return self._rate_words if reason == OF_ALL else ""

    def _deliver(self, batch: Batch) -> None:
        self._flusher.active = True
        self._asked = batch
        try:
            self.protocol.datagrams(batch)
        except BaseException:  # noqa: BLE001
            self.failed("datagrams")
        if self._asked or self._credits is not None:
            self._forget_asked()
        self._flusher.end()

    # -- out

    def send(self, data: bytes, peer: Peer) -> bool:
        """Answer a peer from the address that it sent to; False, and counted, where that is refused."""
        return (peer.proved or self._affords(data, peer)) and self._send(data, peer)

    def _send(self, data: bytes, peer: Peer) -> bool:
        if peer.sockaddr is None:
            self.refuse(NO_ADDRESS, (peer,))
            return False
        if self._guarded:
            barred = self._senders.refusal(peer)  # its datagram may have come before a reload
            if barred is not None:
                self.refuse(barred, (peer,))
                return False
        try:
            if peer.control:
                self.sock.sendmsg((data,), peer.control, 0, peer.sockaddr)
            else:
                self.sock.sendto(data, peer.sockaddr)
        except OSError as error:
            self.refuse(_word(error), (peer,), error.strerror or "")
            return False
        self.counters.datagrams_out += 1
        self.counters.bytes_out += len(data)
        return True

    def send_many(self, replies: Batch) -> None:
        """Send each of these in order, faster than `send` does; what is refused is only counted."""
        if replies is self._asked and self._credits is None:
            self._asked = ()  # each is answered by what came from it, and nothing more
            if len(replies) == 1:
                self._send(*replies[0])
                return
        elif len(replies) == 1:
            self.send(*replies[0])
            return
        elif self._bounded:
            replies = self._afforded(replies)
        for start in range(0, len(replies), DATAGRAMS_PER_EVENT):
            self._send_batch(replies[start : start + DATAGRAMS_PER_EVENT])

    def _send_batch(self, replies: Batch) -> None:
        # A reply to a peer that is barred, or has no address, is rare: then all are sent one by one.
        if self._outbox is not None and len(replies) > SINGLE_SENDS and not self._bars(replies):
            with suppress(NoAddressError):
                size, refused = self._outbox.send(self.sock.fileno(), replies)
                self._count_sent(replies, size, refused)
                return
        for data, peer in replies:
            self._send(data, peer)

    def _bars(self, replies: Batch) -> bool:
        """Whether access bars the peer of one of these."""
        return self._guarded and any(self._senders.refusals([peer for _, peer in replies]))

    def _count_sent(self, replies: Batch, size: int, refused: Sequence[tuple[int, OSError]]) -> None:
        for number, error in refused:
            self.refuse(_word(error), (replies[number][1],), error.strerror or "")
            size -= len(replies[number][0])
        self.counters.datagrams_out += len(replies) - len(refused)
        self.counters.bytes_out += size

    def _barred(self, peer: Peer) -> bool:
        return peer.sockaddr is None or (self._guarded and self._senders.refusal(peer) is not None)

    def gone(self, peer: Peer) -> bool:
        """Whether nobody has the Unix peer's socket any more: connect(2) says so, and sends nothing."""
        if not peer.local or peer.sockaddr is None:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
                probe.connect(peer.sockaddr)
        except OSError as error:
            # Any other error says that a socket is there, or that we can't know.
            return error.errno in {errno.ECONNREFUSED, errno.ENOENT}
        return False

    # -- endings

    def enter_senders(self) -> Iterator[None]:
        """Bring the accounts of the senders up to date; it may be interrupted wherever it yields."""
        return self._senders.enter_all()

    def connectionLost(self, reason: Failure) -> None:  # noqa: N802
        """The reactor has given up this port, because of an exception that nothing caught."""
        self._reading = self._wanted = False
        self._lost(reason.value or Exception(str(reason)), self)

    def leave(self) -> None:
        """Leave the reactor; the socket stays open."""
        self.read(False)
        self.count_drops()
        for _ in self.enter_senders():
            pass


def _word(error: OSError) -> str:
    """The counter's name of a refusal by the kernel."""
    return f"kernel: {errno.errorcode.get(error.errno or 0, 'error')}"
