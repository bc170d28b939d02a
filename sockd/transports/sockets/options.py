"""A socket's own options, resolved: what `socket` in the file comes to."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Keepalive:
    """When the kernel asks a silent TCP peer whether it is still there."""

    idle: int  # seconds, as are intervals
    interval: int
    count: int


@dataclass(frozen=True)
class SocketOptions:
    """Set before anybody can connect; what doesn't apply to a kind of socket is not looked at."""

    backlog: int = 1024
    keepalive: Keepalive | None = None
    nodelay: bool = True
    reuse_port: bool = False
    receive_buffer: int | None = None  # bytes; None leaves the kernel's
    mode: int = 0o660  # Unix sockets' file mode
    user: int | None = None  # uid; None leaves the creator's
    group: int | None = None
