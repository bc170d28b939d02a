"""The handshake of a TLS connection: what comes before it, how it goes on, and why one is refused.

Its bytes are looked at first (`inspection`), then OpenSSL has them (`handshake.step`), and once it is done
the protocol is made. What handshakes hold in memory is bounded, for each and for all of them together
(`handshake_memory`); their time is limited by the sweep.
"""

import socket
import ssl
from collections.abc import Callable
from time import perf_counter

from twisted.internet.interfaces import IHandshakeListener, INegotiated, ISSLTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from sockd.base.metrics import End
from sockd.base.peers import Peer
from sockd.transports.costly import SMALL_FLIGHT
from sockd.transports.fields import HIGH_WATER, Owner
from sockd.transports.flush import Flusher
from sockd.transports.handshake import HANDSHAKE_FAILURE, explanation, step, words
from sockd.transports.inspection import HandshakeRefusedError
from sockd.transports.listening import Listening
from sockd.transports.openssl import hush
from sockd.transports.reading import BY_BACK_PRESSURE
from sockd.transports.session import TlsSession
from sockd.transports.tls_fields import TlsFields
from sockd.transports.twisted import TwistedProtocol


@implementer(ISSLTransport, INegotiated)
class Handshaking(TlsSession, TlsFields):
    """The part of a TLS connection that knows OpenSSL, until the handshake is done."""

    __slots__ = ()

    movable = False  # a TLS session can't go on in another program
    secure = True

    def __init__(
        self,
        sock: socket.socket,
        peer: Peer,
        flusher: Flusher,
        owner: Owner,
        listener: Listening,
        context: ssl.SSLContext,
    ) -> None:
        super().__init__(sock, peer, flusher, owner, listener)
        self._prepare(context)

    @property
    def paused(self) -> bool:
        """As of any connection; but a peer that doesn't take our part of the handshake gains no time."""
        return super().paused and (self.ready or self._paused != BY_BACK_PRESSURE)

    @property
    def session(self) -> ssl.SSLObject:
        """What was agreed on: version, cipher, the peer's certificate, the server name that it asked for."""
        return self._tls

    def start(self, build: Callable[[], TwistedProtocol | None]) -> None:
        """Begin the handshake. `build()` makes the protocol once it is done, or ends the connection."""
        self._build = build
        self._update_reading()

    def begin_with(self, preamble: Callable[[bytes], bytes | None]) -> None:
        """Pass what comes to `preamble` until it returns, in place of None, the bytes that are TLS's."""
        self._preamble = preamble

    def _begin(self, data: bytes) -> None:
        """Take the PROXY header and the handshake, and perhaps the first bytes of data after them."""
        if self._preamble is not None:
            rest = self._preamble(data)
            if rest is None:
                return
            self._preamble, data = None, rest
        inspection = self._inspection
        assert inspection is not None  # noqa: S101 - until the handshake is done
        try:
            data = inspection.pass_on(data)
        except HandshakeRefusedError as error:
            self._refuse(str(error), HANDSHAKE_FAILURE if error.honest else b"")
            return
        if inspection.hidden > SMALL_FLIGHT and self._costly.bars(self.peer, self._reactor.seconds()):
            self._refuse("certificates of its source were refused that took long to read")
            return
        bio, done, began = self._bio_in, False, perf_counter()
        bio.write(data)
        try:
            done = bool(data) and step(self._tls, named=self._named)
        except ssl.SSLError as error:
            self._costly.failed(self.peer, perf_counter() - began, self._reactor.seconds())
            self._tls_failed(error)
        finally:
            early = bio.read() + inspection.excess
            if said := self._bio_out.read():
                inspection.answered(said)
                self._hear(said)
        if not done:
            if self.connected and inspection.excess:
                self._refuse(inspection.limit)
            elif self.connected:
                self._handshakes.hold(self, inspection.memory)
        elif self._shaken() and early:
            self.give(early)

    def give_way(self) -> None:
        """End the handshake: others need the memory."""
        self._refuse("the handshakes of all peers hold too much memory")

    def _shaken(self) -> bool:
        """Make the protocol after the handshake; whether there is one, and its connection goes on."""
        self._over()
        if self._asks:
            hush(self._tls)
        self._read_size = self._read_size_after
        self.begins()
        assert self._build is not None  # noqa: S101
        build, self._build = self._build, None
        protocol = build()
        if protocol is None:
            return False  # it has ended the connection
        self._introduce(protocol)
        try:
            if self._alive and IHandshakeListener.providedBy(protocol):
                protocol.handshakeCompleted()
        except BaseException:  # noqa: BLE001
            self._failed("handshakeCompleted")
        return self._alive

    def _introduce(self, protocol: TwistedProtocol) -> None:
        """Hand the connection to the protocol that was made for it."""
        self.protocol = protocol
        try:
            protocol.makeConnection(self)
        except BaseException:  # noqa: BLE001
            self._failed("connectionMade")

    def _over(self) -> None:
        if self._inspection is not None:
            self._inspection = None
            self._handshakes.hold(self, 0)

    def _hear(self, said: bytes) -> None:
        """Have what TLS itself says sent at the end of the event; after our FIN nothing can be."""
        if self.lingering:
            return
        self._said += said
        if self.connected:
            if len(self._said) > HIGH_WATER:  # the peer takes no alerts, and goes on asking for them
                self._pause(BY_BACK_PRESSURE)
            self._flush_soon()

    # -- what is refused

    def _tls_failed(self, error: ssl.SSLError) -> None:
        """The peer broke TLS's rules: it gets the alert that says so, then the connection ends."""
        self._deaf = True
        self.why = words(error)
        self._owner.refused(self, f"TLS: {self.why}")
        if self._inspection is not None:
            more = explanation(error, self._tls, self._inspection.first, self._inspection.version)
            self.why += more and f"; {more}"
        self._end_with(self._said, End.TLS if self.ready else End.HANDSHAKE)

    def _end_with(self, alert: bytes, end: End) -> None:
        self._drop_unsent()
        self._said = alert
        self._goodbye = True
        self.close(end)
        self._flush_soon()

    def _refuse(self, reason: str, alert: bytes = b"") -> None:
        """End the connection for what OpenSSL would put up with; `alert` is all that the peer still gets."""
        self.why = reason
        self._owner.refused(self, f"TLS: {reason}")
        end = End.TLS if self.ready else End.HANDSHAKE
        if alert:
            self._end_with(alert, end)
        else:
            self.cut(end)

    def _lost(self, why: Failure) -> None:
        self._over()
        super()._lost(why)
        self._build = self._preamble = None  # they have us
