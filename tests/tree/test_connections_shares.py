"""An endpoint's many connections leave others their turn: where they are watched, and how they are swept."""

from collections.abc import Callable
from typing import Any

import pytest

from sockd.base.metrics import End
from sockd.transports.connection import Connection
from sockd.tree import sweep
from sockd.tree.connections import WATCHED_DIRECTLY
from sockd.tree.draining import Drain
from sockd.tree.endpoint import Endpoint
from sockd.tree.sweep import STOPPED_TIME
from sockd.tree.timeouts import verdict
from tests.transports.loop import Probe, echo
from tests.tree.house import House, Probes, connected

TCP = "tcp://127.0.0.1:0"
IDLE = 4.0
MANY = 7
TICK = 1e-6


@pytest.fixture
def sliced(monkeypatch: pytest.MonkeyPatch, house: House) -> House:
    """A slice is over after two connections; the next one comes when the clock is advanced."""
    times = iter(range(1_000_000))
    monkeypatch.setattr(sweep, "perf_counter", lambda: float(next(times)))
    monkeypatch.setattr(sweep, "PIECE", 2)
    call_later = house.loop.callLater

    def later(delay: float, method: Callable[..., object], *args: Any) -> Any:
        soon = delay == 0 and getattr(method, "__name__", "") == "_go_on"
        return call_later(TICK if soon else delay, method, *args)

    monkeypatch.setattr(house.loop, "callLater", later)
    return house


def begun(house: House, **probe: Any) -> Endpoint:
    """An endpoint in the midst of a sweep that finds its connections idle: two of them have ended."""
    endpoint = house.run(TCP, stream=Probes(lambda: Probe(echo, **probe)), idle=IDLE)
    for _ in range(MANY):
        connected(house, endpoint)
    house.run_clock(lambda: len(endpoint.connections) < MANY)
    assert len(endpoint.connections) == MANY - 2
    return endpoint


def test_the_first_ones_are_in_the_reactor_itself(house: House) -> None:
    """Others are in the endpoint's lane; a place that was given free is taken again."""
    endpoint = house.run(TCP, stream=Probes())
    clients = [connected(house, endpoint) for _ in range(WATCHED_DIRECTLY + 2)]
    lanes = [server.lane for server in endpoint.connections]
    crowd = lanes[-1]
    assert lanes == [house.loop] * WATCHED_DIRECTLY + [crowd] * 2
    assert crowd in house.loop.readers
    for client in clients[-2:]:
        client.close()
    clients[0].close()
    house.until(lambda: len(endpoint.connections) == WATCHED_DIRECTLY - 1)
    assert crowd not in house.loop.readers
    assert connected(house, endpoint)
    assert [server.lane for server in endpoint.connections] == [house.loop] * WATCHED_DIRECTLY


def test_handshakes_are_in_the_lane(house: House) -> None:
    """Each of them takes as long as a slice; but who is alone shares it with nobody."""
    endpoint = house.run(TCP, stream=Probes())
    assert endpoint.connections.lane(secure=True) is house.loop
    connected(house, endpoint)
    assert endpoint.connections.lane(secure=False) is house.loop
    assert endpoint.connections.lane(secure=True) is not house.loop


def test_idle_ones_end_slice_by_slice(sliced: House) -> None:
    """Two at a time, and all in the end."""
    endpoint = begun(sliced)
    for left in (MANY - 4, MANY - 6, 0):
        sliced.loop.advance(TICK)
        sliced.loop.turn()
        assert len(endpoint.connections) == left
    sliced.loop.advance(TICK)
    assert not sliced.loop.getDelayedCalls()


def test_who_leaves_between_two_slices(sliced: House) -> None:
    """The others are swept as if it had never been there."""
    endpoint = begun(sliced)
    next(iter(endpoint.connections)).cut(End.CUT)
    sliced.loop.turn()
    assert len(endpoint.connections) == MANY - 3
    sliced.loop.advance(TICK)
    assert len(endpoint.connections) == MANY - 4


def test_a_drain_begins_between_two_slices(sliced: House) -> None:
    """It has its own pace, and nobody is forgotten."""
    endpoint = begun(sliced)
    done = endpoint.connections.drain()
    assert sliced.run_clock(lambda: done.called) < IDLE / 2
    assert not len(endpoint.connections)


def test_a_drain_begins_within_a_slice(sliced: House) -> None:
    """As a protocol that has heard of an end may have it."""
    drains: list[Drain] = []

    def drain(_: Probe) -> None:
        if not drains:
            drains.append(endpoint.connections.drain_some(endpoint.connections))

    endpoint = sliced.run(TCP, stream=Probes(lambda: Probe(echo, on_lost=drain)), idle=IDLE)
    for _ in range(MANY):
        connected(sliced, endpoint)
    sliced.run_clock(lambda: drains)
    assert len(endpoint.connections) > MANY / 2
    assert sliced.run_clock(lambda: drains[0].done.called) < IDLE / 2
    assert not len(endpoint.connections)


def test_a_long_sweep_is_no_stopped_process(sliced: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one comes as soon as it is over, and believes what it sees."""
    endpoint = begun(sliced)
    connected(sliced, endpoint)
    judged: list[Connection] = []

    def noting(connection: Connection, *times: Any) -> Any:
        judged.append(connection)
        return verdict(connection, *times)

    monkeypatch.setattr(sweep, "verdict", noting)
    swept = []
    for _ in range(12):
        sliced.loop.advance(STOPPED_TIME)
        if judged:
            swept.append(len(judged))
            judged.clear()
    assert swept[:4] == [2, 2, 1, 1]  # the rest of the long one, and who came meanwhile in the next


def test_stopped_between_two_slices(sliced: House) -> None:
    """The process was stopped in the midst of a sweep: nobody who is left is taken for idle."""
    endpoint = begun(sliced)
    left = list(endpoint.connections)
    for server in left:
        server.mark_time = sliced.loop.seconds()
    sliced.loop.rightNow += IDLE + STOPPED_TIME + 1
    sliced.loop.advance(TICK)
    assert [server.end for server in left] == [None] * len(left)
