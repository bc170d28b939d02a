"""A lane gets its descriptor though none is left: its transports have theirs already."""

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from sockd.tree.connections import WATCHED_DIRECTLY
from tests.tree.house import House, Probes, connected

TCP = "tcp://127.0.0.1:0"


@contextmanager
def no_descriptors(spare: int) -> Iterator[None]:
    """So many and no more can be had."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(int(number) for number in os.listdir("/proc/self/fd")) + 20
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    taken: list[int] = []
    try:
        while True:
            try:
                taken.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                break
        for _ in range(spare):
            os.close(taken.pop())
        yield
    finally:
        for number in taken:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_last_descriptor_is_a_connection(house: House) -> None:
    """The first one in the lane is served all the same."""
    endpoint = house.run(TCP, stream=Probes())
    clients = [connected(house, endpoint) for _ in range(WATCHED_DIRECTLY)]
    client = socket.socket()
    house.clients.append(client)
    with no_descriptors(1):
        client.connect(clients[0].getpeername())
        client.setblocking(False)
        house.until(lambda: len(endpoint.connections) == WATCHED_DIRECTLY + 1)
        client.send(b"hello")
        assert house.receive(client, 5) == b"hello"


def test_all_go_on(house: House) -> None:
    """A lane whose transports were all held is opened again when there are no descriptors."""
    endpoint = house.run(TCP, stream=Probes())
    for _ in range(WATCHED_DIRECTLY + 3):
        connected(house, endpoint)
    endpoint.connections.hold(True)
    with no_descriptors(0):
        endpoint.connections.hold(False)
    assert not any(server.paused for server in endpoint.connections)
