"""What OpenSSL gets of a handshake: whole ClientHellos that are in order, and what is no TLS at all."""

import ssl
from contextlib import suppress

import pytest

from sockd.transports.inspection import (
    CERTIFICATES,
    CERTIFICATES_SIZE,
    FLIGHT_SIZE,
    HANDSHAKE_RECORDS,
    HELLO_RECORDS,
    HELLO_SIZE,
    HandshakeRefusedError,
    Inspection,
)

HANDSHAKE, CHANGE_CIPHER_SPEC, DATA = 22, 20, 23
X25519, P256, FFDHE2048, FFDHE8192 = 29, 23, 0x0100, 0x0104


def record(kind: int, data: bytes) -> bytes:
    return bytes([kind, 3, 3]) + len(data).to_bytes(2, "big") + data


def extension(kind: int, data: bytes) -> bytes:
    return kind.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data


def listed(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def hello(*extensions: bytes) -> bytes:
    """A ClientHello, as a message."""
    body = b"\3\3" + bytes(32) + b"\0" + listed(b"\x13\1") + b"\1\0" + listed(b"".join(extensions))
    return b"\1" + len(body).to_bytes(3, "big") + body


def keys(known: list[int], shared: list[int]) -> bytes:
    """A ClientHello of a client that knows these groups and has keys of those."""
    groups = extension(10, listed(b"".join(one.to_bytes(2, "big") for one in known)))
    shares = extension(51, listed(b"".join(one.to_bytes(2, "big") + listed(b"key") for one in shared)))
    return hello(extension(0, b""), groups, shares)


def openssl_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 9, 11, 100, 1000])
def test_a_hello_in_pieces(size: int) -> None:
    """It is passed on as it came once it is complete, and what follows as it comes."""
    whole = openssl_hello()
    one = Inspection(asks=False)
    passed = b"".join(one.pass_on(whole[n : n + size]) for n in range(0, len(whole) - 1, size))
    assert passed in (b"", whole)
    passed += one.pass_on(whole[-1:]) if not passed else b""
    assert passed == whole
    assert one.memory == 0
    assert one.pass_on(b"\x17\3") == b"\x17\3"


@pytest.mark.parametrize("size", [20, 50, 111])
def test_a_hello_in_records(size: int) -> None:
    """It may be spread over some: programs do that to get past a filter."""
    message = openssl_hello()[5:]
    pieces = [record(HANDSHAKE, message[n : n + size]) for n in range(0, len(message), size)]
    one = Inspection(asks=False)
    assert all(one.pass_on(piece) == b"" for piece in pieces[:-1])
    assert one.memory == sum(map(len, pieces[:-1]))
    assert one.pass_on(pieces[-1]) == b"".join(pieces)


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n", b"\x80\x2e\1\0\2", b"\x16\2\0\0\5", b"PROXY TCP4", b"\0", b"\x15\3\3\0\2\2\x28"],
)
def test_what_is_no_hello(data: bytes) -> None:
    """OpenSSL gets it at once, and has the words for it."""
    one = Inspection(asks=False)
    assert b"".join(one.pass_on(data[n : n + 1]) for n in range(len(data))) == data


def refusal(*pieces: bytes, one: Inspection | None = None) -> str:
    one = one or Inspection(asks=False)
    try:
        for piece in pieces:
            one.pass_on(piece)
    except HandshakeRefusedError as error:
        return str(error)
    return ""


def test_a_hello_that_promises_too_much() -> None:
    """Nine bytes are enough to know; the longest that is taken is held back, as far as it has come."""
    head = b"\1" + (HELLO_SIZE + 1).to_bytes(3, "big")
    assert "ClientHello takes more" in refusal(record(HANDSHAKE, head))
    one = Inspection(asks=False)
    assert one.pass_on(record(HANDSHAKE, b"\1" + HELLO_SIZE.to_bytes(3, "big"))) == b""
    assert one.memory == 9


def test_too_many_records() -> None:
    """Of any size, also empty ones."""
    assert "records" in refusal(record(HANDSHAKE, b"") * (HELLO_RECORDS + 1))
    message = hello(extension(0, bytes(1000)))
    assert "records" in refusal(b"".join(record(HANDSHAKE, bytes([byte])) for byte in message))
    one = Inspection(asks=False)
    one.pass_on(openssl_hello())
    many = record(HANDSHAKE, b"") * (HANDSHAKE_RECORDS - 1)
    assert one.pass_on(many + record(DATA, b"x")) == many
    assert (one.excess, one.limit) == (record(DATA, b"x"), "the handshake takes more than 64 records")


def test_a_handshake_that_never_ends() -> None:
    """All that a client sends in one is bounded; what is too much may be data that follows it."""
    one = Inspection(asks=True)
    one.pass_on(openssl_hello())
    first, more = record(DATA, bytes(FLIGHT_SIZE - 100)), record(DATA, bytes(1000))
    assert one.pass_on(first) == first
    assert one.excess == b""
    assert one.pass_on(more) + one.excess == more
    assert (len(one.excess), one.limit) == (
        len(first + more) - FLIGHT_SIZE,
        "the handshake takes more than 12 KiB",
    )


def test_certificates_in_the_clear() -> None:
    """In TLS 1.2 their length can be read: that much OpenSSL takes for them."""
    one = Inspection(asks=True)
    one.pass_on(openssl_hello())
    one.answered(b"\x16\3\3\0\x7a\2" + bytes(200))
    one.pass_on(record(HANDSHAKE, b"\x0b" + (10_000).to_bytes(3, "big")))
    assert one.memory == 10_000
    other = Inspection(asks=True)
    other.pass_on(openssl_hello())
    assert "KiB" in refusal(record(HANDSHAKE, b"\x0b" + (FLIGHT_SIZE + 1).to_bytes(3, "big")), one=other)


@pytest.mark.parametrize("count", [CERTIFICATES, CERTIFICATES + 1])
def test_how_many_certificates_in_the_clear(count: int) -> None:
    """They are counted before OpenSSL has the last byte of them, however they come."""
    body = (b"\0\0\x05" + b"12345") * count
    body = len(body).to_bytes(3, "big") + body
    data = record(HANDSHAKE, b"\x0b" + len(body).to_bytes(3, "big") + body)
    one = Inspection(asks=True)
    one.pass_on(openssl_hello())
    one.pass_on(data[:-1])
    why = refusal(data[-1:], one=one)
    assert why == (
        f"the client shows {count} certificates, and 10 are accepted" if count > CERTIFICATES else ""
    )


def test_certificates_that_are_encrypted() -> None:
    """In TLS 1.3 it can't: OpenSSL may have taken as much as it ever takes."""
    for asks, memory in ((True, CERTIFICATES_SIZE), (False, 0)):
        one = Inspection(asks=asks)
        one.pass_on(openssl_hello())
        one.pass_on(record(CHANGE_CIPHER_SPEC, b"\1") + record(DATA, b"x"))
        assert one.memory == memory


def test_a_second_hello() -> None:
    """A server may ask for one; a ChangeCipherSpec may come before it, and means nothing then."""
    one = Inspection(asks=False)
    one.pass_on(openssl_hello())
    random = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
    one.answered(b"\x16\3\3\0\x58\2\0\0\x54\3\3" + random + bytes(50))
    assert one.pass_on(record(CHANGE_CIPHER_SPEC, b"\1"))
    head = b"\1" + (HELLO_SIZE + 1).to_bytes(3, "big")
    assert "ClientHello takes more" in refusal(record(HANDSHAKE, head), one=one)


@pytest.mark.parametrize(
    ("known", "shared", "refused"),
    [
        ([X25519, P256, FFDHE2048, FFDHE8192], [X25519], False),
        ([X25519, FFDHE8192], [X25519, FFDHE8192], True),
        ([X25519, FFDHE8192], [FFDHE8192], True),
        ([FFDHE8192, X25519], [], False),
        ([FFDHE8192, FFDHE2048], [], True),
        ([], [], False),
        ([0x11EC, X25519], [0x11EC], False),
    ],
)
def test_groups(known: list[int], shared: list[int], refused: bool) -> None:
    """A key of FFDHE costs too much to be answered; a client may know such groups, next to others."""
    data = record(HANDSHAKE, keys(known, shared))
    if refused:
        assert "FFDHE" in refusal(data)
    else:
        assert Inspection(asks=False).pass_on(data) == data


@pytest.mark.parametrize("size", range(0, 60, 3))
def test_hellos_that_end_too_early(size: int) -> None:
    """OpenSSL says what is wrong with them."""
    body = keys([X25519], [X25519])[4:][:size]
    data = record(HANDSHAKE, b"\1" + len(body).to_bytes(3, "big") + body)
    assert Inspection(asks=False).pass_on(data) == data
