"""An ended connection is gone at once: Python's search for cycles, which stops all, finds nothing of it."""

import gc
import socket
import struct
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from sockd.protocols.chat.specification import specification as chat
from sockd.protocols.contract import Specification
from sockd.protocols.echo.specification import specification as echo_itself
from sockd.protocols.line_log.specification import specification as line_log
from sockd.tree.endpoint import Endpoint
from tests.certificates import tls_plan
from tests.tls_clients import Client
from tests.transports.loop import Probe, echo
from tests.tree.house import House, Probes
from tests.tree.test_admission import HEADER, HERE

TCP, TLS = "tcp://127.0.0.1:0", "tls://127.0.0.1:0"


@pytest.fixture(autouse=True)
def no_search() -> Iterator[None]:
    """Only reference counts."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def finish(client: socket.socket) -> None:
    client.close()


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def gone(house: House, endpoint: Endpoint, end: Callable[[], object]) -> bool:
    """Whether nothing is left of the only connection and its protocol once it has ended."""
    (server,) = endpoint.connections
    left = [weakref.ref(each) for each in (server.protocol, server.sock) if each is not None]
    del server
    end()
    house.until(lambda: not endpoint.connections)
    house.loop.settle()
    return not any(each() for each in left)


@pytest.mark.parametrize("end", [finish, reset])
@pytest.mark.parametrize("header", [b"", HEADER])
def test_plain(header: bytes, end: Callable[[socket.socket], None], house: House) -> None:
    """However it ends, with a PROXY header or without."""
    endpoint = house.run(
        TCP, stream=Probes(lambda: Probe(echo)), proxy_from=HERE if header else (), connections_per_source=9
    )
    client = house.connect(endpoint.listeners[0].address, header + b"x")
    assert house.receive(client, 1) == b"x"
    assert gone(house, endpoint, lambda: end(client))


def test_no_header_yet(house: House) -> None:
    """It ends while it waits for one."""
    endpoint = house.run(TCP, stream=Probes(lambda: Probe(echo)), proxy_from=HERE)
    client = house.connect(endpoint.listeners[0].address, HEADER[:-1])
    house.until(lambda: endpoint.connections)
    assert gone(house, endpoint, client.close)


@pytest.mark.parametrize("spoken", [b"x", None])
def test_tls(spoken: bytes | None, house: House) -> None:
    """After the handshake, or in the midst of it."""
    endpoint = house.run(TLS, stream=Probes(lambda: Probe(echo)), tls=tls_plan())
    plain = house.connect(endpoint.listeners[0].address, b"" if spoken else b"\x16\x03\x01")
    house.until(lambda: endpoint.connections)
    if spoken:
        client = Client(plain)
        house.clients.append(client.tls)
        house.loop.until(client.shake, client.tls)
        client.tls.send(spoken)
        house.loop.until(client.has_some, client.tls)
        plain = client.tls
    assert gone(house, endpoint, plain.close)


@pytest.mark.parametrize(
    ("specification", "options"),
    [(echo_itself, {}), (echo_itself, {"prefix": "> "}), (chat, {}), (line_log, {"path": "/dev/null"})],
)
def test_shipped(specification: Specification, options: dict[str, str], house: House) -> None:
    """What sockd brings along leaves nothing behind either."""
    plan = replace(
        house.plan(TCP), specification=specification, options=specification.options.model_validate(options)
    )
    endpoint = Endpoint(plan, house.surroundings)
    house.endpoints.append(endpoint)
    endpoint.bind()
    endpoint.start()
    house.until(lambda: endpoint.running)
    client = house.connect(endpoint.listeners[0].address, b"hello\n")
    house.until(lambda: [each for each in endpoint.connections if each.received])
    assert gone(house, endpoint, client.close)
