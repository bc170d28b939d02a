"""An open socket that waits for peers: opened here, or handed to us open; changed while it is open."""

import os
import socket
from dataclasses import dataclass, replace

from sockd.base.addresses import WILDCARDS, Address, Kind
from sockd.transports.sockets.inet import OpenError, ask_for_destination, keep_alive, open_inet
from sockd.transports.sockets.options import SocketOptions
from sockd.transports.sockets.unix import SocketFile, ask_for_credentials, open_unix


@dataclass(eq=False)
class Opened:
    """A socket and the address that it really has: its port is never 0.

    `file` is the file of a Unix socket with a path that we bound. One that is not `ours` belongs to a .socket
    unit of systemd's: it is never chmodded, listened on anew, shut down, and its file is never removed.
    """

    sock: socket.socket
    address: Address
    file: SocketFile | None = None
    ours: bool = True

    def duplicate(self) -> "Opened":
        """The same socket under another number: closing one leaves the other open."""
        return replace(self, sock=self.sock.dup())


def open_address(address: Address, options: SocketOptions) -> Opened:
    """A bound socket, stream ones listening; OpenError where the address can't be had."""
    if address.kind.local:
        sock, file = open_unix(address, options)
        return Opened(sock, address, file)
    sock = open_inet(address, options)
    return Opened(sock, replace(address, port=sock.getsockname()[1]))


def retunable(old: SocketOptions, new: SocketOptions) -> bool:
    """Whether an open socket can go over from the old options to the new ones.

    Not where bind(2) looks at them, and a receive buffer once set is never the kernel's again (tcp(7)).
    """
    return old.reuse_port == new.reuse_port and (new.receive_buffer is not None or old.receive_buffer is None)


def tune(opened: Opened, old: SocketOptions | None, new: SocketOptions) -> None:
    """Change an open socket's options, for later connections; OpenError where the kernel refuses one.

    `old` are those that it has, None where they are not known.
    """
    if not opened.ours:
        return
    sock = opened.sock
    try:
        if opened.address.kind.ports is Kind.TCP:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, new.nodelay)
            keep_alive(sock, new.keepalive)
        if new.receive_buffer is not None and not opened.address.kind.local:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, new.receive_buffer)
        if opened.address.kind.stream and (old is None or old.backlog != new.backlog):
            sock.listen(new.backlog)  # once more sets the backlog (listen(2))
        if opened.file is not None and opened.file.there():
            _give(opened.file.path, old, new)
    except OSError as error:
        raise OpenError(error.strerror or str(error)) from error


def _give(path: str, old: SocketOptions | None, new: SocketOptions) -> None:
    if old is None:
        if new.user is not None or new.group is not None:
            os.chown(path, -1 if new.user is None else new.user, -1 if new.group is None else new.group)
    elif (old.user, old.group) != (new.user, new.group):
        uid = os.geteuid() if new.user is None else new.user
        gid = os.getegid() if new.group is None else new.group
        os.chown(path, uid if old.user != new.user else -1, gid if old.group != new.group else -1)
    if old is None or old.mode != new.mode:
        os.chmod(path, new.mode)


def shares(opened: Opened) -> bool:
    """Whether it was bound with `reuse_port`."""
    return bool(opened.sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))


def equip(opened: Opened) -> None:
    """Have a datagram socket that somebody else opened tell what sockd asks of one."""
    sock, address = opened.sock, opened.address
    if address.kind is Kind.UNIXGRAM:
        ask_for_credentials(sock)
    elif address.kind is Kind.UDP and address.host in WILDCARDS:
        ask_for_destination(sock, sock.family)
