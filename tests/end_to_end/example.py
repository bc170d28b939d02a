"""The ports of the shipped example, with free ones in the place of those that another program has."""

import socket
from pathlib import Path

from tests.end_to_end.harness import ROOT

FILE = ROOT / "config" / "sockd.yaml"
SHIPPED = {"echo": 7007, "lobby": 7070, "applog": 5514}


def is_free(port: int) -> bool:
    """Whether 127.0.0.1 has the port for TCP and for UDP."""
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tcp.bind(("127.0.0.1", port))
            udp.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports() -> dict[str, int]:
    """A port of four digits for each endpoint: the shipped one, or the next free one where that is in use."""
    found: dict[str, int] = {}
    for endpoint, shipped in SHIPPED.items():
        others = {*found.values(), *SHIPPED.values()} - {shipped}
        found[endpoint] = next(
            port for port in range(shipped, 10_000) if port not in others and is_free(port)
        )
    return found


def moved(text: str, ports: dict[str, int]) -> str:
    """A text that names shipped ports, with these instead."""
    for endpoint, shipped in SHIPPED.items():
        text = text.replace(str(shipped), str(ports[endpoint]))
    return text


def write(directory: Path, ports: dict[str, int]) -> Path:
    """The shipped file, on these ports; itself where they are the shipped ones."""
    if ports == SHIPPED:
        return FILE
    file = directory / FILE.name
    file.write_text(moved(FILE.read_text(), ports))
    return file
