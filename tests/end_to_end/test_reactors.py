"""sockd serves on each of the reactors that `twistd --reactor` offers on Linux."""

import socket
import ssl
from contextlib import ExitStack
from pathlib import Path

import pytest

from sockd.tree.connections import WATCHED_DIRECTLY
from tests.certificates import made
from tests.end_to_end.conftest import Serve
from tests.end_to_end.harness import receive
from tests.end_to_end.programs import BOUND

FILE = """
daemon: {log: {format: json}}
endpoints:
  echo:
    listen: [tcp://127.0.0.1:0, tls://127.0.0.1:0, udp://127.0.0.1:0, unix://echo.sock]
    protocol: echo
    tls: {certificate: server.pem, key: server.key}
"""
BULK = bytes(range(256)) * 4096


@pytest.mark.parametrize("reactor", ["sockd", "epoll", "poll", "select", "asyncio"])
def test_echo_on_any_reactor(reactor: str, serve: Serve, directory: Path) -> None:
    """More connections than the reactor itself watches, over each transport, and a megabyte."""
    made("localhost").write(directory)
    daemon = serve(FILE, f"--reactor={reactor}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with ExitStack() as stack:
        clients = [stack.enter_context(daemon.connect("echo")) for _ in range(WATCHED_DIRECTLY + 6)]
        clients.append(stack.enter_context(daemon.connect("echo", "unix")))
        plain = stack.enter_context(
            socket.create_connection(("127.0.0.1", daemon.port("echo", "tls")), BOUND)
        )
        clients.append(stack.enter_context(context.wrap_socket(plain)))
        for number, client in enumerate(clients):
            client.sendall(b"%03d" % number)
        for number, client in enumerate(clients):
            assert receive(client, 3) == b"%03d" % number
        for client in (clients[0], clients[WATCHED_DIRECTLY + 1]):
            client.sendall(BULK)
            assert receive(client, len(BULK)) == BULK
        datagrams = stack.enter_context(daemon.connect("echo", "udp"))
        datagrams.send(b"hello")
        assert datagrams.recv(100) == b"hello"
    assert daemon.stop() == 0
