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
from sockd.transports.turn import READ, Turn

# So much is encrypted at a time; it is in the kernel's hands before the next piece is looked at.
PIECE = 64 * 1024


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
        "_kept",
        "_kept_end",
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
        self._build: Callable[[], Any] | None = None
        self._cipher: memoryview | None = None  # encrypted, and not taken by the kernel yet
        self._in_flight = 0  # bytes of the protocol's that are in it
        self._ours = False  # it is TLS's own: handshake, alert
        self._goodbye = False  # close_notify was sent, or there is nobody to send it to
        self._kept: list[bytes] = []  # came in one read with what had the protocol pause
        self._kept_end = False  # and then the peer's close_notify
        self._preamble: Callable[[bytes], bytes | None] | None = None
        self.ready = False
        self.why = ""  # what the peer did wrong, in OpenSSL's words

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
        if not self._reading or self._kept:
            return  # `_give_kept` comes first
        turn = self._turn
        try:
            count = self._recv_into(turn.buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._broken(error)
            return
        if not count:
            self._truncated()
            return
        if self.disconnecting:
            return
        turn.active = True
        if self._preamble is None:
            self._bio_in.write(turn.view[:count])
        else:
            rest = self._preamble(bytes(turn.view[:count]))
            if rest is not None:
                self._preamble = None
                self._bio_in.write(rest)
        if self.ready or self._shake():
            self._deliver(turn)
        if self._bio_out.pending and self.connected:
            if self._bio_out.pending > HIGH_WATER:  # alerts that nobody takes, for what is refused each time
                self._pause(BY_BACK_PRESSURE)
            self._send_soon()
        turn.end()

    def _shake(self) -> bool:
        """Whether the handshake is done, and there is a protocol."""
        try:
            with _contained():
                self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            self._tls_failed(error)
            return False
        self.ready = True
        self.begun = self.mark_time = self._reactor.seconds()
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

    def _deliver(self, turn: Turn) -> None:
        """Give the protocol all that the bytes so far hold, in one piece, or in two of the longest."""
        read: Any = self._tls.read  # into a buffer it gives a count, which typeshed doesn't know
        view = turn.view
        while True:
            count, got = 0, 1
            failed: ssl.SSLError | None = None
            while count < READ:
                try:
                    got = read(READ - count, view[count:])
                except ssl.SSLWantReadError:
                    break
                except ssl.SSLZeroReturnError:  # the same, where we have sent ours
                    got = 0
                    break
                except ssl.SSLError as error:
                    failed = error
                    break
                if not got:  # the peer's close_notify
                    break
                count += got
                if not self._bio_in.pending and not self._tls.pending():
                    break
            if count and not self.disconnecting:
                if self._paused:
                    self._kept.append(bytes(view[:count]))
                else:
                    self._give(bytes(view[:count]))
            if count < READ:
                break
        if failed is not None:
            self._tls_failed(failed)
        elif not got and self._kept:
            self._kept_end = True
        elif not got and self.connected and not self._read_closed:
            self._peer_finished()

    def _give(self, data: bytes) -> None:
        self.received += len(data)
        self.counters.bytes_in += len(data)
        try:
            self.protocol.dataReceived(data)
        except BaseException:  # noqa: BLE001
            self._failed("dataReceived")

    def _update_reading(self) -> None:
        super()._update_reading()
        if self._kept and self._reading:
            self._reactor.callLater(0, self._give_kept)

    def _give_kept(self) -> None:
        """What the protocol had no wish to get when it came."""
        if not self._reading:
            return
        self._turn.active = True
        while self._kept and (self.disconnecting or not self._paused):
            data = self._kept.pop(0)
            if not self.disconnecting:
                self._give(data)
        if self._kept_end and not self._kept and self.connected and not self._read_closed:
            self._kept_end = False
            self._peer_finished()
        self._turn.end()

    def _send_out(self) -> None:
        while True:
            if self._cipher is None and not self._encrypt():
                break
            assert self._cipher is not None  # noqa: S101
            try:
                count = self._send(self._cipher)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._unsendable(error)
                return
            left = len(self._cipher) - count
            # A slow peer's progress is to be seen within a piece.
            done = min(count, self._in_flight) if left else self._in_flight
            self._in_flight -= done
            self.owed -= done
            if not self._ours:
                self.sent += done
                self.counters.bytes_out += done
            self._cipher = self._cipher[count:] if left else None
            if left:
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
            rest = memoryview(data)[PIECE:]
            if data is out[0] and len(out) > 1:
                del out[0]
            else:
                out.clear()
            if rest:
                out.insert(0, rest)
                data = memoryview(data)[:PIECE]
            self._in_flight = len(data)
            self._tls.write(data)
            self._ours = False
        elif self._bio_out.pending:
            self._ours = True
            self._in_flight = self._bio_out.pending
            self.owed += self._in_flight
        else:
            return False
        self._cipher = memoryview(self._bio_out.read())
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
        self._finish_soon()

    def _truncated(self) -> None:
        """A FIN without a close_notify before it: what came may not be all that was sent."""
        if not self.ready:
            self._goodbye = True
            self.end = self.end or End.HANDSHAKE
            self._lost(Failure(ConnectionLost("the peer closed in the handshake")))
            return
        if not self.disconnecting:
            self.disconnecting = True
            self.end = End.TRUNCATED
        self._peer_finished()

    def peer_left(self, *, reset: bool) -> None:
        if reset:
            super().peer_left(reset=True)
        elif not self._kept:
            self._truncated()  # its close_notify would be there to be read

    def _tls_failed(self, error: ssl.SSLError) -> None:
        """The peer broke the rules: it gets the alert that says so, then the end."""
        self.why = (error.reason or "unknown").lower().replace("_", " ")
        if isinstance(error, ssl.SSLCertVerificationError):
            self.why += f": {error.verify_message}"
        self.counters.refused[f"TLS: {self.why}"] += 1
        self._drop_unsent()
        self._goodbye = True
        self.close(End.TLS if self.ready else End.HANDSHAKE)
        self._send_soon()

    def _lost(self, why: Failure) -> None:
        if self.end is End.TRUNCATED and why.check(ConnectionDone):
            why = Failure(ConnectionLost("the peer closed without saying so"))
        super()._lost(why)

    def _send_soon(self) -> None:
        self._finish_soon()


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
