"""The sockets that systemd passed to this process.

They come from .socket units (sd_listen_fds(3)), or from the fd store, where sockd had systemd keep them:
store.py.
"""

import fcntl
import os
import socket
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path

from sockd.base.addresses import Address, Kind
from sockd.base.text import visible
from sockd.base.units import counted
from sockd.transports.sockets.unix import SocketFile

STORED_PREFIX = "sockd-listener-"  # begins the names of sockets in the fd store
FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START of sd_listen_fds(3)
SOCKET_LIMIT = 65_536  # a larger number is a mistake, for which there are no 65,536 lines in the log
UNNAMED = "unknown"  # what sd_listen_fds_with_names(3) calls those without a name
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
_KINDS = {
    (socket.AF_INET, socket.SOCK_STREAM): Kind.TCP,
    (socket.AF_INET6, socket.SOCK_STREAM): Kind.TCP,
    (socket.AF_INET, socket.SOCK_DGRAM): Kind.UDP,
    (socket.AF_INET6, socket.SOCK_DGRAM): Kind.UDP,
    (socket.AF_UNIX, socket.SOCK_STREAM): Kind.UNIX,
    (socket.AF_UNIX, socket.SOCK_DGRAM): Kind.UNIXGRAM,
}
# SocketProtocol= of a .socket unit may also say sctp or udplite.
_PROTOCOLS = {
    Kind.TCP: (socket.IPPROTO_TCP, socket.IPPROTO_MPTCP),
    Kind.UDP: (socket.IPPROTO_UDP,),
}


@dataclass
class Inherited:
    """Sockets of .socket units by their names, those of the fd store, and what was wrong, in lines.

    All are in the order of their descriptors.
    """

    named: dict[str, list[socket.socket]] = field(default_factory=dict)
    stored: list[tuple[str, socket.socket]] = field(default_factory=list)  # with their names
    problems: list[str] = field(default_factory=list)


def environment_at_exec() -> bytes:
    """The environment that the kernel passed to this program; empty where there is no proc(5)."""
    try:
        return Path("/proc/self/environ").read_bytes()
    except OSError:
        return b""


def take(environ: MutableMapping[str, str], pid: int, initial: bytes) -> Inherited:
    """The sockets that were passed to the process `pid`, non-blocking and hidden from its children.

    `initial` is the environment at exec, which counts before `environ`: importing twisted.internet.endpoints
    removes LISTEN_PID and LISTEN_FDS from os.environ. The variables are removed from `environ`. Sockets are
    taken once: a second call finds none.
    """
    said = _listen_variables(initial)
    if "LISTEN_FDS" not in said:
        said = {name: _text(os.fsencode(environ[name])) for name in _VARIABLES if name in environ}
    for name in _VARIABLES:
        environ.pop(name, None)
    inherited = Inherited()
    if said.get("LISTEN_PID") == str(pid):
        _take(said, inherited)
    return inherited


def _listen_variables(block: bytes) -> dict[str, str]:
    pairs = (entry.partition(b"=") for entry in block.split(b"\0") if entry.startswith(b"LISTEN_"))
    return {_text(name): _text(value) for name, _, value in pairs}


def _text(value: bytes) -> str:
    return visible(value.decode("utf-8", "backslashreplace"))


def _take(said: Mapping[str, str], inherited: Inherited) -> None:
    text = said.get("LISTEN_FDS", "")
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and int(text) <= SOCKET_LIMIT):
        inherited.problems.append(f"LISTEN_FDS={text[:40]} is not a number of sockets")
        return
    count = int(text)
    names = said["LISTEN_FDNAMES"].split(":") if "LISTEN_FDNAMES" in said else [UNNAMED] * count
    if len(names) != count:
        inherited.problems.append(
            f"LISTEN_FDNAMES has {counted(len(names), 'name')} for {counted(count, 'socket')}:"
            " which is whose is not known"
        )
        names = [UNNAMED] * count
    closed = []
    for number, name in enumerate(names, FIRST_DESCRIPTOR):
        try:
            flags = fcntl.fcntl(number, fcntl.F_GETFD)
        except OSError:
            closed.append(number)
            continue
        if not flags & fcntl.FD_CLOEXEC:  # else it didn't come through exec, or was taken before
            _take_one(number, name, inherited)
    if closed:
        more = f", nor are {len(closed) - 1} more" if len(closed) > 1 else ""
        inherited.problems.append(f"LISTEN_FDS={count}, but file descriptor {closed[0]} is not open{more}")


def _take_one(number: int, name: str, inherited: Inherited) -> None:
    os.set_inheritable(number, False)
    try:
        sock = socket.socket(fileno=number)
    except OSError:
        inherited.problems.append(f"file descriptor {number}, named {name[:255]}, is not a socket")
        return
    sock.setblocking(False)
    if name.startswith(STORED_PREFIX):
        inherited.stored.append((name, sock))
    else:
        inherited.named.setdefault(name, []).append(sock)


def stored_name(sock: socket.socket, file: SocketFile | None) -> str:
    """The name under which systemd keeps this socket: the same in every process that has it.

    For a Unix socket it says which file leads to it: when it comes back, another file may have its path.
    """
    name = f"{STORED_PREFIX}{os.fstat(sock.fileno()).st_ino}"
    return name if file is None else f"{name}-{file.device}-{file.inode}"


def stored_file(name: str, path: str) -> SocketFile | None:
    """The file of a Unix socket that came back under this name; None where the name has none."""
    parts = name.removeprefix(STORED_PREFIX).split("-")
    if len(parts) == 3 and parts[1].isdecimal() and parts[2].isdecimal():
        return SocketFile(path, int(parts[1]), int(parts[2]))
    return None


def address_of(sock: socket.socket) -> Address:
    """Where this socket listens; ValueError, with the reason, where sockd can't serve it.

    An IPv6 socket that takes IPv4 as well is `*`, as in the file; one bound to an IPv4 address within IPv6
    has that address.
    """
    kind = _kind(sock)
    if kind.stream and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ValueError("it is not a listening socket: its .socket unit needs Accept=no")
    name = sock.getsockname()
    if kind.local:
        if not name:
            raise ValueError("it has no address")
        # Addresses in the file are printable: another one can't be meant there, only be shown.
        path = os.fsencode(name)
        return Address(kind, path=_text(b"@" + path[1:] if path.startswith(b"\0") else path))
    host, port = name[:2]
    if not port:
        raise ValueError("it has no address")
    return Address(kind, _host(sock, host), port)


def _kind(sock: socket.socket) -> Kind:
    kind = _KINDS.get((sock.family, sock.type))
    if kind is not None:
        protocol = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL)
        if protocol in _PROTOCOLS.get(kind, (protocol,)):
            return kind
    raise ValueError("it is neither TCP, UDP, a Unix stream nor a Unix datagram socket")


def _host(sock: socket.socket, host: str) -> str:
    if sock.family == socket.AF_INET:
        return host
    literal = IPv6Address(host.partition("%")[0])
    if literal.is_unspecified and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        return "*"
    return str(literal.ipv4_mapped or literal)
