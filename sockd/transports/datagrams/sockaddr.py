"""Addresses and ancillary data in the kernel's layout, to and from the forms of Python's socket module."""

import os
import socket
import struct

from sockd.base.peers import Ancillary, Sockaddr

_FAMILY = struct.Struct("=H")  # every sockaddr begins with it
_IPV4 = struct.Struct("=H2s4s8x")  # sockaddr_in (ip(7)): port and address as they are on the wire
_IPV6 = struct.Struct("=H2s4s16sI")  # sockaddr_in6 (ipv6(7)): the flow's label too; the interface's number
_CMSG = struct.Struct("@Nii")  # cmsghdr (cmsg(3)): its length with this header, level, type

NOT_PACKED = (AttributeError, OSError, OverflowError, TypeError, ValueError, struct.error)
NAME_SIZE = 112  # bytes: sockaddr_un, and a zero where the path has 108


def pack_address(sockaddr: Sockaddr) -> bytes:
    """The bytes that `sendto` would pass for this address; NOT_PACKED where it is none."""
    if not isinstance(sockaddr, tuple):
        path = os.fsencode(sockaddr)
        return _FAMILY.pack(socket.AF_UNIX) + (path if path.startswith(b"\0") else path + b"\0")
    host, port = sockaddr[:2]
    if len(sockaddr) == 2:
        return _IPV4.pack(socket.AF_INET, port.to_bytes(2, "big"), socket.inet_pton(socket.AF_INET, host))
    _, _, flow, interface = sockaddr
    address = socket.inet_pton(socket.AF_INET6, host)
    return _IPV6.pack(socket.AF_INET6, port.to_bytes(2, "big"), flow.to_bytes(4, "big"), address, interface)


def unpack_address(name: bytes) -> Sockaddr:
    """The address that `recvfrom` would return; None for a Unix sender that is not bound."""
    if len(name) <= _FAMILY.size:
        return None
    (family,) = _FAMILY.unpack_from(name)
    if family == socket.AF_INET:
        _, port, address = _IPV4.unpack(name)
        return socket.inet_ntop(family, address), int.from_bytes(port, "big")
    if family == socket.AF_INET6:
        _, port, flow, address, interface = _IPV6.unpack(name)
        return (
            socket.inet_ntop(family, address),
            int.from_bytes(port, "big"),
            int.from_bytes(flow, "big"),
            interface,
        )
    path = name[_FAMILY.size :]
    return path if path.startswith(b"\0") else os.fsdecode(path.partition(b"\0")[0])


def pack_control(ancillary: Ancillary) -> bytes:
    """The bytes that `sendmsg` would pass."""
    return b"".join(
        _CMSG.pack(socket.CMSG_LEN(len(data)), level, kind)
        + data.ljust(socket.CMSG_SPACE(len(data)) - _CMSG.size, b"\0")
        for level, kind, data in ancillary
    )


def unpack_control(control: bytes) -> Ancillary:
    """What `recvmsg` would return; zeros end it."""
    ancillary = []
    at = 0
    while len(control) - at >= _CMSG.size:
        length, level, kind = _CMSG.unpack_from(control, at)
        if length < _CMSG.size:
            break
        ancillary.append((level, kind, control[at + _CMSG.size : at + length]))
        at += socket.CMSG_SPACE(length - _CMSG.size)
    return tuple(ancillary)
