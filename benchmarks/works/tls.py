"""Echo over TLS 1.3: CPU for each message, and for each handshake."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.echoes import Command, Echo, asyncio, go, serving, start_peer, start_sockd, uvloop
from benchmarks.measures import Sample
from benchmarks.programs import Missing, Server, built, free_port, installed, loading, measured
from benchmarks.work import Case, Outcome, Settings, directories, started, take_turns
from tests.certificates import made

AT_ONCE = 20  # handshakes under way
# Twisted's own TLS is left out, as pyOpenSSL is no dependency of ours.
PEERS: dict[str, Command] = {"uvloop": uvloop, "asyncio": asyncio, "Go": go}
NGINX = """load_module {modules}/ngx_stream_module.so;
daemon off;
worker_processes 1;
user root;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log;
events {{ worker_connections 20000; }}
stream {{
    server {{
        listen 127.0.0.1:{port} ssl backlog=1024;
        ssl_certificate {directory}/server.pem;
        ssl_certificate_key {directory}/server.key;
        ssl_protocols TLSv1.3;
        tcp_nodelay on;
        proxy_pass unix:{directory}/behind.sock;
    }}
}}
"""
NGINX_MODULES = "/usr/lib/nginx/modules"


def start_nginx(directory: Path) -> Echo:
    """It ends the TLS before our echo in C, whose CPU isn't counted."""
    program, port = installed("nginx"), free_port()
    if not Path(NGINX_MODULES, "ngx_stream_module.so").exists():
        raise Missing("no stream module of nginx")
    file = directory / "nginx.conf"
    file.write_text(NGINX.format(modules=NGINX_MODULES, directory=directory, port=port))
    behind = directory / "behind"
    behind.mkdir()
    server = Server("nginx", [program, "-c", str(file), "-p", str(directory)], directory)
    server.behind.append(Server("C", [built("peers/echo.c"), f"unix:{directory}/behind.sock"], behind))
    return serving(server, f"tls:{port}")


def load(connections: int, size: int, seconds: float, mode: str) -> Callable[[Echo], Sample]:
    def measure(one: Echo) -> Sample:
        program = built("load/stream.c", "-DTLS")
        address = "tcp:" + one.address.partition(":")[2]
        with loading(program, address, connections, size, seconds, mode) as load:
            return measured(one.server, load)

    return measure


def run(settings: Settings, outcome: Outcome) -> None:
    seconds = settings.seconds
    cases = [
        Case("100 B, 100 connections", "message", load(100, 100, seconds, "closed")),
        Case("16 KiB, 100 connections", "message", load(100, 16 << 10, seconds, "closed")),
        Case("handshakes", "handshake, echo and close", load(AT_ONCE, 100, seconds, "accepts")),
    ]
    with directories("tls") as make:

        def ready() -> Path:
            """A directory with a certificate of a P-256 key, the usual kind, and the key."""
            made("localhost").write(directory := make())
            return directory

        starters = [(one.name, partial(start_sockd, one, "tls", ready())) for one in settings.variants]
        starters += [(name, partial(start_peer, name, one, "tls", ready())) for name, one in PEERS.items()]
        starters.append(("nginx", partial(start_nginx, ready())))
        with started(starters, outcome, settings) as running:
            take_turns(cases, running, outcome, settings)
