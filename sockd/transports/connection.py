"""One stream connection: what its protocol sees, what the reactor calls, and how it ends.

# Theory of operation

A connection is an accepted socket, the protocol that serves it, and what stands between the two. It is one
object on purpose, without a wrapper or a timer: an echo costs 13,000 instructions, the reactor's share
included, and each call more on its way another 440. Its parts are stacked as classes, each of which uses
those below:

    Connection   this module: an event of reading, and the ends
    Movable      an upgrade's freeze and thaw
    Sending      what the protocol writes, until the kernel has it; producers
    Reading      whether the lane watches for input: pauses, holds
    Fields       the attributes, and the state (`ConnectionFields`)

**The state.** `state` is one of twelve (`ending`, which has the table), and `_happens(event)` is the only
thing that moves it. The table decides; the methods here turn what the kernel, the protocol and sockd say
into events, and do what a move asks for: send a FIN, tell a half-closeable protocol, reset, bury the
socket. Attributes such as `connected`, `disconnecting` and `lingering` are set by the move, and by nothing
else. Writing, pausing and producers never change the state; they decide when `ALL_SENT` happens.

**Who calls.** Everything runs in the reactor's thread.

- A lane (or the reactor itself) calls `doRead`, `doWrite` and `connectionLost`.
- The protocol calls its transport, as `protocols.contract.StreamTransport` has it, from within an event or
  outside of one.
- The tree (`tree.connections`, the owner) calls `start`, `hold`, `dismiss` and `cut`, and hears of the end.
- The sweep, a few times a second over all connections in place of a timer for each, compares marks and calls
  `dismiss`, `cut`, `linger_expired` and `peer_left`.
- The flusher calls `flush`.

**The clocks.** Three times, in the reactor's seconds, for the sweep to compare. `opened` never changes: the
lifetime. `begun` is when the connection was accepted, or when it became ready for its protocol: the
time-outs of the handshake and of the first byte. `mark_time` is when the last sweep saw progress, or when
lingering began: idle, stalled, linger expired.

**Writing.** Whatever is written in an event leaves at its end, in one system call (`flush`). `_dirty` says
that this is bound to come; `doRead` sets it before it calls the protocol, and so answers without the
flusher.

**Never inside the protocol's own call.** `connectionLost` doesn't come while the protocol is in a method of
its transport. Nor does any other call of the protocol's, but a producer's, and `last_word` where a write goes
beyond a bound. So loseConnection only moves the state and has `flush` come later, and an abort has its
`connectionLost` a turn later. Nor is the socket closed while epoll's events of this turn may still name its
number: `Flusher.bury` waits for the end of the turn.

**Why closing lingers**, and what each kind of end means on the wire: see `ending`.

**The last word.** Before sockd ends a connection, in order (`dismiss`) or immediately (`cut`), the protocol
may say why, once: its `last_word(reason)` writes, and what the kernel takes without waiting is sent. If
that is all of it, a cut connection ends with a FIN in place of the RST, for which some kernels throw the
word away.

**Every byte is accounted for.** What the kernel has acknowledged is delivered or counted in `dropped`: bytes
that come once the end is certain (`_came_late`), and those that nobody has read when the socket is given up
(`_count_unread`). A protocol that only receives is given the former too.

A protocol that raises costs its own connection (`_failed`) and nothing else. The kernel running out of memory
for buffers (ENOBUFS) ends nothing: writing pauses for a tenth of a second.
"""

import errno
import os
import socket
import struct
from contextlib import suppress

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IPushProducer,
    IReadWriteDescriptor,
    ISystemHandle,
    ITCPTransport,
)
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from sockd.base.hosted import method_of
from sockd.base.metrics import End
from sockd.transports.ending import SENDS_FIN, TELLS_OF_FIN, ConnectionEvent, ConnectionState
from sockd.transports.faces import face
from sockd.transports.fields import BULK_READ_SIZE, HIGH_WATER, READ_SIZE
from sockd.transports.movable import Movable
from sockd.transports.reading import BY_BACK_PRESSURE, BY_PROTOCOL
from sockd.transports.twisted import TwistedProtocol, TwistedSocket
from sockd.transports.unread import ignore_more, refuse_more, unacknowledged, unread


class ConnectionCutError(ConnectionLost):
    """sockd ended the connection without waiting for the peer; `reason` is a word of `metrics.End`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


# While more connections than these wait for their peers to read, or are paused by their protocols, none reads
# in bulk: what was read is theirs to hold.
WAITING_LIMIT = 64

# Errors of the kernel's and not of the connection.
_KERNEL_SHORT = (errno.ENOBUFS, errno.ENOMEM)

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a RST, drop what is unsent

# Bound once: until Python 3.12 each look-up of an enum's member runs Python code of its own.
_FINISHED = ConnectionState.FINISHED
_LINGERING = ConnectionState.LINGERING
_TAKING_REST = ConnectionState.TAKING_REST
_PEER_FINISHED = ConnectionEvent.PEER_FINISHED
_PEER_HALF_CLOSED = ConnectionEvent.PEER_HALF_CLOSED
_CLOSE = ConnectionEvent.CLOSE
_HALF_CLOSE = ConnectionEvent.HALF_CLOSE
_ALL_SENT = ConnectionEvent.ALL_SENT
_UNSENDABLE = ConnectionEvent.UNSENDABLE
_LINGER_EXPIRED = ConnectionEvent.LINGER_EXPIRED
_REST_WANTED = ConnectionEvent.REST_WANTED
_ABORT = ConnectionEvent.ABORT
_GONE = ConnectionEvent.GONE


@implementer(ITCPTransport, IConsumer, IPushProducer, IReadWriteDescriptor, ISystemHandle)
class Connection(Movable, TwistedSocket):
    """A connection that a listener accepted: Twisted's ITCPTransport, over TCP and Unix sockets alike.

    What it has beyond that interface is in `protocols.contract.StreamTransport`.
    """

    __slots__ = ()

    logs_nothing = True  # with a prefix: it spares the reactor a context for each event

    def logPrefix(self) -> str:  # noqa: N802
        return self.listener.name

    # -- the beginning

    def begins(self) -> None:
        """The PROXY header, or the handshake, is over: the protocol's time begins."""
        self.ready = True
        self.begun = self.mark_time = self._reactor.seconds()

    def start(self, protocol: TwistedProtocol) -> None:
        """Hand the connection to its protocol and begin to read."""
        self.protocol = protocol
        self._update_reading()
        self._flusher.active = True
        try:
            protocol.makeConnection(self)
        except BaseException:  # noqa: BLE001
            self._failed("connectionMade")
        self._flusher.end()

    # -- an event

    def doRead(self) -> None:  # noqa: N802
        if not self._reading:
            return  # an event that epoll reported with this one has paused it
        size, read = self._read_size, self._read
        if size > READ_SIZE and self._flusher.waiting > WAITING_LIMIT:
            size = READ_SIZE
        try:
            data = read(self._fd, size)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._broken(error)
            return
        if not data:
            self._peer_finished()
            return
        if self.disconnecting:
            self._came_late(data)
            return
        count = len(data)
        if count >= READ_SIZE:
            self._read_size = BULK_READ_SIZE
        elif size > READ_SIZE:
            self._read_size = READ_SIZE
        self.received += count
        self._sent_before = self.sent
        self.counters.bytes_in += count
        flusher = self._flusher
        flusher.active = True
        self._dirty = True  # it is flushed below, before whatever else is dirty
        try:
            self.protocol.dataReceived(data)
        except BaseException:  # noqa: BLE001
            self._failed("dataReceived")
        self._dirty = False
        answer = self._one
        if answer is None or self._follows or self._writing:
            if self.unsent or self._asked:
                self.flush()
        else:
            # `_send_one` in place: to call it would cost 440 instructions more.
            write = self._write
            try:
                count = write(self._fd, answer)
            except OSError as error:
                self._send_failed(error)
                self._flushed()
            else:
                self.sent += count
                self.counters.bytes_out += count
                if count == self.unsent:
                    self.unsent = 0
                    self._one = None
                else:
                    self.unsent -= count
                    self._one = memoryview(answer)[count:]
                    self._flushed()
        if flusher.dirty:
            flusher.end()
        else:
            flusher.active = False

    def _came_late(self, data: bytes) -> None:
        """The end is certain. What comes is read all the same: a peer that still sends must not block."""
        if self._only_receives:
            self.received += len(data)
            self.counters.bytes_in += len(data)
        self._flusher.active = True
        self._deliver(data)
        self._flusher.end()

    def _deliver(self, data: bytes) -> None:
        if self.disconnecting and not self._only_receives:
            if self.ready:
                self.dropped += len(data)
            return
        try:
            self.protocol.dataReceived(data)
        except BaseException:  # noqa: BLE001
            self._failed("dataReceived")

    def _failed(self, where: str) -> None:
        """The protocol raised: that costs it this connection, and no other connection anything."""
        self._owner.protocol_failed(where)
        self.cut(End.FAILED)

    # -- the end, as the protocol and sockd want it

    def loseConnection(self) -> None:  # noqa: N802
        self.close(End.DONE)

    def stopProducing(self) -> None:  # noqa: N802
        self.loseConnection()

    def close(self, end: End) -> None:
        """Send what is unsent, then end the connection; the first reason given is the one that is logged."""
        if self._happens(_CLOSE):
            self.end = self.end or end
            self._flush_soon()

    def refuse(self, reason: str, why: str = "") -> None:
        """As `close`, for a peer that the protocol doesn't serve: counted under `reason`."""
        if not self.disconnecting:
            self._owner.refused(self, reason, why)
            self.close(End.REFUSED)

    def loseWriteConnection(self) -> None:  # noqa: N802
        """Send what is unsent, then a FIN; the peer may go on sending."""
        if self._happens(_HALF_CLOSE):
            self._flush_soon()

    def abortConnection(self) -> None:  # noqa: N802
        self._abort(self.end or End.DONE, Failure(ConnectionAborted()))

    def dismiss(self, end: End) -> None:
        """As `close`, by sockd: the protocol has its last word first."""
        if not self.disconnecting:
            self.end = self.end or end
            self._say_last_word(self.end)
        self.close(end)

    def cut(self, end: End) -> None:
        """End the connection now, after the protocol's last word; what the kernel doesn't take is dropped."""
        heard = not self.disconnecting and self._say_last_word(end) and self._sent_off()
        self._abort(end, Failure(ConnectionCutError(end)), heard=heard)

    def _say_last_word(self, end: End) -> bool:
        """Let the protocol write why sockd ends the connection; whether it wrote something."""
        if self._parting or not self._sends or not self.ready:
            return False
        self._parting = True
        written = self.sent + self.unsent
        try:
            last_word = method_of(face(self.protocol), "last_word")
            if last_word is not None:
                last_word(end.value)
        except BaseException:  # noqa: BLE001
            self._owner.protocol_failed("last_word")
        return self.sent + self.unsent > written

    def _sent_off(self) -> bool:
        """Send what the kernel takes now; whether that is everything, and the peer is likely to read it."""
        self._send_out()
        return not self.unsent and self._alive and unacknowledged(self._fd) <= HIGH_WATER

    def linger_expired(self) -> None:
        """The peer had its time to finish after our FIN. The kernel still delivers what we sent."""
        if self.state is not _LINGERING:
            return
        refuse_more(self.sock)
        if self._only_receives and self._happens(_REST_WANTED):
            return
        self._count_unread()
        if self._happens(_LINGER_EXPIRED):
            self._lost(connectionDone)

    # -- the end, as it comes about

    def _all_sent(self) -> None:
        old = self.state
        if self._happens(_ALL_SENT) and old in SENDS_FIN:
            try:
                self.sock.shutdown(socket.SHUT_WR)
            except OSError as error:
                self._broken(error)
                return
            if old in TELLS_OF_FIN and self._half_closeable():
                self._call(self.protocol, "writeConnectionLost")
        self._lose_if_finished()

    def _lose_if_finished(self) -> None:
        """Both directions have ended; or ours has, and a peer idle for so long has nothing on its way."""
        if self.state is _FINISHED:
            self._lost(connectionDone)
        elif self.lingering and self.end is End.IDLE:
            self.linger_expired()

    def _peer_finished(self) -> None:
        """The peer's FIN."""
        if self.disconnecting or not self._half_closeable():
            self._end_with_peer(End.PEER)
        elif self._happens(_PEER_HALF_CLOSED):
            self._flusher.active = True
            self._call(self.protocol, "readConnectionLost")
            self._lose_if_finished()
            self._flusher.end()

    def _half_closeable(self) -> bool:
        """Whether the protocol wants to know of a direction that has ended; zope asks it for attributes."""
        try:
            return IHalfCloseableProtocol.providedBy(self.protocol)
        except BaseException:  # noqa: BLE001
            self._owner.protocol_failed("__provides__")
            return False

    def _end_with_peer(self, end: End) -> None:
        """The peer has finished, and so does the protocol: what is unsent goes out first."""
        if self._happens(_PEER_FINISHED):
            self.end = self.end or end
            if self.state is _FINISHED:
                self._lost(connectionDone)
            else:
                self._end_after_peer()

    def _end_after_peer(self) -> None:
        if not self.unsent and not self._producer_waits():
            self._all_sent()

    def peer_left(self, *, reset: bool) -> None:
        """The peer has left, though nothing is being read from it (`tree.sweep`)."""
        if reset:
            self._broken(ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)))
        elif not self._rest:
            self._peer_finished()

    def _unsendable(self, error: OSError) -> None:
        """The kernel takes nothing more from us: drop what is unsent.

        The connection goes on if the peer may have sent something before it left, until that is read.
        """
        if error.errno in _KERNEL_SHORT:
            self._breathe(errno.errorcode[error.errno])
        elif self._reads and (self._reading or self._rest or self._paused == BY_BACK_PRESSURE):
            self._happens(_UNSENDABLE)
            self._drop_unsent()
            self._stop_producer()
            self._resume(BY_BACK_PRESSURE)
        else:
            self._broken(error)

    def _broken(self, error: OSError) -> None:
        if self.state is _TAKING_REST:  # the kernel answered with a RST what it was to take no more
            self._end_with_peer(End.PEER)
            return
        self._abort(self.end or End.RESET, Failure(ConnectionLost(str(error))))

    def _abort(self, end: End, why: Failure, *, heard: bool = False) -> None:
        """End the connection in the next turn: with a RST, or a FIN where a last word is to be `heard`."""
        if not self._happens(_ABORT):
            return
        self.end = end
        # connectionLost comes later, as the protocol may be in the middle of something.
        self._owner.later(self._lost, why)
        self._drop_unsent()
        with suppress(OSError):  # a protocol may have closed the socket behind our back (getHandle)
            if heard:
                self._finish()
                return
            ignore_more(self.sock)
            if self.sock.family != socket.AF_UNIX:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def _finish(self) -> None:
        """Send a FIN, and drop what has come: closing a socket with something unread sends a RST."""
        self.sock.shutdown(socket.SHUT_WR)
        refuse_more(self.sock)
        self.dropped += len(self._read(self._fd, BULK_READ_SIZE))

    def _count_unread(self) -> None:
        """What the peer has sent and nobody will read; nothing before the protocol's time."""
        if self.ready:
            self.dropped += len(self._rest) + unread(self._fd)
            self._rest = b""

    def connectionLost(self, reason: Failure) -> None:  # noqa: N802
        """The reactor saw the socket fail, or the other end gone in both directions."""
        self.end = self.end or (End.PEER if reason.check(ConnectionDone) else End.RESET)
        self._lost(reason)

    def _lost(self, why: Failure) -> None:
        """Give the connection up, once: the protocol and the owner hear of it here, and nowhere else."""
        if not self.connected:
            return
        if self.state is not _FINISHED:
            self._count_unread()
        self._happens(_GONE)
        if self._paused & BY_PROTOCOL:
            self._flusher.waiting -= 1
        self._drop_unsent()
        self._fd = -1  # the kernel will hand its number to another
        self._flusher.bury(self.sock)
        self._stop_producer()
        if self.protocol is not None:  # else the handshake was not done
            try:
                self.protocol.connectionLost(why)
            except BaseException:  # noqa: BLE001
                self._owner.protocol_failed("connectionLost")
        end = self.end or End.DONE
        if self.dropped:
            self.counters.dropped[end] += self.dropped
        self._owner.ended(self, end)
        self.protocol = None  # it refers to us: a cycle would wait for the garbage collector
