"""Looks at what a client sends in a handshake before OpenSSL does: its size, its records, its ClientHello.

Nothing is known of the client yet, so it must not cost much. OpenSSL takes memory for a message as soon as
its header has come, 128 KiB for a ClientHello of nine bytes that promises so much; it works through records
of one byte for milliseconds in a single call; and it answers a key of FFDHE-8192, which no client needs, with
23 ms of arithmetic. Python's ssl module can set none of this. So the ClientHello is held back until it is
complete and in order, and the lengths of later messages are looked at as long as they can be read.

What is no TLS at all is passed on immediately: OpenSSL knows best what to answer.
"""

from sockd.transports.records import HEADER_SIZE

# Bytes of a ClientHello at most. They take about 2 KiB with a key after quantum computers, a few more with a
# ticket; BoringSSL has the same bound.
HELLO_SIZE = 16 * 1024
# Bytes that a client sends after it, at most: certificates, and keys. OpenSSL takes a third of a millisecond
# for each certificate before it looks at any, and small ones may be forty.
FLIGHT_SIZE = 12 * 1024
# Records of a handshake at most; in TLS 1.2 certificates, too.
HANDSHAKE_RECORDS = 64
CERTIFICATES = 10
# Records of a ClientHello at most. Some programs split theirs, to get past filters.
HELLO_RECORDS = 32
# Memory that OpenSSL takes for the certificates of a client at most, however few bytes of them have come: the
# messages that say so are encrypted in TLS 1.3.
CERTIFICATES_SIZE = 100 * 1024

_FIRST_SIZE = 12  # bytes that tell a PROXY header from others
_CHANGE_CIPHER_SPEC, _ALERT, _HANDSHAKE, _DATA = 20, 21, 22, 23
_CLIENT_HELLO, _CERTIFICATES = 1, 11
_MESSAGE_HEADER_SIZE = 4
_HELLO_AT = HEADER_SIZE + _MESSAGE_HEADER_SIZE  # in its record
# Where the random bytes of a ServerHello are in its record, and what they are if it asks for another
# ClientHello (RFC 8446, 4.1.3).
_RANDOM_AT = HEADER_SIZE + _MESSAGE_HEADER_SIZE + 2
_RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
_SUPPORTED_GROUPS, _KEY_SHARE = 10, 51  # extensions
_FINITE_FIELDS = 1  # first byte of the groups whose keys are numbers of up to 8192 bits (RFC 7919)


class HandshakeRefusedError(Exception):
    """Why OpenSSL doesn't get what the client has sent; one line.

    `honest`: the client may mean well, and is to be told in TLS.
    """

    def __init__(self, why: str, *, honest: bool = False) -> None:
        super().__init__(why)
        self.honest = honest


class Inspection:
    """Follows a client's part of one handshake; `asks`: the server asks for certificates."""

    __slots__ = (
        "_asks",
        "_expected",
        "_flight",
        "_header",
        "_held",
        "_hello",
        "_holding",
        "_kind",
        "_left",
        "_list",
        "_message",
        "_no_tls",
        "_records",
        "_retried",
        "encrypted",
        "excess",
        "first",
        "limit",
        "version",
    )

    def __init__(self, *, asks: bool) -> None:
        self._asks = asks
        self._held = b""  # that OpenSSL hasn't got yet
        self._holding = True
        self._flight = 0  # bytes that came after the ClientHello
        self._records = 0
        self._header = b""  # as much as there is of a record's
        self._kind = 0  # of the record
        self._left = 0  # bytes of the record that are still to come
        self._message = b""  # as much as there is of a message's header
        self._expected = 0  # bytes of the message that are still to come
        self._hello: bytearray | None = bytearray()  # the first one, until it is complete
        self._retried = False  # the server asked for another ClientHello
        self._no_tls = False
        self.encrypted = False  # what the client sends now
        self._list: bytearray | None = None  # of certificates, in the clear, until it is complete
        self.excess = b""  # that came and is not to be passed on as a part of the handshake, because …
        self.limit = ""  # … of this
        self.first = b""  # the first bytes that came
        self.version = b""  # that the ClientHello names

    @property
    def memory(self) -> int:
        """Bytes that are held back, or that OpenSSL may have taken for a message that isn't complete."""
        if self._asks and self._kind == _DATA:
            return CERTIFICATES_SIZE
        return len(self._held) or self._expected

    @property
    def hidden(self) -> int:
        """Bytes that have come encrypted, as certificates do in TLS 1.3."""
        return self._flight if self._kind == _DATA else 0

    def answered(self, data: bytes) -> None:
        """This is the server's answer to the ClientHello."""
        self._retried = data[_RANDOM_AT : _RANDOM_AT + len(_RETRY)] == _RETRY

    def pass_on(self, data: bytes) -> bytes:
        """What OpenSSL may have now that this has come. HandshakeRefusedError where it is to have nothing."""
        self.excess = b""
        if len(self.first) < _FIRST_SIZE:
            self.first += data[: _FIRST_SIZE - len(self.first)]
        if not self._records and not self._held and _is_whole_hello(data):
            self._records, self._hello, self._holding = 1, None, False  # as most are
            self.version = data[_HELLO_AT : _HELLO_AT + 2]
            _check_groups(data[_HELLO_AT:])
            return data
        if not self._holding:
            return self._pass_some(data)
        self._follow(data)
        if self._holding:
            self._held += data
            return b""
        held, self._held = self._held, b""
        return held + data

    def _pass_some(self, data: bytes) -> bytes:
        """What is within the bounds: the `excess` may be data, if the handshake is done before it."""
        end = FLIGHT_SIZE - self._flight
        self.limit = f"the handshake takes more than {FLIGHT_SIZE // 1024} KiB"
        if not self._no_tls:
            followed = self._follow(data[:end])
            if followed < min(end, len(data)):
                self.limit = f"the handshake takes more than {HANDSHAKE_RECORDS} records"
            end = min(end, followed)
        self._flight += len(data[:end])
        self.excess = data[end:]
        return data[:end]

    def _follow(self, data: bytes) -> int:
        """Follow the records in it; where it was to stop, as there are too many."""
        at = 0
        while at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                if self._kind == _HANDSHAKE and not self.encrypted:
                    self._messages(piece)
                continue
            if not self._holding and not self._header and self._records >= HANDSHAKE_RECORDS:
                return at
            piece = data[at : at + HEADER_SIZE - len(self._header)]
            at += len(piece)
            self._header += piece
            if self._header[0] not in range(_CHANGE_CIPHER_SPEC, _DATA + 1) or self._header[1:2] not in b"\3":
                self._no_tls, self._holding = True, False
                break
            if len(self._header) == HEADER_SIZE:
                self._record()
        return len(data)

    def _record(self) -> None:
        """A record begins."""
        self._kind = self._header[0]
        self._left = self._header[3] << 8 | self._header[4]
        self._header = b""
        self._records += 1
        if self._holding and self._records > HELLO_RECORDS:
            raise HandshakeRefusedError(f"the ClientHello takes more than {HELLO_RECORDS} records")
        # In TLS 1.3 a ChangeCipherSpec means nothing, and one comes before a second ClientHello.
        if self._kind == _DATA or (self._kind == _CHANGE_CIPHER_SPEC and not self._retried):
            self.encrypted = True
        if self._kind != _HANDSHAKE:
            self._holding = False

    def _messages(self, piece: bytes) -> None:
        """Follow the messages in a piece of a record."""
        while piece:
            if not self._expected:
                rest = _MESSAGE_HEADER_SIZE - len(self._message)
                self._message, piece = self._message + piece[:rest], piece[rest:]
                if len(self._message) == _MESSAGE_HEADER_SIZE:
                    self._begin_message(self._message[0], int.from_bytes(self._message[1:], "big"))
                    self._message = b""
                continue
            body, piece = piece[: self._expected], piece[self._expected :]
            self._expected -= len(body)
            if self._hello is not None:
                self._hello += body
                if not self._expected:
                    self.version = bytes(self._hello[:2])
                    _check_groups(bytes(self._hello))
                    self._hello, self._holding = None, False
            elif self._list is not None:
                self._list += body
                if not self._expected:
                    _count_certificates(bytes(self._list))
                    self._list = None

    def _begin_message(self, kind: int, size: int) -> None:
        if kind == _CLIENT_HELLO and size > HELLO_SIZE:
            raise HandshakeRefusedError(f"the ClientHello takes more than {HELLO_SIZE // 1024} KiB")
        if kind != _CLIENT_HELLO and size > FLIGHT_SIZE:
            raise HandshakeRefusedError(f"the handshake takes more than {FLIGHT_SIZE // 1024} KiB")
        self._expected = size
        self._list = bytearray() if kind == _CERTIFICATES else None
        if kind != _CLIENT_HELLO or not size:
            self._hello, self._holding = None, False


def _count_certificates(message: bytes) -> None:
    """Raise if there are too many in this message of TLS 1.2 (RFC 5246, 7.4.2)."""
    at, count = 3, 0
    while at + 3 <= len(message):
        at += 3 + int.from_bytes(message[at : at + 3], "big")
        count += 1
    if count > CERTIFICATES:
        raise HandshakeRefusedError(f"the client shows {count} certificates, and {CERTIFICATES} are accepted")


def _is_whole_hello(data: bytes) -> bool:
    """Whether this is one record with one ClientHello that isn't too long, and nothing else."""
    size = len(data)
    return (
        size > _HELLO_AT
        and data[0] == _HANDSHAKE
        and data[1] == 3
        and data[3] << 8 | data[4] == size - HEADER_SIZE
        and data[5] == _CLIENT_HELLO
        and int.from_bytes(data[6:_HELLO_AT], "big") == size - _HELLO_AT <= HELLO_SIZE
    )


def _check_groups(hello: bytes) -> None:
    """Raise if a ClientHello would have OpenSSL compute with a group of FFDHE, in TLS 1.3.

    A client may know such groups, but its key must be of another, or it must know another to be asked for.
    """
    known = shares = b""
    try:
        at = 2 + 32  # version, random (RFC 8446, 4.1.2)
        at += 1 + hello[at]  # session
        at += 2 + (hello[at] << 8 | hello[at + 1])  # ciphers
        at += 1 + hello[at]  # compression
        at += 2
        while at + 4 <= len(hello):
            kind = hello[at] << 8 | hello[at + 1]
            end = at + 4 + (hello[at + 2] << 8 | hello[at + 3])
            if kind == _SUPPORTED_GROUPS:
                known = hello[at + 6 : end]
            elif kind == _KEY_SHARE:
                shares = hello[at + 6 : end]
            at = end
    except IndexError:
        return  # it ends too early: OpenSSL will say so
    elliptic = len(known) < 2
    for n in range(0, len(known) - 1, 2):
        if known[n] != _FINITE_FIELDS:
            elliptic = True
            break
    at = 0
    while at + 4 <= len(shares):
        elliptic = elliptic and shares[at] != _FINITE_FIELDS
        at += 4 + (shares[at + 2] << 8 | shares[at + 3])
    if not elliptic:
        why = "the client's key is of a group of FFDHE, and elliptic curves are spoken"
        raise HandshakeRefusedError(why, honest=True)
