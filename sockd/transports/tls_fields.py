"""The attributes of a TLS connection, for which a plain connection that may start TLS has room."""

import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

from sockd.limits.rates import Bucket
from sockd.transports.connection import Connection
from sockd.transports.costly import CostlySources
from sockd.transports.handshake_memory import HandshakeMemory
from sockd.transports.inspection import Inspection
from sockd.transports.records import Begun
from sockd.transports.twisted import TwistedProtocol

if TYPE_CHECKING:
    from sockd.transports.chain import Chain  # cryptography is loaded where clients show certificates

# Bytes that are read at a time in a handshake.
HANDSHAKE_READ_SIZE = 16 * 1024


class TlsFields(Connection):
    """The attributes of a TLS connection, and how they begin.

    Its subclasses have no slots, so that an object can change from one of them to another while it lives, as
    Python allows between classes of one layout: see `starting`.
    """

    __slots__ = (
        "_afterwards",
        "_allowance",
        "_asks",
        "_begun",
        "_bio_in",
        "_bio_out",
        "_build",
        "_cipher",
        "_costly",
        "_deaf",
        "_goodbye",
        "_handshakes",
        "_in_flight",
        "_inspection",
        "_named",
        "_ours",
        "_preamble",
        "_read_size_after",
        "_said",
        "_tls",
        "_waiting",
        "admitted_by",
        "chain",
    )

    _waiting: bytearray  # of a handshake that the protocol has started: what it wrote since, …
    _afterwards: str  # … and how it wants to end the connection, as the name of its method

    def _prepare(self, context: ssl.SSLContext) -> None:
        """Be a connection whose handshake is still to come."""
        flusher = self._flusher
        if flusher.tls is None:
            flusher.tls = ssl.MemoryBIO(), ssl.MemoryBIO(), HandshakeMemory(), CostlySources()
        self._bio_in, self._bio_out, self._handshakes, self._costly = flusher.tls
        self._tls = context.wrap_bio(self._bio_in, self._bio_out, server_side=True)
        self._named = self._tls.context.sni_callback is not None
        self._asks = self._tls.context.verify_mode != ssl.CERT_NONE
        self._inspection: Inspection | None = Inspection(asks=self._asks)  # until the handshake is done
        self._read_size_after = self._read_size
        self._read_size = HANDSHAKE_READ_SIZE
        self._deaf = False  # OpenSSL decrypts nothing more, and what comes is counted as it comes
        self._build: Callable[[], TwistedProtocol | None] | None = None
        self._said = b""  # TLS's own, to be sent before anything else is encrypted
        self._goodbye = False  # close_notify was sent, or the peer can't get it any more
        self._preamble: Callable[[bytes], bytes | None] | None = None
        self.ready = False
        self.chain: Chain | None = None  # what the client has proved, and …
        self.admitted_by: object = None  # … by whose rules it was enough
        self._begun: Begun = 0  # the record that OpenSSL has a part of
        self._allowance: Bucket | None = None  # of records without data, once there was one
        self._cipher: bytes | memoryview = b""  # encrypted, and not taken by the kernel yet
        self._in_flight = 0  # bytes of `unsent` that are in it
        self._ours = False  # it is TLS's own (handshake, alert), and not counted as sent
