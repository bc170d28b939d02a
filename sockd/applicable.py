"""Which keys of `socket` and `limits` mean something for which addresses."""

from collections.abc import Iterable

from sockd.addresses import Address, Kind

_STREAMS = frozenset(kind for kind in Kind if kind.stream)
_DATAGRAMS = frozenset(Kind) - _STREAMS
_INET = frozenset({Kind.TCP, Kind.UDP})
_LOCAL = frozenset(Kind) - _INET

_SOCKET = {
    "backlog": _STREAMS,
    "keepalive": frozenset({Kind.TCP}),
    "nodelay": frozenset({Kind.TCP}),
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
    "datagrams": _DATAGRAMS,
    "datagrams_per_source": _DATAGRAMS,
}


def socket_key(key: str, address: Address) -> bool:
    """Whether this key of `socket` means something for the address."""
    if address.path.startswith("@") and key in ("mode", "user", "group"):
        return False  # an abstract name has no file
    return address.kind in _SOCKET[key]


def limit(key: str, addresses: Iterable[Address]) -> bool:
    """Whether this key of `limits` means something for any of the addresses."""
    return any(address.kind in _LIMITS[key] for address in addresses)


def why_not(key: str, address: Address | None = None) -> str:
    """Why a key means nothing for an address, or for any address of an endpoint, in words."""
    kinds = " and ".join(kind for kind in Kind if kind in (_SOCKET | _LIMITS)[key])
    if address is None:
        return f"this is for {kinds}, and the endpoint has no such address"
    if address.kind in (_SOCKET | _LIMITS)[key]:
        return f"this is for sockets with a file, and {address} has none"
    return f"this is for {kinds}, not for {address.kind}"
