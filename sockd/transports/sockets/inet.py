"""TCP and UDP sockets, bound and set up before a peer can reach them."""

import errno
import socket

from sockd.base.addresses import WILDCARDS, Address
from sockd.base.errors import SockdError
from sockd.transports.sockets.options import Keepalive, SocketOptions

# Linux's number (linux/in.h), for which Python 3.11 has no name.
IP_PKTINFO = 8
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class OpenError(SockdError):
    """Why an address can't be opened now, in words that say what to do."""


def open_inet(address: Address, options: SocketOptions) -> socket.socket:
    """A bound socket, which listens if it is TCP. OpenError where the kernel refuses the address.

    `*` is one IPv6 socket that takes IPv4 as well, or an IPv4 socket where the machine has no IPv6.
    """
    if address.host != "*":
        return _open(address, address.host, options)
    try:
        return _open(address, "::", options)
    except OpenError as error:
        if not isinstance(error.__cause__, OSError) or error.__cause__.errno not in _NO_IPV6:
            raise
    return _open(address, "0.0.0.0", options)


def _open(address: Address, host: str, options: SocketOptions) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    stream = address.kind.stream
    sock = None
    try:
        sock = socket.socket(family, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address.host != "*")
        if options.reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if options.receive_buffer is not None:
            # Before listen: the window's scale is fixed when a connection opens (tcp(7)).
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, options.receive_buffer)
        if stream:
            _set_up_stream(sock, options)
        elif host in WILDCARDS:
            ask_for_destination(sock, family)
        sock.bind(_sockaddr(host, address.port))
        if stream:
            sock.listen(options.backlog)
    except OSError as error:
        if sock is not None:
            sock.close()
        raise OpenError(explain(error, address)) from error
    return sock


def _set_up_stream(sock: socket.socket, options: SocketOptions) -> None:
    """Set the options that accepted connections inherit from the listening socket."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, options.nodelay)
    read_urgent(sock)
    keep_alive(sock, options.keepalive)


def read_urgent(sock: socket.socket) -> None:
    """Have urgent bytes, such as telnet's Synch, read in their place: the kernel drops them otherwise."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)


def keep_alive(sock: socket.socket, keepalive: Keepalive | None) -> None:
    """Set whether the kernel asks silent peers if they are still there."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, keepalive is not None)
    if keepalive is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, keepalive.idle)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, keepalive.interval)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, keepalive.count)


def ask_for_destination(sock: socket.socket, family: int) -> None:
    """Have the kernel say which of the machine's addresses was sent to, so that the reply leaves from it."""
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)


def _sockaddr(host: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    if ":" not in host:
        return host, port
    return host, port, 0, 0


def explain(error: OSError, address: Address) -> str:
    """The kernel's reason in words that say what to do."""
    if error.errno == errno.EADDRINUSE:
        return "the address is in use by another program"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"this machine has no address {address.host}"
    if error.errno == errno.EACCES and address.port and address.port < 1024:
        return "ports below 1024 need root or CAP_NET_BIND_SERVICE"
    return error.strerror or str(error)
