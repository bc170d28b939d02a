"""What a protocol writes, until the kernel has it: one answer or a queue, its bounds, and producers.

`write` only notes the bytes and has the flusher come back at the end of the event, so that an answer in ten
pieces is one system call. `flush` hands them to the kernel. What the kernel doesn't take waits until the lane
says that there is room (`doWrite`); until then nothing is flushed. Once everything has gone, a producer is
asked for more, or the state's end follows (`_all_sent`).

`_one` is the short cut for what most events write: a single answer. With more than that there is `_out`, and
never both.

Bounds hold while a peer doesn't read. Above the high-water mark the peer is no longer read from and a push
producer is paused. Above the protocol's own bound (`limit_unsent`) the connection is aborted as too slow a
reader. The endpoint's bound (`limits.unsent`) is one of progress: what a single event writes is in memory
already, so that it may go beyond the bound by any size, and is sent as long as the peer takes it. Until it is
below the bound again, later events may write no more than the peer has taken since (`_granted`), and the
sweep asks for `least_progress`.
"""

from collections.abc import Iterable
from contextlib import suppress

from sockd.base.metrics import End
from sockd.transports.ending import FACTS
from sockd.transports.fields import HIGH_WATER
from sockd.transports.reading import BY_BACK_PRESSURE, Reading
from sockd.transports.twisted import TwistedProducer, TwistedProtocol

# Bytes that one call hands to the kernel at most, and after which others have their turn: a peer that reads
# as fast as we write would otherwise have the reactor for the whole of a long answer.
WRITE_SIZE = 512 * 1024
# Seconds that the kernel has to find memory for buffers.
KERNEL_PAUSE = 0.1


class Sending(Reading):
    """The part of a connection that takes what the protocol writes."""

    __slots__ = ()

    def write(self, data: bytes) -> None:
        if type(data) is not bytes:
            data = bytes(memoryview(data))  # TypeError for str, and for int, of which bytes() makes zeros
        if not data or not self._sends:
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

    def writeSequence(self, data: Iterable[bytes]) -> None:  # noqa: N802
        self.write(b"".join(data))

    def _flush_soon(self) -> None:
        """Flush though nothing was written, never inside the protocol's own call.

        `connectionLost` must not come while the protocol still writes.
        """
        if self._dirty:
            self._asked = True
        elif not self._writing:
            self._dirty = True
            self._flusher.add(self)

    def _send_one(self, data: bytes | memoryview) -> None:
        """Send everything, where it is one answer; as a rule the kernel takes all of it."""
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
        """Send what this event wrote; what the kernel doesn't take waits until it has room."""
        self._dirty = self._asked = False
        if self._writing:
            self._event_grants = False
            return
        one = self._one
        if one is not None and not self._follows:
            self._send_one(one)
        else:
            self._send_out()
            if self.unsent or self._follows:
                self._flushed()

    def _flushed(self) -> None:
        if self.unsent or self._producer_waits():
            self._start_writing()
            if self.unsent > self._high_water:
                self._crowded()
        else:
            self._finish_if_wanted()

    def _send_failed(self, error: OSError) -> None:
        if not isinstance(error, (BlockingIOError, InterruptedError)):
            self._unsendable(error)

    def _breathe(self, error: str) -> None:
        """The kernel is out of memory for buffers: the lane would say immediately that there is room."""
        self.counters.refused[f"kernel: {error}"] += 1
        self._start_writing()
        self.lane.removeWriter(self)
        self._reactor.callLater(KERNEL_PAUSE, self._breathed)

    def _breathed(self) -> None:
        if self._writing and self.connected:
            self.lane.addWriter(self)

    def doWrite(self) -> None:  # noqa: N802
        if not self._writing:
            return  # the read that epoll reported with this event has ended the writing
        self._flusher.active = True
        self._send_out()
        if self._granted and self.unsent <= self._unsent_limit:
            self._granted = 0
        if not self.unsent and self._producer_waits():
            self._producer_paused = False
            self._call(self._producer, "resumeProducing")
        if not self.unsent:
            self._stop_writing()
            self._finish_if_wanted()
        self._flusher.end()

    def _finish_if_wanted(self) -> None:
        if FACTS[self.state].follows and not self._producer_waits():
            self._all_sent()

    def _queue(self) -> list[bytes | memoryview]:
        """Everything that is to be sent, in pieces."""
        if self._one is not None:
            self._out.append(self._one)
            self._one = None
        return self._out

    def _send_out(self) -> None:
        out, write, sent = self._queue(), self._write, 0
        while out:
            data, count = self._next()
            if len(data) > WRITE_SIZE:
                data, count = memoryview(data)[:WRITE_SIZE], 0
            try:
                taken = write(self._fd, data)
            except OSError as error:
                self._send_failed(error)
                return
            sent += taken
            self.sent += taken
            self.counters.bytes_out += taken
            self.unsent -= taken
            if not count:
                out[0] = memoryview(out[0])[taken:]
            elif taken < len(data):
                out[:count] = [memoryview(data)[taken:]]
            elif count == len(out):
                out.clear()
            else:
                del out[:count]
            if taken < len(data) or (sent > WRITE_SIZE and out):
                return  # the kernel has no room, or others have waited for long enough
        self._relieve()

    def _next(self) -> tuple[bytes | memoryview, int]:
        """What is to be sent next, and how many pieces of the queue that is: short ones are joined."""
        out = self._out
        first = out[0]
        if len(out) == 1 or len(first) > HIGH_WATER:
            return first, 1  # a long one alone, lest it be copied with each write that follows
        if self.unsent <= WRITE_SIZE:
            return b"".join(out), len(out)
        size = count = 0
        for piece in out:
            size += len(piece)
            if size > WRITE_SIZE and count:
                break
            count += 1
        return b"".join(out[:count]), count

    def _relieve(self) -> None:
        """Everything has gone: the peer reads again."""
        if self._paused & BY_BACK_PRESSURE:
            self._resume(BY_BACK_PRESSURE)

    def _drop_unsent(self) -> None:
        self._one = None
        self._out.clear()
        self.unsent = 0
        self._stop_writing()

    def _start_writing(self) -> None:
        if not self._writing:
            self._writing = True
            self._flusher.waiting += 1
            self.lane.addWriter(self)

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._flusher.waiting -= 1
            with suppress(OSError):  # as in `_update_reading`
                self.lane.removeWriter(self)

    # -- bounds

    def limit_unsent(self, count: int) -> None:
        """Abort the connection (`End.SLOW`) when more than `count` bytes wait unsent."""
        self._own_limit = count
        self._update_high_water()

    def bound_unsent(self, count: int) -> None:
        """The endpoint's `limits.unsent`, which only progress may exceed."""
        self._unsent_limit = count
        self._update_high_water()

    def _update_high_water(self) -> None:
        self._high_water = min(HIGH_WATER, self._own_limit, self._unsent_limit)

    @property
    def least_progress(self) -> int:
        """Bytes that the peer has to take for the sweep to see that it takes any."""
        return HIGH_WATER if self._granted else 1

    def _crowded(self) -> None:
        if not self._writing:
            limit = min(self._own_limit, self._unsent_limit)
            if self.unsent <= limit and not (self._producer is not None and self._streaming):
                return  # the kernel may take it at the end of the event
            self._send_out()
            if self.unsent:
                self._start_writing()
        if self.unsent > self._unsent_limit:
            self._exceed()
        if self.unsent > self._own_limit:
            self.cut(End.SLOW)
        if self.unsent <= self._high_water:
            return
        self._pause(BY_BACK_PRESSURE)
        if self._producer is not None and self._streaming:
            self._pause_producer()

    def _exceed(self) -> None:
        """More is unsent than the endpoint's bound: this event may go on with that, later ones may not."""
        if not self._granted:
            self._event_grants = True
            if not self._dirty:
                self._dirty = True  # `flush` comes at the end of the event
                self._flusher.add(self)
        if self._event_grants:
            self._granted = max(self._granted, self.unsent)
        elif self.unsent > self._granted:
            self.cut(End.SLOW)

    # -- producers: IConsumer

    def registerProducer(self, producer: TwistedProducer, streaming: bool) -> None:  # noqa: N802
        if self._producer is not None:
            raise RuntimeError(f"{producer!r} can't be registered: {self._producer!r} was never unregistered")
        if not self._sends:
            self._call(producer, "stopProducing")
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
        self._forget_producer()
        if self._follows and not self.unsent:
            self._flush_soon()

    def _forget_producer(self) -> None:
        self._producer = None
        self._follows = FACTS[self.state].follows

    def _stop_producer(self) -> None:
        producer = self._producer
        if producer is not None:
            self._forget_producer()
            self._call(producer, "stopProducing")

    def _producer_waits(self) -> bool:
        """Whether a producer is to be asked for more once everything has gone; an end waits for it.

        It does not wait for a push producer that isn't paused, as in Twisted's own transports: a transport
        that is its own producer, or its twin's, is never unregistered (twisted.protocols.portforward).
        """
        waits = self._producer is not None and (self._producer_paused or not self._streaming)
        return waits and self._sends

    def _pause_producer(self) -> None:
        if not self._producer_paused:
            self._producer_paused = True
            self._call(self._producer, "pauseProducing")

    def _call(self, hosted: TwistedProducer | TwistedProtocol, method: str) -> None:
        """Call a method of the protocol's or its producer's, which may be missing or raise."""
        try:
            getattr(hosted, method)()
        except BaseException:  # noqa: BLE001
            self._failed(method)
