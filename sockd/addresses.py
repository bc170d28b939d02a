"""Where bytes arrive, written as a URL: `tcp://127.0.0.1:7007`, `unix://echo.sock`."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    TCP = "tcp"
    UDP = "udp"
    UNIX = "unix"
    UNIXGRAM = "unixgram"

    @property
    def stream(self) -> bool:
        return self in (Kind.TCP, Kind.UNIX)

    @property
    def local(self) -> bool:
        """A Unix socket of either sort."""
        return self in (Kind.UNIX, Kind.UNIXGRAM)


@dataclass(frozen=True, order=True, slots=True)
class Address:
    """One address: `host` and `port` (host is a canonical literal or `*`), or a Unix `path` (or `@name`)."""

    kind: Kind
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.kind.local:
            return f"{self.kind}://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.kind}://{host}:{self.port}"
