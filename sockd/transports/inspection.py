"""Looks at what a client sends in a handshake before OpenSSL does: its size, its records, its ClientHello.

Nothing is known of the client yet, so it must not cost much. OpenSSL takes memory for a message as soon as
its header has come, 128 KiB for a ClientHello of nine bytes that promises so much; it works through records
of one byte for milliseconds in a single call; and it answers a key of FFDHE-8192, which no client needs, with
23 ms of arithmetic. Python's ssl module can set none of this. So the ClientHello is held back until it is
complete and in order, and the lengths of later messages are looked at as long as they can be read.

What is no TLS at all is passed on immediately: OpenSSL knows best what to answer.
"""

from collections.abc import Iterator

from sockd.transports.records import HEADER_SIZE

# Bytes of a ClientHello at most. They take about 2 KiB with a key after quantum computers, a few more with a
# ticket; BoringSSL has the same bound.
HELLO_SIZE = 16 * 1024
# Bytes that a client sends in a whole handshake at most: a ClientHello or two, its certificates, its keys.
HANDSHAKE_SIZE = 64 * 1024
# Records of them at most: 64 KiB with the shortest `max_fragment_length`, 512 bytes (RFC 6066), are as many.
HANDSHAKE_RECORDS = 128
# Memory that OpenSSL takes for the certificates of a client at most, however few bytes of them have come: the
# messages that say so are encrypted in TLS 1.3.
CERTIFICATES_SIZE = 100 * 1024

_FIRST_SIZE = 12  # bytes that tell a PROXY header from others
_CHANGE_CIPHER_SPEC, _ALERT, _HANDSHAKE, _DATA = 20, 21, 22, 23
_CLIENT_HELLO = 1
_MESSAGE_HEADER_SIZE = 4
# Where the random bytes of a ServerHello are in its record, and what they are if it asks for another
# ClientHello (RFC 8446, 4.1.3).
_RANDOM_AT = HEADER_SIZE + _MESSAGE_HEADER_SIZE + 2
_RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
_SUPPORTED_GROUPS, _KEY_SHARE = 10, 51  # extensions
_FINITE_FIELDS = range(0x0100, 0x0200)  # groups whose keys are numbers of up to 8192 bits (RFC 7919)


class HandshakeRefusedError(Exception):
    """Why OpenSSL doesn't get what the client has sent; one line."""


class Inspection:
    """Follows a client's part of one handshake; `asks`: the server asks for certificates."""

    __slots__ = (
        "_asks",
        "_expected",
        "_header",
        "_held",
        "_hello",
        "_holding",
        "_kind",
        "_left",
        "_message",
        "_no_tls",
        "_records",
        "_retried",
        "_size",
        "encrypted",
        "first",
        "version",
    )

    def __init__(self, *, asks: bool) -> None:
        self._asks = asks
        self._held = b""  # that OpenSSL hasn't got yet
        self._holding = True
        self._size = 0  # bytes of all that came
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
        self.first = b""  # the first bytes that came
        self.version = b""  # that the ClientHello names

    @property
    def memory(self) -> int:
        """Bytes that are held back, or that OpenSSL may have taken for a message that isn't complete."""
        if self._asks and self._kind == _DATA:
            return CERTIFICATES_SIZE
        return len(self._held) or self._expected

    def answered(self, data: bytes) -> None:
        """This is the server's answer to the ClientHello."""
        self._retried = data[_RANDOM_AT : _RANDOM_AT + len(_RETRY)] == _RETRY

    def pass_on(self, data: bytes) -> bytes:
        """What OpenSSL may have now that this has come. HandshakeRefusedError where it is to have nothing."""
        self._size += len(data)
        if len(self.first) < _FIRST_SIZE:
            self.first += data[: _FIRST_SIZE - len(self.first)]
        if self._size > HANDSHAKE_SIZE:
            raise HandshakeRefusedError(f"the handshake takes more than {HANDSHAKE_SIZE // 1024} KiB")
        if not self._no_tls:
            self._follow(data)
        if self._holding:
            self._held += data
            return b""
        held, self._held = self._held, b""
        return held + data

    def _follow(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                if self._kind == _HANDSHAKE and not self.encrypted:
                    self._messages(piece)
                continue
            piece = data[at : at + HEADER_SIZE - len(self._header)]
            at += len(piece)
            self._header += piece
            if self._header[0] not in range(_CHANGE_CIPHER_SPEC, _DATA + 1) or self._header[1:2] not in b"\3":
                self._no_tls, self._holding = True, False
                return
            if len(self._header) == HEADER_SIZE:
                self._record()

    def _record(self) -> None:
        """A record begins."""
        self._kind = self._header[0]
        self._left = self._header[3] << 8 | self._header[4]
        self._header = b""
        self._records += 1
        if self._records > HANDSHAKE_RECORDS:
            raise HandshakeRefusedError(f"the handshake takes more than {HANDSHAKE_RECORDS} records")
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

    def _begin_message(self, kind: int, size: int) -> None:
        if kind == _CLIENT_HELLO and size > HELLO_SIZE:
            raise HandshakeRefusedError(f"the ClientHello takes more than {HELLO_SIZE // 1024} KiB")
        if size > HANDSHAKE_SIZE:
            raise HandshakeRefusedError(f"the handshake takes more than {HANDSHAKE_SIZE // 1024} KiB")
        self._expected = size
        if kind != _CLIENT_HELLO or not size:
            self._hello, self._holding = None, False


def _check_groups(hello: bytes) -> None:
    """Raise if a ClientHello would have OpenSSL compute with a group of FFDHE, in TLS 1.3.

    A client may know such groups, but its key must be of another, or it must know another to be asked for.
    """
    try:
        extensions = dict(_extensions(hello))
    except IndexError:
        return  # OpenSSL will say so
    groups = extensions.get(_SUPPORTED_GROUPS, b"")[2:]
    known = [int.from_bytes(groups[n : n + 2], "big") for n in range(0, len(groups) - 1, 2)]
    shares, keys = extensions.get(_KEY_SHARE, b"")[2:], []
    while len(shares) >= 4:
        keys.append(int.from_bytes(shares[:2], "big"))
        shares = shares[4 + int.from_bytes(shares[2:4], "big") :]
    if any(group in _FINITE_FIELDS for group in keys) or (
        known and all(group in _FINITE_FIELDS for group in known)
    ):
        raise HandshakeRefusedError("the client's key is of a group of FFDHE, and elliptic curves are spoken")


def _extensions(hello: bytes) -> Iterator[tuple[int, bytes]]:
    """The extensions of a ClientHello (RFC 8446, 4.1.2). IndexError where it ends too early."""
    at = 2 + 32  # version, random
    at += 1 + hello[at]  # session
    at += 2 + (hello[at] << 8 | hello[at + 1])  # ciphers
    at += 1 + hello[at]  # compression
    at += 2
    while at + 4 <= len(hello):
        size = hello[at + 2] << 8 | hello[at + 3]
        yield hello[at] << 8 | hello[at + 1], hello[at + 4 : at + 4 + size]
        at += 4 + size
