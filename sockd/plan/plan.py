"""What will run: the file with every name looked up and every default filled in, frozen and comparable.

Where the file's own value says it all, as with `restart`, the plan holds that. Where a name leads to
something else, like a user to a number or a path to a certificate, it holds what the name leads to.
"""

from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from sockd.base.addresses import Address
from sockd.base.errors import Place, Problem
from sockd.base.units import Rate
from sockd.config.model import EndpointLog, Restart
from sockd.protocols.contract import Options, Specification
from sockd.transports.sockets.options import SocketOptions

Network = IPv4Network | IPv6Network


@dataclass(frozen=True)
class Limits:
    """The file's `limits`, for code that runs with each connection and each sweep.

    The section itself would do but for its cost: it is a pydantic model, whose attributes take three times as
    long to read (170 ns and not 60), and a sweep reads six of them for each connection.
    """

    connections: int
    idle: float | None  # seconds, as are all times; None is off
    stall: float | None
    datagrams: Rate | None
    datagrams_per_source: Rate | None
    connections_per_source: int | None = None
    connect_rate: Rate | None = None  # of one source
    handshake: float = 10.0
    first_byte: float | None = None
    lifetime: float | None = None
    unsent: int = 16 * 1024 * 1024  # bytes
    exempt: tuple[Network, ...] = ()  # the limits of one source don't apply to peers in these


@dataclass(frozen=True)
class ListenerPlan:
    """One address of an endpoint, and the options of its socket."""

    address: Address
    socket: SocketOptions
    tls: bool = False  # its connections begin with a handshake


@dataclass(frozen=True)
class CertificatePlan:
    """A certificate, what it is good for, and its key. Equal contents are equal, whatever their files."""

    names: tuple[str, ...]  # DNS names in lower case, some with a wildcard, and IP addresses as text
    not_after: float  # wall clock
    fingerprint: str  # SHA-256 in hexadecimal
    chain: bytes = field(repr=False)  # PEM: the certificate, then those of its issuers
    key: bytes = field(repr=False)  # PEM, not encrypted
    file: Path = field(compare=False)
    key_file: Path | None = field(default=None, compare=False)


@dataclass(frozen=True)
class TlsPlan:
    """What an endpoint's TLS addresses show to peers, and ask of them."""

    certificates: tuple[CertificatePlan, ...]  # the first is for peers that ask for none of their names
    client_ca: bytes | None = field(repr=False)  # PEM; None asks for no certificate
    client_names: tuple[str, ...]  # one of which a client's certificate is for; empty: any
    min_version: str  # 1.2 or 1.3
    alpn: tuple[str, ...] = ()  # the protocols to agree on; empty: what the hosted protocol speaks
    recheck: float | None = None  # seconds between two looks at the certificates of connected clients
    names: tuple[str, ...] = field(default=(), compare=False)  # what the certificates were checked for
    client_ca_file: Path | None = field(default=None, compare=False)


@dataclass(frozen=True)
class AccessPlan:
    """Peers that may use an endpoint: without `allow` those that `deny` leaves; without `users` and `groups`
    all on Unix sockets.
    """

    allow: tuple[Network, ...]
    deny: tuple[Network, ...]
    users: frozenset[int]  # of Unix sockets, as are groups
    groups: frozenset[int]


@dataclass(frozen=True)
class EndpointPlan:
    """One endpoint: a protocol, the addresses that it is spoken on, and what holds for its connections."""

    name: str
    protocol: str
    specification: Specification
    options: Options
    limits: Limits
    restart: Restart
    give_up_after: float | None  # seconds; None: not required
    listeners: tuple[ListenerPlan, ...]
    place: Place = field(compare=False)  # of its name in the file
    tls: TlsPlan | None = None
    access: AccessPlan | None = None
    proxy_from: tuple[Network, ...] = ()  # of proxies, whose connections begin with a PROXY header
    log: EndpointLog = field(default_factory=EndpointLog)


@dataclass(frozen=True)
class LogPlan:
    """What the daemon's own log has, and in which form."""

    level: str  # debug, info, warn, error, critical
    format: str  # auto, text, json, journal
    to: str = "auto"  # stdout, stderr, or the absolute path of a file


@dataclass(frozen=True)
class Plan:
    """All that the file asks for. Equal plans run the same, whichever files they were read from."""

    file: Path = field(compare=False)
    drain: float  # seconds
    log: LogPlan
    endpoints: tuple[EndpointPlan, ...]
    control: Address | None = None  # the control socket; None for none
    control_user: int | None = None  # uid that its file gets; None leaves the creator's
    control_group: int | None = None  # gid whose members may use it, as well as root and our own user
    disabled: tuple[EndpointPlan, ...] = ()  # checked like the others, but not run
    warnings: tuple[Problem, ...] = field(default=(), compare=False)  # what is odd, but not wrong

    def run_as(self, uid: int | None, gid: int | None) -> "Plan":
        """The plan of a daemon that is this user once it has bound: Unix sockets are to be that user's."""
        endpoints = tuple(_owned(endpoint, uid, gid) for endpoint in self.endpoints)
        return replace(self, endpoints=endpoints, control_user=uid)


def _owned(endpoint: EndpointPlan, uid: int | None, gid: int | None) -> EndpointPlan:
    listeners = (
        replace(
            listener,
            socket=replace(
                listener.socket,
                user=uid if listener.socket.user is None else listener.socket.user,
                group=gid if listener.socket.group is None else listener.socket.group,
            ),
        )
        if listener.address.kind.local
        else listener
        for listener in endpoint.listeners
    )
    return replace(endpoint, listeners=tuple(listeners))
