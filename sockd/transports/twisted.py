"""The addresses and options that Twisted's interfaces ask of a socket."""

import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress


def twisted_address(family: int, sockaddr: Any) -> IPv4Address | IPv6Address | UNIXAddress:
    """A socket's address as Twisted's protocols expect it."""
    if family == socket.AF_UNIX:
        return UNIXAddress(sockaddr or None)
    host, port, *rest = sockaddr or ("0.0.0.0", 0)
    if ":" not in host:
        return IPv4Address("TCP", host, port)
    return IPv6Address("TCP", host, port, *rest)
