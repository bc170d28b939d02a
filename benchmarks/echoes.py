"""The servers that echo: sockd, the limit in C, and what a user would pick instead."""

import importlib.util
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.programs import HERE, Missing, Server, built, free_port, installed
from benchmarks.sockds import RAISED, RAISED_DATAGRAMS, Variant, endpoint, listen

XINETD = """defaults
{{
    instances = UNLIMITED
    cps = 100000 1
    per_source = UNLIMITED
    log_type = FILE {directory}/xinetd.log
}}
service echo
{{
    type = INTERNAL UNLISTED
    id = echo-stream
    socket_type = stream
    protocol = tcp
    port = {where}
    bind = 127.0.0.1
    user = root
    wait = no
}}
"""


@dataclass(frozen=True)
class Echo:
    """An echo that runs, and where it is: `tcp:PORT`, `tls:PORT`, `udp:PORT` or `unix:PATH`."""

    server: Server
    address: str

    @property
    def name(self) -> str:
        return self.server.name


def c(address: str, directory: Path) -> list[str]:  # noqa: ARG001
    return [built("peers/echo.c"), address]


def go(address: str, directory: Path) -> list[str]:
    kind, _, where = address.partition(":")
    return [built("peers/echo.go"), f"{'tcp' if kind == 'tls' else kind}:{where}", *keys(kind, directory)]


def asyncio(address: str, directory: Path) -> list[str]:
    script = str(HERE / "peers/echo_asyncio.py")
    return [sys.executable, script, "asyncio", address, *keys(address.partition(":")[0], directory)]


def uvloop(address: str, directory: Path) -> list[str]:
    if not importlib.util.find_spec("uvloop"):
        raise Missing("no uvloop")
    command = asyncio(address, directory)
    return [*command[:2], "uvloop", *command[3:]]


def twisted(address: str, directory: Path) -> list[str]:  # noqa: ARG001
    return [sys.executable, str(HERE / "peers/echo_twisted.py"), address]


def socat(address: str, directory: Path) -> list[str]:  # noqa: ARG001
    where = address.partition(":")[2]
    options = f"{where},bind=127.0.0.1,fork,reuseaddr,backlog=1024,nodelay"
    return [installed("socat"), f"TCP-LISTEN:{options}", "PIPE"]


def ncat(address: str, directory: Path) -> list[str]:  # noqa: ARG001
    where = address.partition(":")[2]
    return [installed("ncat"), "-l", "-k", "-m", "10000", "-e", installed("cat"), "127.0.0.1", where]


def xinetd(address: str, directory: Path) -> list[str]:
    program = installed("xinetd")
    file = directory / "xinetd.conf"
    file.write_text(XINETD.format(directory=directory, where=address.partition(":")[2]))
    return [program, "-dontfork", "-f", str(file), "-pidfile", str(directory / "xinetd.pid")]


def keys(kind: str, directory: Path) -> list[str]:
    return [str(directory / "server.pem"), str(directory / "server.key")] if kind == "tls" else []


Command = Callable[[str, Path], list[str]]
MAIN: dict[str, Command] = {"C": c, "uvloop": uvloop, "asyncio": asyncio, "Twisted": twisted, "Go": go}
PROCESSES: dict[str, Command] = {"socat": socat, "ncat": ncat, "xinetd": xinetd}  # one for each connection


def start_peer(name: str, command: Command, kind: str, directory: Path) -> Echo:
    """A peer, serving; its files are in the directory, the certificate too if it needs one."""
    address = _address(kind, directory)
    return serving(Server(name, command(address, directory), directory), address)


def start_sockd(variant: Variant, kind: str, directory: Path, *rules: str) -> Echo:
    """`rules` are more lines of the endpoint."""
    address = _address(kind, directory)
    limits = RAISED_DATAGRAMS if kind in ("udp", "unixgram") else RAISED
    tls = ("tls: {certificate: server.pem, key: server.key}",) if kind == "tls" else ()
    file = endpoint("echo", listen(address), limits=limits, more="\n    ".join((*tls, *rules)))
    return serving(variant.start(directory, file), address)


def _address(kind: str, directory: Path) -> str:
    if kind.startswith("unix"):
        return f"{kind}:{directory / 'echo.sock'}"
    return f"{kind}:{free_port(socket.SOCK_DGRAM if kind == 'udp' else socket.SOCK_STREAM)}"


def serving(server: Server, address: str) -> Echo:
    try:
        server.wait_for(address)
    except BaseException:
        server.end()
        raise
    return Echo(server, address)
