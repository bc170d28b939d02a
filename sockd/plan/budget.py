"""How many descriptors a plan may need at most, and whether the process may have them."""

from dataclasses import dataclass, replace

from sockd.base import descriptors
from sockd.base.addresses import Kind
from sockd.base.errors import Place, Problem
from sockd.plan.plan import EndpointPlan, Plan

# Standard input and output, the log, the reactor's own, systemd's sockets, an upgrade's child, and what a
# protocol may open for a moment.
OWN = 32
# What an endpoint's connections beyond the first few are watched by (transports.lanes).
LANE = 1
# A file of a protocol's: itself, and a second time while it is opened anew.
FILE = 2
# The largest endpoints are named, so many of them.
NAMED = 3


@dataclass(frozen=True)
class Budget:
    """In descriptors."""

    connections: int
    addresses: int
    files: int
    own: int

    @property
    def all(self) -> int:
        return self.connections + self.addresses + self.files + self.own


def budget(plan: Plan) -> Budget:
    """What all of the plan needs when every endpoint has as many connections as it may."""
    return Budget(
        connections=sum(map(_connections, plan.endpoints)),
        addresses=sum(map(_addresses, plan.endpoints)) + (plan.control is not None),
        files=FILE * sum(len(endpoint.options.claims()) for endpoint in plan.endpoints),
        own=OWN + descriptors.MAX_RESERVED,
    )


def _connections(endpoint: EndpointPlan) -> int:
    streams = any(listener.address.kind.stream for listener in endpoint.listeners)
    return endpoint.limits.connections if streams and endpoint.specification.stream is not None else 0


def _addresses(endpoint: EndpointPlan) -> int:
    """Of a socket that systemd passed, the listener has a duplicate."""
    lane = LANE if _connections(endpoint) else 0
    return lane + sum(2 if listener.address.kind is Kind.SYSTEMD else 1 for listener in endpoint.listeners)


def compared(plan: Plan, limit: int) -> Plan:
    """The plan, with a warning where it may need more than `limit`, RLIMIT_NOFILE's hard one."""
    wanted = budget(plan)
    if wanted.all <= limit:
        return plan
    largest = sorted(plan.endpoints, key=_connections, reverse=True)[:NAMED]
    named = ", ".join(f"{endpoint.name} {_connections(endpoint)}" for endpoint in largest)
    text = (
        f"warning: up to {wanted.all} descriptors may be needed, {wanted.connections} of them for connections"
        f" (limits.connections: {named}{', …' if plan.endpoints[NAMED:] else ''}), and the process may have"
        f" {limit} (ulimit -Hn, LimitNOFILE=): when they run out, newcomers wait"
    )
    return replace(plan, warnings=(*plan.warnings, Problem(Place(str(plan.file), 0), "", text)))
