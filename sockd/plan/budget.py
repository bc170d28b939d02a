"""How many file descriptors a plan may need at most, compared with how many the process may have."""

from dataclasses import dataclass, replace

from sockd.base import descriptors
from sockd.base.addresses import Kind
from sockd.base.errors import Place, Problem
from sockd.plan.plan import EndpointPlan, Plan

# Descriptors of the process: standard input and output, the log, the reactor's own, systemd's sockets, an
# upgrade's child, and what a protocol may open for a moment.
PROCESS_DESCRIPTORS = 32
# Of an endpoint with connections: the epoll set that watches those beyond the first few (transports.lanes).
LANE_DESCRIPTORS = 1
# Of a protocol's file: itself, and a second one while it is opened again.
FILE_DESCRIPTORS = 2
# How many of the largest endpoints the warning names.
NAMED_ENDPOINTS = 3


@dataclass(frozen=True)
class Budget:
    """What a plan may need, in descriptors."""

    connections: int
    addresses: int
    files: int
    own: int

    @property
    def all(self) -> int:
        return self.connections + self.addresses + self.files + self.own


def budget(plan: Plan) -> Budget:
    """What the plan needs when every endpoint has as many connections as it may."""
    return Budget(
        connections=sum(map(_connections, plan.endpoints)),
        addresses=sum(map(_addresses, plan.endpoints)) + (plan.control is not None),
        files=FILE_DESCRIPTORS * sum(len(endpoint.options.claims()) for endpoint in plan.endpoints),
        own=PROCESS_DESCRIPTORS + descriptors.MAX_RESERVED,
    )


def _connections(endpoint: EndpointPlan) -> int:
    streams = any(listener.address.kind.stream for listener in endpoint.listeners)
    return endpoint.limits.connections if streams and endpoint.specification.stream is not None else 0


def _addresses(endpoint: EndpointPlan) -> int:
    """Those of an endpoint's addresses: of a socket that systemd passed, the listener has a duplicate."""
    lane = LANE_DESCRIPTORS if _connections(endpoint) else 0
    return lane + sum(2 if listener.address.kind is Kind.SYSTEMD else 1 for listener in endpoint.listeners)


def compared(plan: Plan, limit: int) -> Plan:
    """The plan, with a warning where it may need more than `limit`, the hard limit of RLIMIT_NOFILE."""
    wanted = budget(plan)
    if wanted.all <= limit:
        return plan
    largest = sorted(plan.endpoints, key=_connections, reverse=True)[:NAMED_ENDPOINTS]
    named = ", ".join(f"{endpoint.name} {_connections(endpoint)}" for endpoint in largest)
    text = (
        f"warning: up to {wanted.all} descriptors may be needed, {wanted.connections} of them for connections"
        f" (limits.connections: {named}{', …' if plan.endpoints[NAMED_ENDPOINTS:] else ''}), and the process"
        f" may have {limit} (ulimit -Hn, LimitNOFILE=): when they run out, new connections wait in"
        " the kernel's backlog"
    )
    return replace(plan, warnings=(*plan.warnings, Problem(Place(str(plan.file), 0), "", text)))
