"""HAProxy in front: its headers, of both versions, and whom they name."""

import json
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.certificates import made
from tests.end_to_end.conftest import Serve
from tests.end_to_end.harness import SOCKD, Daemon, receive
from tests.end_to_end.programs import BOUND, Process, run

Program = Callable[..., Process]
VERSIONS = pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
FILE = """
daemon: {log: {format: json}}
endpoints:
  echo:
    listen: tcp://127.0.0.1:0
    protocol: echo
    proxy_protocol: {from: 127.0.0.1}
    access: {deny: 127.0.0.66}
    limits: {connections_per_source: 2}
  secret:
    listen: tls://127.0.0.1:0
    protocol: echo
    proxy_protocol: {from: 127.0.0.1}
    tls: {certificate: server.pem, key: server.key}
  far:
    listen: tcp://127.0.0.1:0
    protocol: echo
    proxy_protocol: {from: 192.0.2.1}
"""
HAPROXY = """
defaults
  mode tcp
  retries 0
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen front
  bind fd@{front}
  server back 127.0.0.1:{back} {version}
"""


class Front:
    """HAProxy before an endpoint, and clients that come to it."""

    def __init__(self, daemon: Daemon, program: Program, endpoint: str, version: str) -> None:
        self._clients: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        back = daemon.port(endpoint, "tls" if endpoint == "secret" else "tcp")
        number = self._listening.fileno()
        file = daemon.directory / "haproxy.cfg"
        file.write_text(HAPROXY.format(front=number, back=back, version=version))
        self._haproxy = program("haproxy", "-db", "-f", file, pass_fds=[number])

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        """A client with this address."""
        one = socket.create_connection(self._listening.getsockname(), BOUND, source_address=(source, 0))
        self._clients.append(one)
        return one

    def close(self) -> None:
        for one in (*self._clients, self._listening):
            one.close()


@pytest.fixture
def served(serve: Serve, directory: Path) -> Daemon:
    """Endpoints behind a proxy; the last one behind another."""
    made("localhost").write(directory)
    return serve(FILE)


@pytest.fixture
def front(served: Daemon, program: Program) -> Iterator[Callable[[str, str], Front]]:
    fronts: list[Front] = []

    def make(endpoint: str, version: str) -> Front:
        fronts.append(Front(served, program, endpoint, version))
        return fronts[-1]

    yield make
    for each in fronts:
        each.close()


def refused(daemon: Daemon, endpoint: str) -> dict[str, int]:
    """By the only listener of an endpoint."""
    done = run([*SOCKD, "status", "--json"], {"RUNTIME_DIRECTORY": str(daemon.runtime)})
    (found,) = [each for each in json.loads(done.stdout)["endpoints"] if each["name"] == endpoint]
    counts: dict[str, int] = found["listeners"][0]["refused"]
    return counts


def answered(client: socket.socket) -> bool:
    """Whether it is served."""
    with suppress(ConnectionError):
        client.sendall(b"x")
        return receive(client, 1) == b"x"
    return False


@VERSIONS
def test_the_client_is_the_peer(version: str, served: Daemon, front: Callable[[str, str], Front]) -> None:
    """In the log and for commands it is the client's address, not the proxy's."""
    client = front("echo", version).connect("127.0.0.7")
    assert answered(client)
    mine = "{}:{}".format(*client.getsockname())
    assert mine.startswith("127.0.0.7:")
    listed = run([*SOCKD, "connections"], {"RUNTIME_DIRECTORY": str(served.runtime)})
    assert re.search(rf"echo .* {re.escape(mine)} ", listed.stdout)
    client.close()
    ended = served.event("connection ended", peer=mine)
    assert (ended["bytes_in"], ended["bytes_out"]) == (1, 1)


@VERSIONS
def test_access_and_limits_are_the_clients(
    version: str, served: Daemon, front: Callable[[str, str], Front]
) -> None:
    """A source that isn't allowed, or has too many connections, is refused, through the proxy of others."""
    one = front("echo", version)
    assert not answered(one.connect("127.0.0.66"))
    # One after the other: the proxy's threads would have them in any order.
    assert [answered(one.connect("127.0.0.8")) for _ in range(3)] == [True, True, False]
    assert answered(one.connect("127.0.0.9"))
    assert refused(served, "echo") == {"access": 1, "connections_per_source": 1}


@VERSIONS
def test_tls_through_a_proxy(version: str, served: Daemon, front: Callable[[str, str], Front]) -> None:
    """The header comes first, then the client's own handshake."""
    context = ssl.create_default_context(cadata=made("localhost").chain.decode())
    plain = front("secret", version).connect("127.0.0.7")
    with context.wrap_socket(plain, server_hostname="localhost") as client:
        assert answered(client)
        mine = "{}:{}".format(*client.getsockname())
    assert served.event("connection ended", peer=mine)["endpoint"] == "secret"


@VERSIONS
def test_another_proxy(version: str, served: Daemon, front: Callable[[str, str], Front]) -> None:
    """Whose headers are not believed is refused."""
    assert not answered(front("far", version).connect())
    assert refused(served, "far") == {"proxy header": 1}


def test_a_proxy_without_headers(served: Daemon, front: Callable[[str, str], Front]) -> None:
    """What it sends instead is no header: nothing of it reaches the protocol."""
    assert not answered(front("echo", "").connect())
    assert refused(served, "echo") == {"proxy header": 1}


def test_health_checks_of_the_proxy(served: Daemon, front: Callable[[str, str], Front]) -> None:
    """Those of version 2 are LOCAL: the proxy speaks for itself, and is the peer."""
    one = front("echo", "send-proxy-v2 check inter 100ms")
    assert answered(one.connect("127.0.0.7"))
    served.event("connection ended", endpoint="echo", bytes_in=0)
    assert "proxy header" not in refused(served, "echo")
