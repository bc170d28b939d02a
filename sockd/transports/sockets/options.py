"""A socket's options, resolved from the `socket` section of the file."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Keepalive:
    """When the kernel asks a silent TCP peer whether it is still there."""

    idle: int  # seconds, as are intervals
    interval: int
    count: int


@dataclass(frozen=True)
class SocketOptions:
    """Set before a peer can connect; options that don't apply to a kind of socket are ignored."""

    backlog: int = 1024
    keepalive: Keepalive | None = None
    nodelay: bool = True
    reuse_port: bool = False
    receive_buffer: int | None = None  # bytes; None leaves the kernel's
    mode: int = 0o660  # Unix sockets' file mode
    user: int | None = None  # uid; None leaves the creator's
    group: int | None = None
