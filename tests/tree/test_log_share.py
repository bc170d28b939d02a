"""Which of an endpoint's connections are logged, as its file says."""

from dataclasses import replace
from typing import Any

import pytest

from sockd.base.metrics import End
from sockd.config.model import EndpointLog
from sockd.tree.endpoint import Endpoint
from tests.daemons import Daemons
from tests.transports.loop import Probe
from tests.tree.house import House, Probes, raising
from tests.tree.test_admission import NOBODY

TCP = "tcp://127.0.0.1:0"


def run(house: House, connections: int | None, **plan: Any) -> Endpoint:
    planned = house.plan(TCP, **{"stream": Probes(), **plan})
    endpoint = Endpoint(replace(planned, log=EndpointLog(connections=connections)), house.surroundings)
    house.endpoints.append(endpoint)
    endpoint.bind()
    endpoint.start()
    return endpoint


def come_and_go(house: House, endpoint: Endpoint, count: int) -> None:
    for _ in range(count):
        client = house.connect(endpoint.listeners[0].address, b"x")
        assert house.receive(client, 1) == b"x"
        client.close()
        house.until(lambda: not len(endpoint.connections))


@pytest.mark.parametrize(("share", "logged"), [(1, 7), (3, 3), (100, 1), (0, 0), (None, 0)])
def test_one_in_so_many_is_logged(share: int | None, logged: int, house: House) -> None:
    """The first of them; the others of a share are counted, and summed up."""
    endpoint = run(house, share)
    come_and_go(house, endpoint, 7)
    assert len(house.log.named("connection ended")) == logged
    endpoint.log_refusals()
    sums = [event["ends"] for event in house.log.named("connections not logged")]
    assert sums == ([{End.PEER: 7 - logged}] if share and share > 1 else [])
    endpoint.log_refusals()
    assert len(house.log.named("connections not logged")) == len(sums)


@pytest.mark.parametrize(("share", "lines"), [(1, 1), (100, 1), (0, 1), (None, 0)])
def test_refusals_are_logged_unless_it_is_off(share: int | None, lines: int, house: House) -> None:
    """Those by the address, and those of a connection; the sum of refusals is there in any case."""
    endpoint = run(house, share, access=NOBODY)
    house.connect(endpoint.listeners[0].address)
    house.until(lambda: endpoint.listeners[0].counters.refused)
    assert len(house.log.named("peer refused")) == lines
    endpoint.log_refusals()
    assert len(house.log.named("refused")) == 1
    other = run(house, share, stream=Probes(lambda: None))
    house.connect(other.listeners[0].address)
    house.until(lambda: other.listeners[0].counters.refused)
    assert len(house.log.named("connection ended")) == lines


@pytest.mark.parametrize("share", [1, 100, 0, None])
def test_failures_are_always_logged(share: int | None, house: House) -> None:
    """An exception, and the end of the connection that it costs."""
    fault = raising(ZeroDivisionError("a bug"))
    endpoint = run(house, share, stream=Probes(lambda: Probe(fault)))
    house.connect(endpoint.listeners[0].address, b"x")
    house.until(lambda: house.log.named("connection ended"))
    assert house.log.named("protocol failed")
    assert house.log.named("connection ended")[0]["end"] == End.FAILED


def test_a_reload_changes_it_and_closes_nothing(run: Daemons) -> None:
    """The endpoint is updated, its sockets stay, and what wasn't logged until then is summed up."""
    house = run.house
    plan = house.plan(TCP, stream=Probes(), name="one")
    running = run(replace(plan, log=EndpointLog(connections=100))).start()
    for _ in range(3):
        running.connect().close()
    house.run_clock(lambda: not len(running.daemon.endpoints[0].connections))
    sock = running.daemon.endpoints[0].listeners[0].descriptor
    running.file = lambda: replace(running.plan, endpoints=(plan,))
    (updated,) = running.told("reload")["changes"]["updated"]
    assert updated["details"] == ["log.connections: 1/100 -> all"]
    assert running.daemon.endpoints[0].listeners[0].descriptor is sock
