"""What a person sees at start: a table of what listens, with a command to try each."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from sockd.addresses import Address, Kind
from sockd.services.endpoint import Endpoint
from sockd.services.states import State

_EVERYWHERE = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


def attempt(address: Address, protocol: str) -> str:
    """A command that reaches this address."""
    host = _EVERYWHERE.get(address.host, address.host)
    path = f"ABSTRACT:{address.path[1:]}" if address.path.startswith("@") else address.path
    if protocol == "line-log" and address.kind is Kind.UNIXGRAM and not address.path.startswith("@"):
        return f"logger --socket {path} hello"
    if protocol == "line-log" and not address.kind.local:
        udp = "--udp" if address.kind is Kind.UDP else "--tcp"
        return f"logger {udp} --server {host} --port {address.port} hello"
    if address.kind is Kind.TCP:
        return f"ncat {host} {address.port}"
    if address.kind is Kind.UDP:
        return f"ncat --udp {host} {address.port}"
    if path is not address.path:
        scheme = "CONNECT" if address.kind is Kind.UNIX else "SENDTO"
        return f"socat - ABSTRACT-{scheme}:{address.path[1:]}"
    if address.kind is Kind.UNIX:
        return f"ncat --unixsock {path}"
    return f"socat - UNIX-SENDTO:{path},bind=/tmp/me.sock"


def welcome(endpoints: Iterable[Endpoint], here: Path) -> str:
    """The table of these endpoints' listeners; paths are shown from `here` where they lie below it."""
    rows = [("endpoint", "protocol", "listener", "try")]
    for endpoint in endpoints:
        for listener, supervisor in zip(endpoint.listeners, endpoint.supervisors, strict=True):
            address = shortened(listener.address, here)
            plan = endpoint.plan
            try_it = attempt(address, plan.protocol)
            if supervisor.state is not State.RUNNING:
                try_it = f"(not open: {supervisor.why})"
            rows.append((plan.name, plan.protocol, str(address), try_it))
    return "\n" + table(rows) + "\n"


def table(rows: Iterable[tuple[str, ...]]) -> str:
    """Rows of text in aligned columns, the first row as their heads."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def shortened(address: Address, here: Path) -> Address:
    """The address with its path from here, where it lies below."""
    return replace(address, path=address.path.removeprefix(f"{here}/"))
