"""One TLS connection: a Connection with OpenSSL between the socket and the protocol.

# Theory of operation

OpenSSL does no IO here. It reads cipher text from one memory buffer (`_bio_in`, an ssl.MemoryBIO) and writes
cipher text to another (`_bio_out`); moving bytes between those and the socket is this module's work.

**The buffers are shared.** All TLS connections of a reactor use the same two, which works because every call
of OpenSSL leaves both of them empty: what was read from the socket is written to the one and taken by OpenSSL
within the same call, a record that isn't complete waits in OpenSSL's own buffers, and what OpenSSL has to say
is fetched from the other before anybody else runs. An exception in between must empty them, too. With two for
each connection an echo of 16 KiB costs a tenth more CPU, as they are cold in the caches, and each buffer
keeps for good the most that was ever in it.

**Sending** has three stages: plain text in `_out` (or `_one`), at most one piece encrypted in `_cipher`, and
the kernel. One piece at a time, because what is encrypted can't be taken back or counted as the protocol's:
`unsent` counts plain text, and of a piece in flight those bytes that the kernel hasn't taken. What TLS itself
says (handshake, alerts, close_notify) is in `_said`, and goes before anything that is encrypted after it.

**Endings.** Each direction of TLS ends with an alert, close_notify, and then with the FIN below it.
`_goodbye` is true once ours was sent, or is useless. The peer's close_notify is to the table (`ending`) what
a FIN is to a plain connection. A FIN without it may be an attacker's, so it ends the connection as
`End.TRUNCATED`, with ConnectionLost, and a half-closeable protocol is not asked.
"""

import ssl
from contextlib import suppress

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from sockd.base.metrics import End
from sockd.limits.rates import Bucket
from sockd.transports.handshaking import Handshaking
from sockd.transports.records import HEADER_SIZE, RECORD_SIZE, USELESS_RECORDS, Portion
from sockd.transports.sending import WRITE_SIZE

# Bytes that are encrypted at a time; the kernel has them before the next piece is looked at.
PIECE_SIZE = 64 * 1024
# Stands in `_rest` for a close_notify that waits until the protocol reads on: OpenSSL's `read` reports it
# again, whatever follows. It is recognised by its identity, as a peer may send any bytes.
CLOSE_NOTIFY = b"close_notify"


class TlsConnection(Handshaking):
    """A Connection whose handshake comes first: `start` takes the function that makes the protocol after it.

    Bytes are counted as the protocol sees them, without TLS's own. `loseWriteConnection` sends close_notify
    and leaves the other direction open (RFC 8446, 6.1).
    """

    __slots__ = ()

    # -- the hot path

    def doRead(self) -> None:  # noqa: N802
        if not self._reading:
            return
        try:
            data = self._read(self._fd, self._read_size)
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
        flusher = self._flusher
        flusher.active = True
        self._dirty = True  # it is flushed below, whatever else is to be flushed
        if self.ready:
            self._receive(data)
        else:
            self._begin(data)
        self._dirty = False
        if self.unsent or self._said or self._asked:
            self.flush()
        if flusher.dirty:
            flusher.end()
        else:
            flusher.active = False

    def _deliver(self, cipher: bytes) -> None:
        """Go on with what was read: data, or still the handshake."""
        if not self.ready:
            if not self.disconnecting:
                self._begin(cipher)
        elif self._deaf:
            self.dropped += len(cipher)
        else:
            self._receive(cipher)

    def _receive(self, cipher: bytes) -> None:
        """Hand the protocol, in one piece, the data that an event may take out of this cipher text."""
        bio = self._bio_in
        why: ssl.SSLError | None = None
        useless = 0
        size = len(cipher)
        try:
            if self._begun or size <= HEADER_SIZE or cipher[3] << 8 | cipher[4] != size - HEADER_SIZE:
                portion = Portion(self._tls, bio, cipher, self._begun)
                data, why, useless = portion.data, portion.why, portion.useless
                self._begun, self._rest = portion.begun, portion.rest
                if self._rest and self._reading:
                    self._update_reading()
            else:  # it is one record, as most are
                bio.write(cipher)
                data = self._tls.read(RECORD_SIZE)
                if not data:
                    why = ssl.SSLZeroReturnError()
        except BaseException as error:
            bio.read()
            if not isinstance(error, ssl.SSLError):
                self._bio_out.read()
                raise
            data, why = b"", error
            useless = int(isinstance(error, ssl.SSLWantReadError))
        if self._bio_out.pending:
            self._hear(self._bio_out.read())
        if why is not None and not isinstance(why, (ssl.SSLWantReadError, ssl.SSLZeroReturnError)):
            if self.lingering:
                self.dropped += max(0, len(cipher) - len(data))
            else:
                self._goodbye = True  # OpenSSL takes nothing more, but the protocol gets what came before
        if data and self.disconnecting and not self._only_receives:
            self.dropped += len(data)
        elif data:
            size = len(data)
            self.received += size
            self._sent_before = self.sent
            self.counters.bytes_in += size
            try:
                self.protocol.dataReceived(data)
            except BaseException:  # noqa: BLE001
                self._failed("dataReceived")
        if why is not None:
            self._stopped(why)
        if useless:
            self._bear(useless)

    def _bear(self, count: int) -> None:
        """Put up with records that held nothing for the protocol, as long as they are few."""
        now = self._reactor.seconds()
        if self._allowance is None:
            self._allowance = Bucket(USELESS_RECORDS, now)
        if self._allowance.take_many(count, now) == count:
            return
        if self.disconnecting:
            self._deaf = True  # the connection has its reason to end already
        elif self.connected:
            self._refuse("too many records without data")

    def _came_late(self, data: bytes) -> None:
        if self.ready:
            self._flusher.active = True
            self._deliver(data)
            self._flusher.end()

    def _stopped(self, why: ssl.SSLError) -> None:
        """Act on what ended the data: nothing more for now, a close_notify, or an error."""
        if isinstance(why, ssl.SSLWantReadError):
            return
        if self.lingering and not isinstance(why, ssl.SSLZeroReturnError):
            self._deaf = True  # the connection has its reason to end already
        elif not isinstance(why, ssl.SSLZeroReturnError):
            self._tls_failed(why)
        elif self._paused and not self.disconnecting:
            self._rest = CLOSE_NOTIFY  # the protocol still has to handle what came before
        elif self._reads:
            super()._peer_finished()

    def peer_left(self, *, reset: bool) -> None:
        if self._rest is CLOSE_NOTIFY and not reset:
            self._rest = b""
            super()._peer_finished()
        else:
            super().peer_left(reset=reset)

    def flush(self) -> None:
        self._dirty = self._asked = False
        if self._writing or not self._alive:
            self._event_grants = False
            return
        data = self._one
        if data is not None and self.ready and not (self._said or self._goodbye) and len(data) <= PIECE_SIZE:
            # As a rule there is one answer, and the kernel takes all of it.
            self._one = None
            size = self._in_flight = len(data)
            try:
                self._tls.write(data)
            finally:
                cipher = self._bio_out.read()
            try:
                count = self._write(self._fd, cipher)
            except OSError as error:
                self._cipher, self._ours = cipher, False
                self._send_failed(error)
            else:
                if count == len(cipher):
                    self.sent += size
                    self.counters.bytes_out += size
                    self.unsent = 0
                    self._relieve()
                else:
                    self._ours = False
                    self._taken(cipher, count)
        else:
            self._send_out()
        if self.unsent or self._follows:
            self._flushed()

    def _send_out(self) -> None:
        self._queue()
        until = self.sent + WRITE_SIZE // 2  # encrypting takes as long again
        while cipher := self._cipher or self._encrypt():
            try:
                count = self._write(self._fd, cipher)
            except OSError as error:
                self._send_failed(error)
                return
            self._taken(cipher, count)
            if self._cipher or (self.sent > until and self.unsent):
                return
        self._relieve()

    def _taken(self, cipher: bytes | memoryview, count: int) -> None:
        """Count what the kernel has taken of `_cipher`, within a piece too: the sweep looks for progress."""
        done = self._in_flight
        if count < len(cipher):
            done = min(count, done - 1)  # the last byte counts as unsent until the whole piece has gone
            self._cipher = memoryview(cipher)[count:]
        else:
            self._cipher = b""
        self._in_flight -= done
        self.unsent -= done
        if not self._ours:
            self.sent += done
            self.counters.bytes_out += done

    def _encrypt(self) -> bytes | memoryview:
        """Encrypt the next piece to be sent; b"" when there is nothing."""
        out = self._out
        if out and self._goodbye:  # nothing can follow a close_notify
            self.unsent -= sum(map(len, out))
            out.clear()
        if out and self.ready:
            data, count = self._next()
            del out[:count]
            if len(data) > PIECE_SIZE:
                view = memoryview(data)
                data = view[:PIECE_SIZE]
                out.insert(0, view[PIECE_SIZE:])
            self._in_flight = len(data)
            self._ours = False
            try:
                self._tls.write(data)
            finally:
                self._cipher = self._said + self._bio_out.read()
        elif self._said:
            self._ours = True
            self._cipher = self._said
            self._in_flight = len(self._said)
            self.unsent += self._in_flight
        self._said = b""
        return self._cipher

    def _drop_unsent(self) -> None:
        self._cipher = b""
        self._said = b""
        self._in_flight = 0
        super()._drop_unsent()

    # -- endings

    def _say_goodbye(self) -> None:
        """Have close_notify sent next."""
        self._goodbye = True
        try:
            with suppress(ssl.SSLError):  # it waits for the peer's, which may come or not
                self._tls.unwrap()
        finally:
            self._said += self._bio_out.read()

    def _finish(self) -> None:
        if not self._goodbye:
            self._say_goodbye()
            said, self._said = self._said, b""
            self._write(self._fd, said)
        super()._finish()

    def _all_sent(self) -> None:
        if not self._goodbye:
            self._say_goodbye()
            self._send_out()
            if self.unsent:
                self._start_writing()
                return
        super()._all_sent()

    def _end_after_peer(self) -> None:
        # Our close_notify is still to be sent.
        self._flush_soon()

    def _peer_finished(self) -> None:
        """The peer's FIN without a close_notify: what came may not be all that the peer has sent."""
        if not self.ready:
            self._goodbye = True
            self.end = self.end or End.HANDSHAKE
            self._lost(Failure(ConnectionLost("the peer closed in the handshake")))
            return
        self._end_with_peer(End.TRUNCATED)

    def _count_unread(self) -> None:
        if self._rest is CLOSE_NOTIFY:
            self._rest = b""
        super()._count_unread()

    def _lost(self, why: Failure) -> None:
        if self.end is End.TRUNCATED and why.check(ConnectionDone):
            why = Failure(ConnectionLost("the peer closed without a close_notify"))
        super()._lost(why)
