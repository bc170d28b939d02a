"""TLS that begins in the middle of a connection: STARTTLS, Twisted's ITLSTransport.

# Theory of operation

The protocol keeps the transport that it has, and perhaps a wrapper between the two does. So the connection
stays the same object and changes its class, which Python allows between classes of one layout (`tls_fields`):

    StartableConnection   a plain connection that has room for the attributes of TLS
    ShakingConnection     its handshake is on: what the protocol writes waits
    TlsConnection         as on a tls:// address

Nothing else of a connection knows of this, and a plain connection whose endpoint has no TLS pays nothing.

**What was read in clear** behind the command that starts TLS is never taken for something that came
encrypted, or an attacker between the two ends could put commands into the client's session (CVE-2011-0411).
What the connection has not delivered yet goes to OpenSSL, to which it is no handshake. What the protocol has
been given and keeps for later, as a line receiver does with the lines that follow, is looked for; if there is
any, the connection is refused.
"""

import ssl
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import ITLSTransport
from twisted.protocols.basic import IntNStringReceiver
from zope.interface import implementer

from sockd.base.hosted import method_of
from sockd.base.metrics import End
from sockd.transports.faces import layers
from sockd.transports.fields import HIGH_WATER
from sockd.transports.tls import TlsConnection
from sockd.transports.tls_fields import TlsFields
from sockd.transports.twisted import TwistedProducer, TwistedProtocol

INJECTED = "bytes in clear follow the command that starts it"


class StartableTls:
    """What a protocol passes to `startTLS`: `host.tls`, the TLS of its endpoint."""

    def options(self, *_authorities: object) -> "StartableTls":
        """Itself: AMP's StartTLS asks a certificate for what it then passes on."""
        return self

    def begin(self, connection: TlsFields) -> tuple[ssl.SSLContext, Callable[[], bool]]:
        """A context for this connection, and what is to be asked after the handshake: whether it may go on.

        ValueError where the endpoint has no TLS any more.
        """
        raise NotImplementedError


@implementer(ITLSTransport)
class StartableConnection(TlsFields):
    """A plain connection whose protocol may start TLS."""

    __slots__ = ()

    # Any: Twisted's own take pyOpenSSL's.
    def startTLS(self, contextFactory: Any, normal: bool = True) -> None:  # noqa: N802, N803
        """Begin the handshake; what was written before still goes in clear, what is written later waits.

        TypeError for any other context than `host.tls`, and ValueError for the client's side (`normal` is
        False) and where the endpoint's TLS is gone.
        """
        if not isinstance(contextFactory, StartableTls):
            raise TypeError(f"startTLS takes host.tls, not {type(contextFactory).__name__}")
        if not normal:
            raise ValueError("the peer of this connection is the client of TLS: it can't be its server")
        if not self._sends or self.disconnecting:
            return
        context, admits = contextFactory.begin(self)
        protocol, injected = self.protocol, _kept_in_clear(self.protocol)
        self._send_out()
        plain = b"".join(self._queue())  # the kernel has no room for it now
        self._out.clear()
        self.__class__ = ShakingConnection  # type: ignore[assignment]
        self._prepare(context)
        self._cipher, self._in_flight = plain, len(plain)
        self._waiting = bytearray()
        self._afterwards = ""
        self._build = lambda: protocol if admits() else None
        self.begun = self._reactor.seconds()
        if injected:
            cast("ShakingConnection", self)._refuse(INJECTED)  # noqa: SLF001 - it is we


class ShakingConnection(TlsConnection):
    """A connection that was plain until its protocol called `startTLS`, and whose handshake isn't done.

    What the protocol writes, the producer that it registers, and its wish to end the connection wait for the
    handshake.
    """

    __slots__ = ()

    def write(self, data: bytes) -> None:
        waiting = self._waiting
        if not self._sends or self._afterwards:
            return
        waiting += memoryview(data)  # TypeError for str
        if len(waiting) > min(self._own_limit, self._unsent_limit):
            self.cut(End.SLOW)
        elif len(waiting) > HIGH_WATER and self._producer is not None and self._streaming:
            self._pause_producer()

    def registerProducer(self, producer: TwistedProducer, streaming: bool) -> None:  # noqa: N802
        super().registerProducer(producer, True)  # else it would be asked for something
        self._streaming = streaming

    def _producer_waits(self) -> bool:
        return False

    def loseConnection(self) -> None:  # noqa: N802
        if self._waiting:
            self._afterwards = self._afterwards or "loseConnection"
        else:
            super().loseConnection()

    def loseWriteConnection(self) -> None:  # noqa: N802
        if self._waiting:
            self._afterwards = self._afterwards or "loseWriteConnection"
        else:
            super().loseWriteConnection()

    def _introduce(self, protocol: TwistedProtocol) -> None:  # noqa: ARG002 - it has its transport
        """The protocol is there: have sent what waits."""
        waiting, self._waiting = bytes(self._waiting), bytearray()
        afterwards, self._afterwards = self._afterwards, ""
        self.__class__ = TlsConnection  # type: ignore[assignment]
        self.write(waiting)
        if self._producer is not None and (self._producer_paused or not self._streaming):
            self._start_writing()
        if afterwards:
            getattr(self, afterwards)()


def _kept_in_clear(protocol: TwistedProtocol) -> bool:
    """Whether the protocol keeps bytes for later that it was given; it loses them.

    Twisted's receivers of lines and of strings say so: LineReceiver.clearLineBuffer, and the `recvd` of
    IntNStringReceiver.
    """
    found = False
    for each in layers(protocol):
        clear = method_of(each, "clearLineBuffer")
        if clear is not None and clear():
            found = True
        elif isinstance(each, IntNStringReceiver) and each.recvd:
            each.recvd = b""
            found = True
    return found
