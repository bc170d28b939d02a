"""One TLS connection as its protocol sees it: the hot path with ssl.MemoryBIO between socket and protocol."""

import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from sockd.metrics import Counters, End
from sockd.peers import Peer
from sockd.transports.stream import BY_BACK_PRESSURE, HIGH_WATER, Owner, Server
from sockd.transports.turn import Turn

# So much is encrypted at a time; it is in the kernel's hands before the next piece is looked at.
PIECE = 64 * 1024
# A record holds at most this much (RFC 8446, 5.1): who reads so much leaves nothing of it behind.
RECORD = 16 * 1024
# OpenSSL gets what was read in pieces, as its buffers never shrink: with 128 KiB at once a connection that
# ever echoed as much kept 257 KiB. Smaller reads would cost a tenth more CPU in bulk.
FEED = 32 * 1024
# After so many records others have their turn: 128 KiB of records with a byte each took 5 ms in one event.
MANY = 512


class TlsServer(Server):
    """Beyond a Server: the handshake comes first, `start` takes what makes the protocol after it.

    Bytes are counted as the protocol sees them. `loseWriteConnection` sends close_notify and leaves the
    other direction open (RFC 8446, 6.1). A FIN without the peer's close_notify is told: `End.TRUNCATED`.
    """

    __slots__ = (
        "_bio_in",
        "_bio_out",
        "_build",
        "_cipher",
        "_goodbye",
        "_in_flight",
        "_named",
        "_ours",
        "_preamble",
        "_tls",
        "why",
    )

    def __init__(
        self,
        sock: socket.socket,
        peer: Peer,
        turn: Turn,
        owner: Owner,
        listener: str,
        counters: Counters,
        context: ssl.SSLContext,
    ) -> None:
        super().__init__(sock, peer, turn, owner, listener, counters)
        self._bio_in = ssl.MemoryBIO()
        self._bio_out = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._bio_in, self._bio_out, server_side=True)
        self._named = context.sni_callback is not None
        self._build: Callable[[], Any] | None = None
        self._cipher: bytes | memoryview | None = None  # encrypted, and not taken by the kernel yet
        self._in_flight = 0  # bytes of the protocol's that are in it
        self._ours = False  # it is TLS's own: handshake, alert
        self._goodbye = False  # close_notify was sent, or there is nobody to send it to
        self._preamble: Callable[[bytes], bytes | None] | None = None
        self.ready = False
        self.why = ""  # what the peer did wrong, in OpenSSL's words

    @property
    def paused(self) -> bool:
        """As for others; but who doesn't take our part of the handshake gets no more time for it by that."""
        return super().paused and (self.ready or self._paused != BY_BACK_PRESSURE)

    movable = False  # a TLS session can't go on in another program
    secure = True

    @property
    def session(self) -> ssl.SSLObject:
        """For what was agreed on: version, cipher, the peer's certificate, the server's name asked for."""
        return self._tls

    def start(self, build: Callable[[], Any]) -> None:
        """Begin the handshake. `build()` makes the protocol once it is done, or ends the connection."""
        self._build = build
        self._update_reading()

    def begin_with(self, preamble: Callable[[bytes], bytes | None]) -> None:
        """Before the handshake `preamble` gets what comes, until it gives what of it is TLS's."""
        self._preamble = preamble

    # -- the hot path

    def doRead(self) -> None:  # noqa: N802
        if not self._reading:
            return
        turn = self._turn
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
            return
        turn.active = True
        if self.ready:
            self._deliver(data)
        else:
            self._begin(data)
        if self._rest:
            self._update_reading()
        dirty = turn.dirty
        if len(dirty) == 1 and dirty[0] is self:  # as a rule
            dirty.clear()
            self.flush()
        if dirty:
            turn.end()
        else:
            turn.active = False

    def _answer(self) -> None:
        """TLS itself may have something to say."""
        if self._bio_out.pending and self.connected:
            if self._bio_out.pending > HIGH_WATER:  # alerts that nobody takes, for what is refused each time
                self._pause(BY_BACK_PRESSURE)
            self._flush_soon()

    def _begin(self, data: bytes) -> None:
        """What comes before the protocol, and perhaps its first bytes after it."""
        if self._preamble is not None:
            rest = self._preamble(data)
            if rest is None:
                return
            self._preamble, data = None, rest
        self._bio_in.write(data)
        if self._shake():
            if self._paused:
                self._rest = self._bio_in.read()  # our close_notify would have OpenSSL drop what is in there
            else:
                self._deliver(b"")
        self._answer()

    def _shake(self) -> bool:
        """Whether the handshake is done, and there is a protocol."""
        try:
            if self._named:
                with _contained():
                    self._tls.do_handshake()
            else:
                self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            self._tls_failed(error)
            return False
        self.begins()
        assert self._build is not None  # noqa: S101
        build, self._build = self._build, None
        protocol = build()
        if protocol is None:
            return False  # it has ended the connection
        self.protocol = protocol
        try:
            protocol.makeConnection(self)
        except BaseException:  # noqa: BLE001
            self._failed("connectionMade")
        return not self._aborted

    def _deliver(self, cipher: bytes | memoryview) -> None:
        """Give the protocol in one piece all that the bytes so far hold: a read's, and one record at most."""
        read, bio = self._tls.read, self._bio_in
        pieces: list[bytes] = []
        ended = False
        failed: ssl.SSLError | None = None
        while True:
            more = len(cipher) > FEED
            bio.write(memoryview(cipher)[:FEED] if more else cipher)
            try:
                while True:
                    piece = read(RECORD)
                    if not piece:  # the peer's close_notify
                        ended = True
                        break
                    pieces.append(piece)
                    if not bio.pending:  # to be told so by an exception takes longer than all the rest
                        break
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLZeroReturnError:  # the peer's close_notify, where we have sent ours
                ended = True
            except ssl.SSLError as error:
                failed = error
            if not more or ended or failed is not None:
                break
            cipher = memoryview(cipher)[FEED:]
            if len(pieces) > MANY:
                self._rest = bytes(cipher)
                break
        if pieces and not self.disconnecting:
            self._give(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if failed is not None:
            self._tls_failed(failed)
        elif ended and self.connected and not self._read_closed:
            super()._peer_finished()
        self._answer()

    def _give(self, data: bytes) -> None:
        self.received += len(data)
        self.counters.bytes_in += len(data)
        try:
            self.protocol.dataReceived(data)
        except BaseException:  # noqa: BLE001
            self._failed("dataReceived")

    def flush(self) -> None:
        self._dirty = False
        if self.connected and not self._writing and not self._aborted:
            self._send_out()
            self._flushed()

    def _send_out(self) -> None:
        self._queue()
        while self._cipher is not None or ((self._out or self._bio_out.pending) and self._encrypt()):
            cipher = self._cipher
            assert cipher is not None  # noqa: S101
            try:
                count = self._write(self._fd, cipher)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._unsendable(error)
                return
            done = self._in_flight
            if count < len(cipher):  # a slow peer's progress is to be seen within a piece
                done = min(count, done)
                self._cipher = memoryview(cipher)[count:]
            else:
                self._cipher = None
            self._in_flight -= done
            self.owed -= done
            if not self._ours:
                self.sent += done
                self.counters.bytes_out += done
            if self._cipher is not None:
                return
        self._relieve()

    def _encrypt(self) -> bool:
        """Have the next piece ready to be sent; False when there is nothing."""
        out = self._out
        if out and self._goodbye:  # nothing can follow it
            self.owed -= sum(map(len, out))
            out.clear()
        if out and self.ready:
            data = out[0] if len(out) == 1 or len(out[0]) > PIECE else b"".join(out)
            if data is out[0] and len(out) > 1:
                del out[0]
            else:
                out.clear()
            if len(data) > PIECE:
                view = memoryview(data)
                data = view[:PIECE]
                out.insert(0, view[PIECE:])
            self._in_flight = len(data)
            self._tls.write(data)
            self._ours = False
        elif self._bio_out.pending:
            self._ours = True
            self._in_flight = self._bio_out.pending
            self.owed += self._in_flight
        else:
            return False
        self._cipher = self._bio_out.read()
        return True

    def _drop_unsent(self) -> None:
        self._cipher = None
        self._in_flight = 0
        super()._drop_unsent()

    # -- endings

    def _finish(self) -> None:
        if not self._goodbye:
            self._goodbye = True
            with suppress(ssl.SSLError):  # it waits for the peer's, which may come or not
                self._tls.unwrap()
            self._send_out()
            if self.owed:
                self._start_writing()
                return
        if self.connected:
            super()._finish()

    def _end_after_peer(self) -> None:
        # Our close_notify is still to be sent.
        self._flush_soon()

    def _peer_finished(self) -> None:
        """A FIN without a close_notify before it: what came may not be all that was sent."""
        if not self.ready:
            self._goodbye = True
            self.end = self.end or End.HANDSHAKE
            self._lost(Failure(ConnectionLost("the peer closed in the handshake")))
            return
        if not self.disconnecting:
            self.disconnecting = True
            self.end = End.TRUNCATED
        super()._peer_finished()

    def _tls_failed(self, error: ssl.SSLError) -> None:
        """The peer broke the rules: it gets the alert that says so, then the end."""
        self.why = (error.reason or "unknown").lower().replace("_", " ")
        if isinstance(error, ssl.SSLCertVerificationError):
            self.why += f": {error.verify_message}"
        self.counters.refused[f"TLS: {self.why}"] += 1
        self._drop_unsent()
        self._goodbye = True
        self.close(End.TLS if self.ready else End.HANDSHAKE)
        self._flush_soon()

    def _lost(self, why: Failure) -> None:
        if self.end is End.TRUNCATED and why.check(ConnectionDone):
            why = Failure(ConnectionLost("the peer closed without saying so"))
        super()._lost(why)
        self._build = self._preamble = None  # they have us


@contextmanager
def _contained() -> Iterator[None]:
    """Of a name that isn't ASCII Python would show a traceback, too; that the handshake fails is enough."""
    shown = sys.unraisablehook

    def show(unraisable: "sys.UnraisableHookArgs") -> None:
        if not isinstance(unraisable.exc_value, UnicodeDecodeError):
            shown(unraisable)

    sys.unraisablehook = show
    try:
        yield
    finally:
        sys.unraisablehook = shown
