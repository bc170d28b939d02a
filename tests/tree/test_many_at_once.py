"""How often each of an endpoint's connections is sent to when many of them tell something to all others."""

import pytest

from sockd.transports import flush, lanes
from sockd.transports.flush import FAN_OUT
from sockd.tree.connections import WATCHED_DIRECTLY
from tests.transports.loop import Probe, noted_writes
from tests.tree.house import House, Probes

LINE = b"said\n"


@pytest.fixture
def timeless(monkeypatch: pytest.MonkeyPatch, house: House) -> House:
    """No slice is ever over, and nobody's patience."""
    for module in (lanes, flush):
        monkeypatch.setattr(module, "perf_counter", lambda: 0.0)
    return house


def test_who_hears_many_is_sent_to_once(timeless: House) -> None:
    """Who is one of them is sent to twice, as its own event sends it what was said before."""
    room: list[Probe] = []
    sends: list[list[int]] = []  # of each of them

    def come_in(probe: Probe) -> None:
        room.append(probe)
        sends.append(noted_writes(probe.transport))

    def tell(speaker: Probe, data: bytes) -> None:
        for probe in room:
            if probe is not speaker:
                probe.transport.write(data)

    endpoint = timeless.run("tcp://127.0.0.1:0", stream=Probes(lambda: Probe(tell, come_in)))
    clients = []
    for _ in range(WATCHED_DIRECTLY + FAN_OUT + 4):
        clients.append(timeless.connect(endpoint.listeners[0].address))
        timeless.until(lambda: len(room) == len(clients))
    for client in clients[WATCHED_DIRECTLY:]:
        client.sendall(LINE)
    for client in clients[:WATCHED_DIRECTLY]:
        assert timeless.receive(client, len(LINE) * (len(clients) - WATCHED_DIRECTLY))
    for client in clients[WATCHED_DIRECTLY:]:
        assert timeless.receive(client, len(LINE) * (len(clients) - WATCHED_DIRECTLY - 1))
    counts = list(map(len, sends))
    assert counts[:WATCHED_DIRECTLY] == [1] * WATCHED_DIRECTLY
    assert max(counts) == 2
