"""An open socket that waits for peers: how it is opened, and changed while it is open."""

import os
import socket
from dataclasses import dataclass, replace

from sockd.base.account import Account
from sockd.base.addresses import WILDCARDS, Address, Kind
from sockd.transports.sockets.inet import OpenError, ask_for_destination, keep_alive, open_inet, read_urgent
from sockd.transports.sockets.options import SocketOptions
from sockd.transports.sockets.unix import SocketFile, ask_for_credentials, open_unix


@dataclass(eq=False)
class Opened:
    """A socket and its actual address, whose port is never 0.

    `file` is the file of a Unix socket that we bound to a path. A socket that is not `ours` belongs to a
    .socket unit of systemd's: its mode, backlog and file are left alone, and it is never shut down.
    """

    sock: socket.socket
    address: Address
    file: SocketFile | None = None
    ours: bool = True

    def duplicate(self) -> "Opened":
        """The same socket under another number: closing one leaves the other open."""
        return replace(self, sock=self.sock.dup())


def open_address(address: Address, options: SocketOptions, user: Account | None = None) -> Opened:
    """A bound socket, which listens if it is a stream socket; OpenError where the address is refused.

    `user` is the one that the daemon, while it is root, is going to be.
    """
    if address.kind.local:
        sock, file = open_unix(address, options, user)
        return Opened(sock, address, file)
    sock = open_inet(address, options)
    return Opened(sock, replace(address, port=sock.getsockname()[1]))


def retunable(old: SocketOptions, new: SocketOptions) -> bool:
    """Whether an open socket can change from the old options to the new ones.

    It can't where bind(2) reads the option, and a receive buffer that was set never becomes the kernel's own
    again (tcp(7)).
    """
    return old.reuse_port == new.reuse_port and (new.receive_buffer is not None or old.receive_buffer is None)


def tune(opened: Opened, old: SocketOptions | None, new: SocketOptions) -> None:
    """Change an open socket's options, for later connections; OpenError where the kernel refuses one.

    `old` are the options that it has; None where they are not known. A socket that isn't ours gets those of
    TCP connections alone: all others are the .socket unit's.
    """
    sock = opened.sock
    try:
        if opened.address.kind.ports is Kind.TCP:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, new.nodelay)
            read_urgent(sock)
            keep_alive(sock, new.keepalive)
        if not opened.ours:
            return
        if new.receive_buffer is not None and not opened.address.kind.local:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, new.receive_buffer)
        if opened.address.kind.stream and (old is None or old.backlog != new.backlog):
            sock.listen(new.backlog)  # a second call sets the backlog (listen(2))
        if opened.file is not None and opened.file.there():
            _set_file(opened.file, old, new)
    except OSError as error:
        raise OpenError(error.strerror or str(error)) from error


def _set_file(file: SocketFile, old: SocketOptions | None, new: SocketOptions) -> None:
    """Set the owner, group and mode of a socket file, where they change."""
    uid, gid = new.user, new.group
    if old is not None:
        uid = None if old.user == new.user else os.geteuid() if uid is None else uid
        gid = None if old.group == new.group else os.getegid() if gid is None else gid
    file.change(uid, gid, None if old is not None and old.mode == new.mode else new.mode)


def shares(opened: Opened) -> bool:
    """Whether it was bound with `reuse_port`."""
    return bool(opened.sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))


def equip(opened: Opened) -> None:
    """Set the options that sockd needs on a datagram socket that another program opened."""
    sock, address = opened.sock, opened.address
    if address.kind is Kind.UNIXGRAM:
        ask_for_credentials(sock)
    elif address.kind is Kind.UDP and address.host in WILDCARDS:
        ask_for_destination(sock, sock.family)
