"""The table of listeners that `sockd run` shows on a terminal when it has started."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from sockd.base.addresses import Address, Kind
from sockd.base.tables import aligned
from sockd.tree.endpoint import Endpoint
from sockd.tree.states import State

# Hosts that stand for every address of the machine, and one that a client can connect to.
_LOOPBACK_OF = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


def attempt(address: Address, protocol: str) -> str:
    """A command with which a user can try this address."""
    if address.kind is Kind.SYSTEMD:
        return "(as its .socket unit says)"
    stream = address.kind.stream
    if address.path.startswith("@"):
        name = address.path[1:]
        return (
            f"socat - ABSTRACT-CONNECT:{name}" if stream else f"socat - ABSTRACT-SENDTO:{name},bind={name}.me"
        )
    host = _LOOPBACK_OF.get(address.host, address.host)
    if protocol == "line-log" and not address.kind.local and address.kind is not Kind.TLS:
        return f"logger {'--tcp' if stream else '--udp'} --server {host} --port {address.port} hello"
    if protocol == "line-log" and not stream:
        return f"logger --socket {address.path} hello"
    where = f"--unixsock {address.path}" if address.kind.local else f"{host} {address.port}"
    if address.kind is Kind.TLS:
        return f"ncat --ssl {where}"
    return f"ncat {where}" if stream else f"ncat --udp {where}"


def welcome(endpoints: Iterable[Endpoint], here: Path, width: int | None = None) -> str:
    """The table of these endpoints' listeners, for a terminal of this width.

    Paths below the directory `here` are shown relative to it.
    """
    rows = [("endpoint", "protocol", "listener", "try")]
    for endpoint in endpoints:
        for listener, supervisor in zip(endpoint.listeners, endpoint.supervisors, strict=True):
            address = shortened(listener.address, here)
            plan = endpoint.plan
            try_it = attempt(address, plan.protocol)
            if supervisor.state is not State.RUNNING:
                try_it = f"(not open: {supervisor.why})"
            elif endpoint.service.state is not State.RUNNING:
                try_it = f"(held: {endpoint.service.why})"
            rows.append((plan.name, plan.protocol, str(address), try_it))
    # A command that is to be copied isn't broken.
    return "\n" + aligned(rows, width, (len(rows[0]) - 1,)) + "\n"


def shortened(address: Address, here: Path) -> Address:
    """The address, with a path below the directory `here` made relative to it."""
    return replace(address, path=address.path.removeprefix(f"{here}/"))
