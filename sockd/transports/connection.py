"""One stream connection as its protocol sees it, and the hot path: no wrapper, no timer, counters inline."""

import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IPushProducer,
    IReadWriteDescriptor,
    ITCPTransport,
)
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from sockd.base.metrics import End
from sockd.base.peers import Peer
from sockd.transports.flush import Flusher
from sockd.transports.lanes import Selector
from sockd.transports.listening import Listening
from sockd.transports.twisted import twisted_address


class ConnectionCutError(ConnectionLost):
    """We ended the connection without waiting for the peer; `reason` is a word of `metrics.End`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


# One read takes at most so many bytes; after a full one the next takes more, as the peer sends in bulk: that
# saves a quarter of the CPU for messages of a megabyte. The kernel fills the bytes that the protocol gets.
READ = 64 * 1024
READ_IN_BULK = 512 * 1024
# While more connections than these wait for their peers to read, or are paused by their protocols, nobody's
# reads are in bulk: what was read is theirs to hold.
WAITING = 64
# Above so many bytes unsent we stop reading from the peer: it gets no further answers before it took these.
HIGH_WATER = 64 * 1024
# Above so many bytes unsent the connection is cut, unless the protocol sets its own bound: it went on writing
# though nothing was read from the peer any more.
UNSENT = 16 * 1024 * 1024

# Errors of the kernel's, and not of the connection; how long (seconds) it has time to find room.
_SHORT = (errno.ENOBUFS, errno.ENOMEM)
_BREATHER = 0.1

# Why nothing is read from a connection: a set of bits.
BY_PROTOCOL = 1
BY_BACK_PRESSURE = 2
BY_HOLD = 4

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a RST, drop what is unsent


class Owner(Protocol):
    """Who is told of a connection's end, and of a protocol that raised, and knows where it is watched."""

    def lane(self, *, secure: bool) -> Selector: ...
    def ended(self, connection: "Connection", end: End) -> None: ...
    def protocol_failed(self, where: str) -> None:
        """Called while the exception is being handled."""


class _Often:
    """What each event needs stands together: with 1,000 connections 6 of 19 misses of the cache less."""

    __slots__ = (
        "_dirty",
        "_fd",
        "_fin_sent",
        "_flusher",
        "_follows",
        "_high_water",
        "_one",
        "_out",
        "_read",
        "_read_size",
        "_reading",
        "_write",
        "_writing",
        "counters",
        "disconnecting",
        "protocol",
        "received",
        "sent",
        "unsent",
    )


@implementer(ITCPTransport, IConsumer, IPushProducer, IReadWriteDescriptor)
class Connection(_Often):
    """A connection that a listener accepted. Twisted's ITCPTransport for TCP and Unix sockets alike.

    Beyond that interface: `peer`, `received` and `sent` in bytes, `owed` (bytes unsent), `limit_unsent`.
    `number` is the owner's, who tells connections apart by it.
    When the peer finished sending and the protocol is no IHalfCloseableProtocol, what is owed still goes out
    before `connectionLost`. `loseConnection` sends what is owed, then a FIN, then reads on without delivering
    until the peer's FIN (or `linger_expired`): closing with unread input would reset the connection and lose
    what is on its way.
    """

    __slots__ = (
        "_aborted",
        "_asked",
        "_fin_wanted",
        "_owner",
        "_paused",
        "_producer",
        "_producer_paused",
        "_reactor",
        "_read_closed",
        "_rest",
        "_streaming",
        "_unsent_limit",
        "admitted",
        "begun",
        "connected",
        "disconnected",
        "end",
        "identity",
        "lane",
        "lingering",
        "listener",
        "mark_received",
        "mark_sent",
        "mark_time",
        "number",
        "opened",
        "peer",
        "ready",
        "sock",
    )

    def __init__(
        self,
        sock: socket.socket,
        peer: Peer,
        flusher: Flusher,
        owner: Owner,
        listener: Listening,
    ) -> None:
        self.sock = sock
        # Not the socket's own methods: these take their arguments without a tuple, 1,100 instructions less
        # for each answer.
        self._fd = sock.fileno()
        self._read = os.read
        self._write = os.write
        self.peer = peer
        self.listener = listener
        self.counters = listener.counters
        self.number = 0
        self._flusher = flusher
        self._reactor = flusher.reactor
        self._owner = owner
        self.lane = owner.lane(secure=self.secure)
        self.protocol: Any = None
        self._one: bytes | memoryview | None = None  # to be sent, where it is all there is
        self._out: list[bytes | memoryview] = []  # else
        self.unsent = 0
        self.received = 0
        self.sent = 0
        self._unsent_limit = UNSENT
        self._high_water = HIGH_WATER
        self._aborted = False
        self._read_size = READ
        self._paused = 0
        self._reading = False
        self._rest = b""  # was read, and not wanted yet: nothing is read before it is
        self._writing = False
        self._dirty = False
        self._asked = False  # in its own event, to be flushed though it wrote nothing
        self._read_closed = False
        self._fin_wanted = False
        self._follows = False  # there is something to do once nothing is owed: a producer to ask, an end
        self._fin_sent = False
        self._producer: Any = None
        self._producer_paused = False
        self._streaming = False
        self.connected = True
        self.disconnected = False
        self.disconnecting = False
        self.lingering = False
        self.end: End | None = None
        self.opened = self.begun = self.mark_time = self._reactor.seconds()
        self.ready = True  # what comes before the protocol is over, since `begun`
        self.admitted = True  # its peer is known, and may: no PROXY header is waited for
        self.identity = ""  # whom a verified certificate names
        self.mark_received = self.mark_sent = 0

    def __repr__(self) -> str:
        return f"<connection of {self.peer.text} to {self.listener.name}>"

    def fileno(self) -> int:
        return self._fd

    logs_nothing = True  # with a prefix: it spares the reactor a context for each event

    def logPrefix(self) -> str:  # noqa: N802
        return self.listener.name

    def begins(self) -> None:
        """What comes before its protocol is over."""
        self.ready = True
        self.begun = self.mark_time = self._reactor.seconds()

    def start(self, protocol: Any) -> None:
        """Give the connection to its protocol and begin to read."""
        self.protocol = protocol
        self._update_reading()
        self._flusher.active = True
        try:
            protocol.makeConnection(self)
        except BaseException:  # noqa: BLE001
            self._failed("connectionMade")
        self._flusher.end()

    # -- from one program to the next

    movable = True  # unless it is cut meanwhile
    secure = False
    why = ""  # what was wrong with it, where a transport knows more than `end` says

    @property
    def freezable(self) -> bool:
        """Whether it can go on in another program: not once it was cut, though its end is yet to be told."""
        return self.connected and not self._aborted

    def freeze(self) -> dict[str, Any]:
        """What `thaw` needs beside the protocol's own state; nothing changes here."""
        return {
            "fd": self.fileno(),
            "number": self.number,
            "listener": self.listener.name,
            "peer": self.peer.freeze(),
            "received": self.received,
            "sent": self.sent,
            "unsent": b"".join(self._queue()),
            "unsent_limit": self._unsent_limit,
            "rest": self._rest,
            "producer_paused": self._producer is not None and self._streaming and self._producer_paused,
            "read_closed": self._read_closed,
            "fin_wanted": self._fin_wanted,
            "fin_sent": self._fin_sent,
            "disconnecting": self.disconnecting,
            "lingering": self.lingering,
            "end": None if self.end is None else self.end.value,
            "opened": self.opened,
            "mark_time": self.mark_time,
            "mark_received": self.mark_received,
            "mark_sent": self.mark_sent,
        }

    @classmethod
    def thaw(
        cls, state: dict[str, Any], sock: socket.socket, flusher: Flusher, owner: Owner, listener: Listening
    ) -> "Connection":
        """The connection of which this was frozen, over its (non-blocking) socket; `resume` starts it."""
        connection = cls(sock, Peer.thaw(state["peer"]), flusher, owner, listener)
        connection.number = state["number"]
        connection.received, connection.sent = state["received"], state["sent"]
        connection.limit_unsent(state["unsent_limit"])
        if state["unsent"]:
            connection._out.append(state["unsent"])
            connection.unsent = len(state["unsent"])
        connection._rest = state["rest"]
        connection._producer_paused = state["producer_paused"]
        connection._read_closed = state["read_closed"]
        connection._fin_wanted, connection._fin_sent = state["fin_wanted"], state["fin_sent"]
        connection.disconnecting, connection.lingering = state["disconnecting"], state["lingering"]
        connection._follows = connection.disconnecting or connection._fin_wanted
        connection.end = None if state["end"] is None else End(state["end"])
        connection.opened, connection.mark_time = state["opened"], state["mark_time"]
        connection.mark_received, connection.mark_sent = state["mark_received"], state["mark_sent"]
        return connection

    def resume(self, protocol: Any, state: Any) -> None:
        """Give a thawed connection to its protocol, with the state of that, and go on where it stopped.

        What the protocol was paused for is not known any more: it is read from unless its `thaw` pauses it.
        """
        self.protocol = protocol
        producer_paused, self._producer_paused = self._producer_paused, False
        self._flusher.active = True
        try:
            protocol.transport = self
            protocol.connected = 1
            protocol.thaw(state)
        except BaseException:  # noqa: BLE001
            self._failed("thaw")
        else:
            if producer_paused and self._producer is not None and self._streaming:
                # It waited for what is unsent to go, and the end of the connection may wait for it.
                self._pause_producer()
                self._start_writing()
            if self.unsent or self.disconnecting or self._fin_wanted:
                self._flush_soon()
            self._update_reading()
        self._flusher.end()

    # -- the hot path

    def doRead(self) -> None:  # noqa: N802
        if not self._reading:
            return  # it was paused by another event that epoll reported together with this one
        size, read = self._read_size, self._read
        if size > READ and self._flusher.waiting > WAITING:
            size = READ
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
            return  # the protocol is done with it; reading on keeps a peer that still sends from blocking
        count = len(data)
        if count >= READ:
            self._read_size = READ_IN_BULK
        elif size > READ:
            self._read_size = READ
        self.received += count
        self.counters.bytes_in += count
        flusher = self._flusher
        flusher.active = True
        self._dirty = True  # it is flushed below, whatever else is to be flushed
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
            # `_send_one`, of which the call would be 440 instructions of 8,000.
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

    def write(self, data: bytes) -> None:
        if type(data) is not bytes:
            data = bytes(memoryview(data))  # TypeError for str, and for int, of which bytes() makes zeros
        if not data or self._fin_sent:
            return
        unsent = self.unsent
        if unsent:
            self._queue().append(data)
            self.unsent = unsent = unsent + len(data)
        else:
            self._one = data
            self.unsent = unsent = len(data)
        if not self._dirty and not self._writing:
            self._dirty = True
            self._flusher.add(self)
        if unsent > self._high_water:
            self._crowded()

    def _send_one(self, data: bytes | memoryview) -> None:
        """Send all there is: as a rule it is one answer, and the kernel takes all of it."""
        write = self._write
        try:
            count = write(self._fd, data)
        except OSError as error:
            self._send_failed(error)
            self._flushed()
            return
        self.sent += count
        self.counters.bytes_out += count
        if count == self.unsent:
            self.unsent = 0
            self._one = None
        else:
            self.unsent -= count
            self._one = memoryview(data)[count:]
            self._flushed()

    def flush(self) -> None:
        """Send what the present event wrote; what the kernel doesn't take waits for the selector."""
        self._dirty = self._asked = False
        if self._writing:
            return
        one = self._one
        if one is not None and not self._follows:
            self._send_one(one)
        else:
            self._send_out()
            if self.unsent or self._follows:
                self._flushed()

    def _flushed(self) -> None:
        if not self.connected or self._aborted:
            return
        if self.unsent or self._producer_waits():
            self._start_writing()
            if self.unsent > self._high_water:
                self._crowded()
        else:
            self._finish_if_wanted()

    def doWrite(self) -> None:  # noqa: N802
        if not self._writing:
            return  # it ended in the read event that epoll reported together with this one
        self._flusher.active = True
        self._send_out()
        if not self.unsent and self._producer_waits():
            self._producer_paused = False
            self._call("resumeProducing", self._producer.resumeProducing)
        if not self.unsent:
            self._stop_writing()
            self._finish_if_wanted()
        self._flusher.end()

    def _queue(self) -> list[bytes | memoryview]:
        """What is to be sent, in pieces."""
        if self._one is not None:
            self._out.append(self._one)
            self._one = None
        return self._out

    def _send_out(self) -> None:
        out, write = self._queue(), self._write
        while out:
            # A long rest of an earlier write goes alone: it isn't to be copied with each write that follows.
            data = out[0] if len(out) == 1 or len(out[0]) > HIGH_WATER else b"".join(out)
            try:
                count = write(self._fd, data)
            except OSError as error:
                self._send_failed(error)
                return
            self.sent += count
            self.counters.bytes_out += count
            self.unsent -= count
            if data is out[0] and len(out) > 1:
                if count == len(data):
                    del out[0]
                    continue
                out[0] = memoryview(data)[count:]
                return
            if count < len(data):
                out[:] = [memoryview(data)[count:]]
                return
            out.clear()
        self._relieve()

    def _relieve(self) -> None:
        """Nothing is owed any more."""
        if self._paused & BY_BACK_PRESSURE:
            self._resume(BY_BACK_PRESSURE)

    def give(self, data: bytes) -> None:
        """Have the protocol get what was read already, as soon as it wants it, before anything else."""
        self._rest = data
        self._give_rest()

    def _give_rest(self) -> None:
        rest = self._rest
        if rest and self.connected and (self.disconnecting or not self._paused):
            self._rest = b""
            self._flusher.active = True
            self._deliver(rest)
            self._flusher.end()
            self._update_reading()

    def _deliver(self, data: Any) -> None:
        """Give the protocol what has waited."""
        if not self.disconnecting:
            try:
                self.protocol.dataReceived(data)
            except BaseException:  # noqa: BLE001
                self._failed("dataReceived")

    # -- bounds

    def limit_read(self, count: int) -> None:
        """Read no more than `count` bytes at once: for a protocol that makes much of little."""
        self._read_size = min(count, READ - 1)  # a read of READ would have the next ones take more

    def limit_unsent(self, count: int) -> None:
        """Cut the connection (`End.SLOW`) when more than `count` bytes wait unsent."""
        self._unsent_limit = count
        self._high_water = min(HIGH_WATER, count)

    def _crowded(self) -> None:
        if not self._writing:
            if self.unsent <= self._unsent_limit and not (self._producer is not None and self._streaming):
                return  # the end of the event may get rid of it
            self._send_out()
            if self.unsent:
                self._start_writing()
        if self.unsent > self._unsent_limit:
            self.cut(End.SLOW)
        if self.unsent <= self._high_water:
            return
        self._pause(BY_BACK_PRESSURE)
        if self._producer is not None and self._streaming:
            self._pause_producer()

    def _pause_producer(self) -> None:
        if not self._producer_paused:
            self._producer_paused = True
            self._call("pauseProducing", self._producer.pauseProducing)

    def _pause(self, bit: int) -> None:
        if not self._paused & bit:
            self._paused |= bit
            self._update_reading()

    def _resume(self, bit: int) -> None:
        if self._paused & bit:
            self._paused &= ~bit
            self._update_reading()

    def _update_reading(self) -> None:
        reading = self.connected and not self._read_closed and (self.lingering or not self._paused)
        if reading and self._rest:
            self._reactor.callLater(0, self._give_rest)
            reading = False
        if reading != self._reading:
            self._reading = reading
            if reading:
                self.lane.addReader(self)
            else:
                self.lane.removeReader(self)

    @property
    def paused(self) -> bool:
        """Whether nothing is being read from a peer that may still send."""
        return not self._reading and not self._read_closed

    @property
    def held(self) -> bool:
        """Whether nothing is being read because of the protocol's service, and not of the protocol."""
        return bool(self._paused & BY_HOLD) and not self._paused & BY_PROTOCOL

    def hold(self, held: bool) -> None:
        """Read nothing while the protocol's service is down."""
        if held:
            self._pause(BY_HOLD)
        else:
            self._resume(BY_HOLD)

    # -- IPushProducer: what the protocol says of reading

    def pauseProducing(self) -> None:  # noqa: N802
        if self.connected and not self._paused & BY_PROTOCOL:
            self._flusher.waiting += 1
        self._pause(BY_PROTOCOL)

    def resumeProducing(self) -> None:  # noqa: N802
        if self.connected and self._paused & BY_PROTOCOL:
            self._flusher.waiting -= 1
        self._resume(BY_PROTOCOL)

    def stopProducing(self) -> None:  # noqa: N802
        self.loseConnection()

    # -- IConsumer: who writes to us

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: N802
        if self._producer is not None:
            raise RuntimeError(f"{producer!r} can't be registered: {self._producer!r} was never unregistered")
        if self._fin_sent or not self.connected:
            producer.stopProducing()
            return
        self._producer = producer
        self._follows = True
        self._streaming = streaming
        self._producer_paused = False
        if not streaming:
            self._start_writing()
        elif self.unsent > self._high_water:
            self._crowded()

    def unregisterProducer(self) -> None:  # noqa: N802
        self._producer = None
        self._follows = self.disconnecting or self._fin_wanted
        if self.connected and self._follows and not self.unsent:
            self._flush_soon()

    def _producer_waits(self) -> bool:
        """Whether a producer is to be asked for more once everything has gone; an end waits for it.

        It does not wait for a push producer that isn't paused, as in Twisted's own transports: nobody ever
        unregisters a transport that is its own producer, or its twin's (twisted.protocols.portforward).
        """
        waits = self._producer is not None and (self._producer_paused or not self._streaming)
        return waits and not self._fin_sent

    def _start_writing(self) -> None:
        if not self._writing:
            self._writing = True
            self._flusher.waiting += 1
            self.lane.addWriter(self)

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._flusher.waiting -= 1
            self.lane.removeWriter(self)

    # -- endings

    def writeSequence(self, data: Any) -> None:  # noqa: N802
        self.write(b"".join(data))

    def loseConnection(self) -> None:  # noqa: N802
        self.close(End.DONE)

    def close(self, end: End) -> None:
        """Send what is owed, then end the connection; the first reason given is the one that is told."""
        if self.connected and not self.disconnecting:
            self.disconnecting = self._follows = True
            self.end = self.end or end
            self._flush_soon()

    def loseWriteConnection(self) -> None:  # noqa: N802
        """Send what is owed, then a FIN; the peer may go on sending."""
        if self.connected and not self._fin_wanted:
            self._fin_wanted = self._follows = True
            self._flush_soon()

    def abortConnection(self) -> None:  # noqa: N802
        self._abort(self.end or End.DONE, Failure(ConnectionAborted()))

    def cut(self, end: End) -> None:
        """End the connection at once, dropping what is owed."""
        self._abort(end, Failure(ConnectionCutError(end)))

    def linger_expired(self) -> None:
        """The peer had its time to finish after our FIN. The kernel still delivers what we sent."""
        self._lost(Failure(ConnectionDone()))

    def _flush_soon(self) -> None:
        # Not from inside the protocol's own call: connectionLost must not come while it still writes.
        if self._dirty:
            self._asked = True
        elif not self._writing:
            self._dirty = True
            self._flusher.add(self)

    def _finish_if_wanted(self) -> None:
        if (self.disconnecting or self._fin_wanted) and not self._aborted and not self._producer_waits():
            self._finish()

    def _finish(self) -> None:
        """Everything owed has gone."""
        if not self._fin_sent:
            self._fin_sent = True
            if self._read_closed and self.disconnecting:
                self._lost(connectionDone)
                return
            try:
                self.sock.shutdown(socket.SHUT_WR)
            except OSError as error:
                self._broken(error)
                return
            if (
                self._fin_wanted
                and not self.disconnecting
                and IHalfCloseableProtocol.providedBy(self.protocol)
            ):
                self._call("writeConnectionLost", self.protocol.writeConnectionLost)
        if self._aborted:
            return
        if self._read_closed or self.end is End.IDLE:  # who said nothing for so long has nothing on its way
            self._lost(connectionDone)
        elif self.disconnecting and not self.lingering:
            self.lingering = True
            self.mark_time = self._reactor.seconds()
            self._update_reading()

    def _peer_finished(self) -> None:
        """The peer's FIN."""
        self._read_closed = True
        self._update_reading()
        if self.lingering:
            self._lost(connectionDone)
            return
        if IHalfCloseableProtocol.providedBy(self.protocol) and not self.disconnecting:
            self._flusher.active = True
            self._call("readConnectionLost", self.protocol.readConnectionLost)
            if self._fin_sent and not self._aborted:
                self._lost(connectionDone)
            self._flusher.end()
            return
        self.disconnecting = self._follows = True
        self.end = self.end or End.PEER
        self._end_after_peer()

    def _end_after_peer(self) -> None:
        """The peer has finished, and so has the protocol: what is owed goes out first."""
        if not self.unsent and not self._producer_waits():
            self._lost(connectionDone)

    def _broken(self, error: OSError) -> None:
        self._abort(self.end or End.RESET, Failure(ConnectionLost(str(error))))

    def _send_failed(self, error: OSError) -> None:
        """Nothing was taken now."""
        if not isinstance(error, (BlockingIOError, InterruptedError)):
            self._unsendable(error)

    def _unsendable(self, error: OSError) -> None:
        """Nobody takes what we write. What the peer sent before it left is still to be read."""
        if error.errno in _SHORT:
            self._breathe(errno.errorcode[error.errno])
            return
        if not (self._reading or self._rest or self._paused == BY_BACK_PRESSURE):
            self._broken(error)
            return
        self._fin_sent = True
        self._drop_unsent()
        self._stop_producer()
        self._resume(BY_BACK_PRESSURE)

    def _breathe(self, error: str) -> None:
        """The kernel is out of memory for buffers: the selector would say at once that there is room."""
        self.counters.refused[f"kernel: {error}"] += 1
        self._start_writing()
        self.lane.removeWriter(self)
        self._reactor.callLater(_BREATHER, self._breathed)

    def _breathed(self) -> None:
        if self._writing and self.connected:
            self.lane.addWriter(self)

    def peer_left(self, *, reset: bool) -> None:
        """The peer has left, though nothing is being read from it (`unread.left`)."""
        if reset:
            self._broken(ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)))
        elif not self._rest:
            self._peer_finished()

    def _abort(self, end: End, why: Failure) -> None:
        if not self.connected or self._aborted:
            return
        self.end = end
        self._aborted = True
        self.disconnecting = True
        self._fin_sent = True
        self._drop_unsent()
        self._read_closed = True
        self._update_reading()
        if self.sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        # connectionLost comes later, as the protocol may be in the middle of something
        self._reactor.callLater(0, self._lost, why)

    def connectionLost(self, reason: Failure) -> None:  # noqa: N802
        """The reactor saw the socket fail, or the other end gone in both directions."""
        self.end = self.end or (End.PEER if reason.check(ConnectionDone) else End.RESET)
        self._lost(reason)

    def _lost(self, why: Failure) -> None:
        if not self.connected:
            return
        if self._paused & BY_PROTOCOL:
            self._flusher.waiting -= 1
        self.connected = False
        self._fin_sent = True
        self.disconnected = True
        self.disconnecting = True
        if self._reading:
            self._reading = False
            self.lane.removeReader(self)
        self._drop_unsent()
        self._fd = -1  # its number is another's soon
        self._flusher.bury(self.sock)
        self._stop_producer()
        if self.protocol is not None:  # else the handshake was not done
            try:
                self.protocol.connectionLost(why)
            except BaseException:  # noqa: BLE001
                self._owner.protocol_failed("connectionLost")
        self._owner.ended(self, self.end or End.DONE)
        self.protocol = None  # which has us: nothing is left to be found by Python's search for cycles

    def _drop_unsent(self) -> None:
        self._one = None
        self._out.clear()
        self.unsent = 0
        self._stop_writing()

    def _stop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            self._call("stopProducing", producer.stopProducing)

    def _failed(self, where: str) -> None:
        """The protocol raised: that costs it this connection, nobody else anything."""
        self._owner.protocol_failed(where)
        self.cut(End.FAILED)

    def _call(self, where: str, method: Callable[[], object]) -> None:
        try:
            method()
        except BaseException:  # noqa: BLE001
            self._failed(where)

    # -- who and where

    def getPeer(self) -> Any:  # noqa: N802
        return twisted_address(self.sock.family, self.peer.sockaddr)

    def getHost(self) -> Any:  # noqa: N802
        return twisted_address(self.sock.family, self.sock.getsockname() if self.connected else None)

    def getHandle(self) -> socket.socket:  # noqa: N802
        return self.sock

    # A protocol needn't know whether it runs on TCP: a Unix socket never delays.

    def getTcpNoDelay(self) -> bool:  # noqa: N802
        local = self.sock.family == socket.AF_UNIX
        return local or bool(self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def setTcpNoDelay(self, enabled: bool) -> None:  # noqa: N802
        if self.sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, enabled)

    def getTcpKeepAlive(self) -> bool:  # noqa: N802
        return bool(self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:  # noqa: N802
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, enabled)
