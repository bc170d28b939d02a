"""What will run: the file with every name resolved and every default filled in, frozen and comparable."""

from dataclasses import dataclass
from pathlib import Path

from sockd.addresses import Address
from sockd.errors import Place
from sockd.protocols.contract import Options, Specification
from sockd.transports.options import Keepalive, SocketOptions
from sockd.units import Rate


@dataclass(frozen=True)
class Directories:
    """Where relative paths lead: sockets to `runtime`, line-log's files to `logs`."""

    runtime: Path
    logs: Path


@dataclass(frozen=True)
class Limits:
    connections: int
    idle: float | None  # seconds; None is off
    stall: float | None
    datagrams: Rate | None
    datagrams_per_source: Rate | None


@dataclass(frozen=True)
class Restart:
    delay: float  # seconds before the first new try; doubles
    max_delay: float


@dataclass(frozen=True)
class ListenerPlan:
    address: Address
    socket: SocketOptions


@dataclass(frozen=True)
class EndpointPlan:
    name: str
    protocol: str
    specification: Specification
    options: Options
    limits: Limits
    restart: Restart
    give_up_after: float | None  # seconds; None: not required
    listeners: tuple[ListenerPlan, ...]
    place: Place


@dataclass(frozen=True)
class LogPlan:
    level: str  # debug, info, warn, error, critical
    format: str  # auto, text, json, journal


@dataclass(frozen=True)
class Plan:
    file: Path
    drain: float  # seconds
    log: LogPlan
    endpoints: tuple[EndpointPlan, ...]
