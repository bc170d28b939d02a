"""Which keys of `socket`, `limits`, `access` and `proxy_protocol` mean something for which addresses.

The tables say it once, for the check of the file, for what is printed, and for what a reload changes.
"""

from collections.abc import Iterable
from typing import Any

from sockd.base.addresses import Address, Kind
from sockd.config import model
from sockd.protocols.contract import Specification
from sockd.transports.sockets.options import Keepalive, SocketOptions

_STREAMS = frozenset(kind for kind in Kind if kind.stream)
_DATAGRAMS = frozenset(kind for kind in Kind if kind.datagram)
_INET = frozenset(kind for kind in Kind if kind.inet)
_LOCAL = frozenset(kind for kind in Kind if kind.local)
_TCP = frozenset({Kind.TCP, Kind.TLS, Kind.SYSTEMD})  # whose connections may be TCP
_PEERS_WITH_IP = _INET | {Kind.SYSTEMD}
_PEERS_WITH_UID = _LOCAL | {Kind.SYSTEMD}

_SOCKET = {
    "backlog": _STREAMS - {Kind.SYSTEMD},
    "keepalive": _TCP,
    "nodelay": _TCP,
    "reuse_port": _INET,
    "receive_buffer": _INET,  # the kernel charges a Unix socket's data to its sender
    "mode": _LOCAL,
    "user": _LOCAL,
    "group": _LOCAL,
}
_LIMITS = {
    "connections": _STREAMS,
    "idle": _STREAMS,
    "stall": _STREAMS,
    "unsent": _STREAMS,
    "datagrams": _DATAGRAMS,
    "datagrams_per_source": _DATAGRAMS,
    "connections_per_source": _STREAMS,
    "connect_rate": _STREAMS,
    "handshake": _TCP,
    "first_byte": _STREAMS,
    "lifetime": _STREAMS,
    "exempt": _PEERS_WITH_IP,
}
_GUARDS = {
    "allow": _PEERS_WITH_IP,
    "deny": _PEERS_WITH_IP,
    "users": _PEERS_WITH_UID,
    "groups": _PEERS_WITH_UID,
    "from": _TCP,
}
_ALL = _SOCKET | _LIMITS | _GUARDS


def speaks(specification: Specification, kind: Kind) -> bool:
    """Whether the protocol serves what arrives at addresses of this kind, or some of it."""
    streams = kind.stream and specification.stream is not None
    return streams or (kind.datagram and specification.datagram is not None)


def socket_key(key: str, address: Address) -> bool:
    """Whether this key of `socket` means something for the address."""
    if address.abstract and key in ("mode", "user", "group"):
        return False  # an abstract name has no file
    return address.kind in _SOCKET[key]


def limit(key: str, addresses: Iterable[Address]) -> bool:
    """Whether this key of `limits` means something for any of the addresses."""
    return any(address.kind in _LIMITS[key] for address in addresses)


def guard(key: str, addresses: Iterable[Address]) -> bool:
    """Whether this key of `access` or `proxy_protocol` means something for any of the addresses."""
    return any(address.kind in _GUARDS[key] for address in addresses)


def why_not(key: str, address: Address | None = None) -> str:
    """The reason that a key means nothing for an address, or for any address of an endpoint, in words."""
    *most, last = (kind for kind in Kind if kind in _ALL[key])
    kinds = f"{', '.join(most)} and {last}" if most else last
    if address is None:
        wanted = "one" if most else f"a {last}:// address"
        return f"this is for {kinds}, and the endpoint has no such address: remove it, or listen on {wanted}"
    if address.kind in _ALL[key]:
        return f"this is for sockets with a file, and {address} has none"
    if address.kind is Kind.SYSTEMD:
        return f"this is for {kinds}: for {address} it is set in the .socket unit"
    return f"this is for {kinds}, not for {address.kind}"


def socket_options(
    options: model.Socket, address: Address, user: int | None, group: int | None
) -> SocketOptions:
    """Socket options as they apply to the address; the others have their defaults."""
    usual = model.Socket()
    values: dict[str, Any] = {}  # Any: each has a type of its own
    for key in model.Socket.model_fields:
        values[key] = getattr(options if socket_key(key, address) else usual, key)
    keepalive = values["keepalive"]
    if keepalive is not None:
        values["keepalive"] = Keepalive(int(keepalive.idle), int(keepalive.interval), keepalive.count)
    return SocketOptions(**values | {"user": user, "group": group})
