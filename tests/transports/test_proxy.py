"""PROXY headers: what is one, what isn't, and that no splitting makes a difference."""

import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sockd.transports.proxy import HEADER_LIMIT, LINE_LIMIT, Header, ProxyError, ProxyInfo, crc32c

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
IPV4 = bytes((192, 0, 2, 1, 192, 0, 2, 9)) + (40000).to_bytes(2, "big") + (7007).to_bytes(2, "big")
IPV6 = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::9")
    + IPV4[8:]
)
UNIX = b"/run/client".ljust(108, b"\0") + b"/run/proxy".ljust(108, b"\0")
INFO_4 = ProxyInfo(("192.0.2.1", 40000), ("192.0.2.9", 7007))
INFO_6 = ProxyInfo(("2001:db8::1", 40000), ("2001:db8::9", 7007))
REAL = ProxyInfo()


def binary(command: int, family: int, block: bytes, length: int | None = None) -> bytes:
    """A header of version 2."""
    size = len(block) if length is None else length
    return SIGNATURE + bytes((command, family)) + size.to_bytes(2, "big") + block


def value(kind: int, data: bytes) -> bytes:
    """A TLV."""
    return bytes((kind,)) + len(data).to_bytes(2, "big") + data


def with_checksum(family: int, addresses: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    """A header with the right checksum of itself."""
    header = binary(0x21, family, addresses + before + value(3, bytes(4)) + after)
    at = 16 + len(addresses + before) + 3
    return header[:at] + crc32c(header).to_bytes(4, "big") + header[at + 4 :]


GOOD: dict[str, tuple[bytes, ProxyInfo]] = {
    "TCP4": (b"PROXY TCP4 192.0.2.1 192.0.2.9 40000 7007\r\n", INFO_4),
    "TCP6": (b"PROXY TCP6 2001:db8::1 2001:db8::9 40000 7007\r\n", INFO_6),
    "TCP6 in full": (b"PROXY TCP6 2001:DB8:0:0:0:0:0:1 2001:0db8::9 40000 7007\r\n", INFO_6),
    "TCP6 mapped": (
        b"PROXY TCP6 ::ffff:192.0.2.1 ::1 0 65535\r\n",
        ProxyInfo(("::ffff:192.0.2.1", 0), ("::1", 65535)),
    ),
    "UNKNOWN": (b"PROXY UNKNOWN\r\n", REAL),
    "UNKNOWN with addresses": (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", REAL),
    "longest line": (b"PROXY UNKNOWN".ljust(105, b" ") + b"\r\n", REAL),
    "v2 TCP4": (binary(0x21, 0x11, IPV4), INFO_4),
    "v2 TCP6": (binary(0x21, 0x21, IPV6), INFO_6),
    "v2 Unix": (binary(0x21, 0x31, UNIX), REAL),
    "v2 unspecified": (binary(0x21, 0x00, b""), REAL),
    "v2 local": (binary(0x20, 0x00, b""), REAL),
    "v2 local with what is ignored": (binary(0x20, 0xFF, b"whatever"), REAL),
    "v2 values": (binary(0x21, 0x11, IPV4 + value(1, b"h2") + value(4, b"") + value(0xEE, bytes(9))), INFO_4),
    "v2 values of nobody": (binary(0x21, 0x00, value(5, b"id")), REAL),
    "v2 checksum": (with_checksum(0x11, IPV4), INFO_4),
    "v2 checksum among values": (with_checksum(0x21, IPV6, value(4, b"xyz"), value(2, b"name")), INFO_6),
    "v2 longest": (binary(0x21, 0x11, IPV4 + value(4, bytes(521))), INFO_4),
}
BAD: dict[str, tuple[bytes, str]] = {
    "TLS": (b"\x16\x03\x01", "no PROXY header"),
    "HTTP": (b"GET / HTTP/1.1\r\n", "no PROXY header"),
    "small letters": (b"proxy TCP4 1.1.1.1 1.1.1.1 1 1\r\n", "no PROXY header"),
    "begins like it": (b"PROX\r\n", "no PROXY header"),
    "empty": (b"PROXY \r\n", "neither TCP4 nor"),
    "other family": (b"PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n", "neither TCP4 nor"),
    "UNKNOWN and more": (b"PROXY UNKNOWNS\r\n", "neither TCP4 nor"),
    "two spaces": (b"PROXY TCP4  1.1.1.1 1.1.1.1 1 1\r\n", "one space apart"),
    "space at the end": (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \r\n", "one space apart"),
    "no addresses": (b"PROXY TCP4\r\n", "one space apart"),
    "IPv6 as TCP4": (b"PROXY TCP4 ::1 ::1 1 1\r\n", "none of this family"),
    "IPv4 as TCP6": (b"PROXY TCP6 1.1.1.1 1.1.1.1 1 1\r\n", "none of this family"),
    "zeros before": (b"PROXY TCP4 01.1.1.1 1.1.1.1 1 1\r\n", "none of this family"),
    "short address": (b"PROXY TCP4 1.1.1 1.1.1.1 1 1\r\n", "none of this family"),
    "scope": (b"PROXY TCP6 fe80::1%lo ::1 1 1\r\n", "none of this family"),
    "name": (b"PROXY TCP4 localhost 1.1.1.1 1 1\r\n", "none of this family"),
    "port with a zero before": (b"PROXY TCP4 1.1.1.1 1.1.1.1 01 1\r\n", "0 to 65535"),
    "port with a sign": (b"PROXY TCP4 1.1.1.1 1.1.1.1 +1 1\r\n", "0 to 65535"),
    "no port": (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 x\r\n", "0 to 65535"),
    "port out of range": (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 65536\r\n", "0 to 65535"),
    "long port": (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 111111111\r\n", "0 to 65535"),
    "LF alone": (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n", "not CRLF"),
    "CR alone": (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\rx", "not CRLF"),
    "NUL": (b"PROXY UNKNOWN\x00\r\n", "not CRLF"),
    "not ASCII": (b"PROXY TCP4 \xd9\xa1.1.1.1 1.1.1.1 1 1\r\n", "not CRLF"),
    "long line": (b"PROXY UNKNOWN".ljust(106, b" ") + b"\r\n", "longer than 107"),
    "endless line": (b"PROXY UNKNOWN".ljust(2000, b" "), "longer than 107"),
    "v2 signature broken": (SIGNATURE[:-1] + b"\r", "no PROXY header"),
    "v1 in binary": (binary(0x11, 0x11, IPV4), "version 1"),
    "v3": (binary(0x31, 0x11, IPV4), "version 3"),
    "v2 command": (binary(0x22, 0x11, IPV4), "neither LOCAL nor PROXY"),
    "v2 datagrams": (binary(0x21, 0x12, IPV4), "datagrams"),
    "v2 datagrams over IPv6": (binary(0x21, 0x22, IPV6), "datagrams"),
    "v2 Unix datagrams": (binary(0x21, 0x32, UNIX), "datagrams"),
    "v2 family": (binary(0x21, 0x41, IPV4), "not defined"),
    "v2 sort": (binary(0x21, 0x13, IPV4), "not defined"),
    "v2 IPv4 unspecified": (binary(0x21, 0x10, IPV4), "not defined"),
    "v2 unspecified stream": (binary(0x21, 0x01, b""), "not defined"),
    "v2 short": (binary(0x21, 0x11, IPV4[:-1]), "too short"),
    "v2 IPv4 as IPv6": (binary(0x21, 0x21, IPV4), "too short"),
    "v2 too long": (binary(0x21, 0x11, IPV4 + value(4, bytes(522))), "553 bytes"),
    "v2 longest length": (binary(0x21, 0x11, b"", 65535), "65551 bytes"),
    "v2 local too long": (binary(0x20, 0x00, b"", 537), "553 bytes"),
    "v2 half a value": (binary(0x21, 0x11, IPV4 + b"\x04"), "beyond the header"),
    "v2 half a length": (binary(0x21, 0x11, IPV4 + b"\x04\x00"), "beyond the header"),
    "v2 value beyond": (binary(0x21, 0x11, IPV4 + b"\x04\x00\x01"), "beyond the header"),
    "v2 wrong checksum": (binary(0x21, 0x11, IPV4 + value(3, bytes(4))), "checksum is wrong"),
    "v2 short checksum": (binary(0x21, 0x11, IPV4 + value(3, bytes(3))), "not of 4 bytes"),
    "v2 two checksums": (
        with_checksum(0x11, IPV4, b"", value(3, bytes(4))),
        "more than one checksum",
    ),
}

Result = tuple[ProxyInfo, bytes] | str | None


def fed(pieces: Iterator[bytes]) -> Result:
    """What a header makes of these pieces: what it says and the rest, an error's text, or nothing yet."""
    header = Header()
    for piece in pieces:
        try:
            found = header.feed(piece)
        except ProxyError as error:
            return str(error)
        assert len(header.held) < HEADER_LIMIT
        if found is not None:
            info, rest = found
            return info, rest + b"".join(pieces)
    return None


def splits(data: bytes) -> Iterator[list[bytes]]:
    """Whole, in two at each place, and byte by byte."""
    yield [data]
    yield from ([data[:at], data[at:]] for at in range(len(data) + 1))
    yield [data[at : at + 1] for at in range(len(data))]


@pytest.mark.parametrize("name", GOOD)
def test_good(name: str) -> None:
    """Every way to split it gives the same, and leaves what comes after the header alone."""
    data, info = GOOD[name]
    for rest in (b"", b"PROXY TCP4 hello\r\n\x00"):
        for pieces in splits(data + rest):
            assert fed(iter(pieces)) == (info, rest)


@pytest.mark.parametrize("name", GOOD)
def test_unfinished(name: str) -> None:
    """No part of a header is one, nor wrong."""
    data, _ = GOOD[name]
    for end in range(len(data)):
        assert fed(iter([data[:end]])) is None


@pytest.mark.parametrize("name", BAD)
def test_bad(name: str) -> None:
    """Every way to split it gives the same reason, in one line."""
    data, reason = BAD[name]
    told = fed(iter([data]))
    assert isinstance(told, str)
    assert reason in told
    assert len(told) < 100
    assert told.isprintable()
    for pieces in splits(data):
        assert fed(iter(pieces)) == told


def test_told_as_soon_as_possible() -> None:
    """A peer that speaks something else is told apart by its first wrong byte."""
    for data in (b"G", b"P\x00", b"PROXYx", SIGNATURE + b"\x23", SIGNATURE + b"\x21\x12"):
        assert fed(iter([data[:-1]])) is None
        assert isinstance(fed(iter([data])), str)


def test_holds_no_more_than_it_needs() -> None:
    """However much is fed at once, only what may belong to the header is kept."""
    header = Header()
    assert header.feed(SIGNATURE + b"\x21\x11") is None
    info, rest = header.feed(b"\x00\x0c" + IPV4 + bytes(2**20)) or (None, b"")
    assert info == INFO_4
    assert len(rest) == 2**20
    with pytest.raises(ProxyError, match="longer than"):
        Header().feed(b"PROXY UNKNOWN" + b" " * 2**20)
    assert LINE_LIMIT < HEADER_LIMIT


PORTS = st.integers(0, 65535)


@given(
    hosts=st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4))
    | st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6)),
    ports=st.tuples(PORTS, PORTS),
    values=st.lists(st.tuples(st.integers(4, 255), st.binary(max_size=60)), max_size=6),
    checksum=st.booleans(),
    rest=st.binary(max_size=20),
    data=st.data(),
)
def test_round_trip(
    hosts: tuple[IPv4Address | IPv6Address, IPv4Address | IPv6Address],
    ports: tuple[int, int],
    values: list[tuple[int, bytes]],
    checksum: bool,
    rest: bytes,
    data: st.DataObject,
) -> None:
    """What is written in either version is read again, split anyhow."""
    family = hosts[0].version
    line = f"PROXY TCP{family} {hosts[0]} {hosts[1]} {ports[0]} {ports[1]}\r\n".encode()
    block = b"".join(host.packed for host in hosts) + b"".join(port.to_bytes(2, "big") for port in ports)
    sort = 0x11 if family == 4 else 0x21
    tlvs = b"".join(value(*one) for one in values)
    header = with_checksum(sort, block, tlvs) if checksum else binary(0x21, sort, block + tlvs)
    for written in (line, header):
        whole = written + rest
        at = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
        pieces = [whole[a:b] for a, b in zip([0, *at], [*at, len(whole)], strict=True)]
        found = fed(iter(pieces))
        assert isinstance(found, tuple)
        info, left = found
        assert left == rest
        assert info.source is not None
        assert info.destination is not None
        for told, host, port in zip((info.source, info.destination), hosts, ports, strict=True):
            assert (
                socket.inet_pton(socket.AF_INET if family == 4 else socket.AF_INET6, told[0]) == host.packed
            )
            assert told[1] == port


STARTS = st.sampled_from(
    [b"", b"PROXY ", b"PROXY TCP4 ", b"PROXY UNKNOWN", SIGNATURE, SIGNATURE + b"\x21\x11\x00"]
)


@given(data=st.builds(bytes.__add__, STARTS, st.binary(max_size=700)), at=st.integers(0, 700))
@example(data=SIGNATURE + b"\x21\x11\x00\x10" + IPV4 + b"\x03\x00\x04", at=20)
def test_garbage(data: bytes, at: int) -> None:
    """Nothing but an answer or a ProxyError, whole, in two pieces or byte by byte."""
    told = fed(iter([data]))
    assert fed(iter([data[:at], data[at:]])) == told
    assert fed(data[index : index + 1] for index in range(len(data))) == told


def test_checksum() -> None:
    """The known check value of CRC-32C, and one of RFC 3720's examples (B.4)."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"") == 0
