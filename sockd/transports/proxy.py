"""The header in which a proxy names the client that it connects for: haproxy's PROXY protocol.

Versions 1 and 2, after doc/proxy-protocol.txt of haproxy, sections 2.1 and 2.2.
"""

import re
import socket
import struct
from dataclasses import dataclass

_POLYNOMIAL = 0x82F63B78  # of CRC-32C (RFC 3720, 12.1), with its bits reversed


def _entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE = tuple(_entry(byte) for byte in range(256))


def crc32c(data: bytes) -> int:
    """The checksum of a few hundred bytes at most: this is slow, and the standard library has no other."""
    crc = 0xFFFF_FFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFF_FFFF


# Bytes of a line of version 1 at most, its CRLF included.
LINE_LIMIT = 107
# Bytes that may follow the first 16 of version 2. haproxy stays below 536, the MSS that fits any network.
BLOCK_LIMIT = 536
HEADER_LIMIT = 16 + BLOCK_LIMIT

_V1 = b"PROXY "
_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_NOT_IN_LINE = re.compile(rb"[^ -~]")
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")
_FAMILIES_V1 = {"TCP4": socket.AF_INET, "TCP6": socket.AF_INET6}
_LOCAL, _PROXY = 0x20, 0x21  # version 2, and the command
# Of the families whose connections are streams: the bytes of both addresses, with the ports.
_UNSPEC, _TCP4, _TCP6, _UNIX = 0x00, 0x11, 0x21, 0x31
_ADDRESSES = {_UNSPEC: 0, _TCP4: 12, _TCP6: 36, _UNIX: 216}
_DATAGRAMS = (0x12, 0x22, 0x32)
_CRC32C = 0x03  # the type of the value that holds a checksum of the header

Inet = tuple[str, int]


class ProxyError(Exception):
    """What is wrong with a header, in one line without a byte of the peer's."""


@dataclass(frozen=True, slots=True)
class ProxyInfo:
    """Host and port of the client, and of the address that it connected to.

    They are None where the proxy doesn't say (UNKNOWN, UNSPEC, a Unix socket) or connects for itself (LOCAL):
    then the proxy itself is the peer.
    """

    source: Inet | None = None
    destination: Inet | None = None


class Header:
    """Collects the first bytes of a connection, however they are split, until the header is complete."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = b""

    def feed(self, data: bytes) -> tuple[ProxyInfo, bytes] | None:
        """What the header says and the bytes after it, once it is complete; None before.

        ProxyError as soon as the bytes can't become a header. At most HEADER_LIMIT bytes are `held`.
        """
        held = self.held + data[: HEADER_LIMIT - len(self.held)]
        found = _parse(held)
        if found is None:
            self.held = held
            return None
        info, size = found
        return info, data[size - len(self.held) :]


def _parse(held: bytes) -> tuple[ProxyInfo, int] | None:
    """What a header says and its length. A verdict depends on no byte after those that decide it."""
    if held.startswith(_V1):
        return _parse_line(held)
    if held.startswith(_V2):
        return _parse_binary(held)
    if _V1.startswith(held) or _V2.startswith(held):
        return None
    raise ProxyError("no PROXY header")


# -- version 1


def _parse_line(held: bytes) -> tuple[ProxyInfo, int] | None:
    held = held[:LINE_LIMIT]
    end = _NOT_IN_LINE.search(held)
    if end is None or held[end.start() :] == b"\r":
        if len(held) == LINE_LIMIT:
            raise ProxyError(f"the line is longer than {LINE_LIMIT} bytes")
        return None
    if not held.startswith(b"\r\n", end.start()):
        raise ProxyError("a byte that can't be in the line, or an end of line that is not CRLF")
    return _line_info(held[len(_V1) : end.start()].decode("ascii")), end.start() + 2


def _line_info(line: str) -> ProxyInfo:
    words = line.split(" ")
    if words[0] == "UNKNOWN":
        return ProxyInfo()  # the rest of the line is to be ignored
    family = _FAMILIES_V1.get(words[0])
    if family is None:
        raise ProxyError("neither TCP4 nor TCP6 nor UNKNOWN")
    if len(words) != 5:
        raise ProxyError("not two addresses and two ports, one space apart")
    hosts = [_host(family, word) for word in words[1:3]]
    ports = [_port(word) for word in words[3:]]
    return ProxyInfo((hosts[0], ports[0]), (hosts[1], ports[1]))


def _host(family: socket.AddressFamily, word: str) -> str:
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, word))
    except OSError:
        raise ProxyError("an address that is none of this family") from None


def _port(word: str) -> int:
    if not _PORT.fullmatch(word) or int(word) > 65535:
        raise ProxyError("a port that is no number from 0 to 65535")
    return int(word)


# -- version 2


def _parse_binary(held: bytes) -> tuple[ProxyInfo, int] | None:
    command, family = (*held[12:14], None, None)[:2]
    if command is None:
        return None
    if command not in (_LOCAL, _PROXY):
        raise ProxyError(
            "neither LOCAL nor PROXY" if command >> 4 == 2 else f"version {command >> 4} of the binary header"
        )
    if family is None:
        return None
    if command == _PROXY and family not in _ADDRESSES:
        raise ProxyError("a family of datagrams" if family in _DATAGRAMS else "a family that is not defined")
    if len(held) < 16:
        return None
    size = 16 + int.from_bytes(held[14:16], "big")
    if size > HEADER_LIMIT:
        raise ProxyError(f"a header of {size} bytes, more than {HEADER_LIMIT}")
    addresses = _ADDRESSES[family] if command == _PROXY else 0
    if size < 16 + addresses:
        raise ProxyError("too short for the addresses of its family")
    if len(held) < size:
        return None
    if command == _LOCAL:
        return ProxyInfo(), size  # the rest of the header is to be ignored
    _check_values(held[:size], 16 + addresses)
    return _binary_info(family, held[16 : 16 + addresses]), size


def _binary_info(family: int, addresses: bytes) -> ProxyInfo:
    if family == _TCP4:
        source, destination, *ports = struct.unpack("!4s4sHH", addresses)
        inet = socket.AF_INET
    elif family == _TCP6:
        source, destination, *ports = struct.unpack("!16s16sHH", addresses)
        inet = socket.AF_INET6
    else:
        return ProxyInfo()
    hosts = [socket.inet_ntop(inet, address) for address in (source, destination)]
    return ProxyInfo((hosts[0], ports[0]), (hosts[1], ports[1]))


def _check_values(header: bytes, at: int) -> None:
    """Check the header's values, each a type, a length (2 bytes) and that many bytes; and the checksum."""
    checked = False
    while at < len(header):
        start = at + 3
        at = start + int.from_bytes(header[at + 1 : start], "big")
        if start > len(header) or at > len(header):
            raise ProxyError("a value that goes beyond the header")
        if header[start - 3] == _CRC32C:
            if checked or at - start != 4:
                raise ProxyError("more than one checksum, or one that is not of 4 bytes")
            checked = True
            if crc32c(header[:start] + bytes(4) + header[at:]) != int.from_bytes(header[start:at], "big"):
                raise ProxyError("the checksum is wrong")
