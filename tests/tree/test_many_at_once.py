"""How often each of an endpoint's connections is sent to when many of them tell something to all others."""

from collections import Counter
from collections.abc import Callable

import pytest

from sockd.transports import flush, lanes
from sockd.transports.flush import FAN_OUT
from sockd.tree.connections import WATCHED_DIRECTLY
from tests.transports.loop import Probe
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
    sends: Counter[Probe] = Counter()

    def come_in(probe: Probe) -> None:
        room.append(probe)
        probe.transport._write = counted(probe, probe.transport._write)

    def counted(probe: Probe, write: Callable[[int, bytes], int]) -> Callable[[int, bytes], int]:
        def counting(number: int, data: bytes) -> int:
            sends[probe] += 1
            return write(number, data)

        return counting

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
    assert [sends[probe] for probe in room[:WATCHED_DIRECTLY]] == [1] * WATCHED_DIRECTLY
    assert max(sends.values()) == 2
