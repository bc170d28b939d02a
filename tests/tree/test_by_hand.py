"""An endpoint that is suspended, drained or restarted by hand."""

from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred

from sockd.base.metrics import End
from sockd.tree.endpoint import SERVICE_STOP_TIME
from sockd.tree.states import Cause, State
from tests.tree.house import House, Probes, Service, connected, ends, raising
from tests.tree.reloads import Reloads
from tests.tree.trees import Keen

TCP = "tcp://127.0.0.1:0"
UDP = "udp://127.0.0.1:0"
WITHIN = 3.0


def running(coroutine: Any) -> list[Any]:
    """What a coroutine came to, once it has."""
    ended: list[Any] = []
    ensureDeferred(coroutine).addBoth(ended.append)
    return ended


# -- suspend and drain


def test_suspended(reloads: Reloads) -> None:
    """Nobody new is let in and no datagram read; who is there goes on, who waits is served afterwards."""
    reloads.start(reloads.plan("a", "plain", TCP, UDP))
    endpoint, house = reloads["a"], reloads.house
    client = house.connect(reloads.address("a"), b"?")
    assert house.receive(client, 2) == b"u?"
    endpoint.suspend(True)
    late = [house.connect(reloads.address("a", number), b"?") for number in (0, 1)]
    client.send(b"!")
    assert house.receive(client, 2) == b"u!"
    assert endpoint.causes == {Cause.BY_HAND}
    assert len(endpoint.connections) == 1
    endpoint.suspend(False)
    assert [house.receive(one, 2) for one in late] == [b"u?", b"u?"]


def test_drained_by_hand(house: House) -> None:
    """Who can finish does, who doesn't is cut; newcomers wait until it is resumed."""
    endpoint = house.run(TCP, stream=Probes())
    quiet, busy = connected(house, endpoint), connected(house, endpoint)
    drain = endpoint.drain_by_hand(WITHIN)
    assert endpoint.causes == {Cause.BY_HAND, Cause.DRAINING}
    late = house.connect(endpoint.listeners[0].address, b"x")
    while not drain.done.called:
        busy.send(b"x")
        house.receive(busy, 1)
        house.loop.advance(0.1)
    assert (drain.finished, drain.cut) == (1, 1)
    assert set(ends(house)) == {End.DRAINED, End.CUT}
    assert house.receive(quiet, 1) == b""
    assert house.loop.seconds() == pytest.approx(WITHIN, abs=0.2)
    assert endpoint.causes == {Cause.BY_HAND}
    assert not len(endpoint.connections)
    endpoint.suspend(False)
    assert house.receive(late, 1) == b"x"


def test_resumed_while_it_drains(house: House) -> None:
    """It accepts again immediately, while the connections that were there still finish."""
    endpoint = house.run(TCP, stream=Probes())
    connected(house, endpoint)
    drain = endpoint.drain_by_hand(WITHIN)
    late = house.connect(endpoint.listeners[0].address, b"x")
    endpoint.suspend(False)
    assert not endpoint.causes
    assert not drain.done.called
    assert house.receive(late, 1) == b"x"
    house.run_clock(lambda: drain.done.called)
    assert drain.finished == 1


def test_nothing_to_drain(house: House) -> None:
    """It is done at once."""
    endpoint = house.run(TCP, stream=Probes())
    drain = endpoint.drain_by_hand(WITHIN)
    assert drain.done.called
    assert (drain.finished, drain.cut) == (0, 0)


# -- restart


def test_restarted(reloads: Reloads) -> None:
    """Service, factory and datagram protocols are new, sockets and counters are not; nobody is refused."""
    reloads.start(reloads.plan("a", "keen", TCP, UDP))
    endpoint, house = reloads["a"], reloads.house
    endpoint.suspend(True)
    endpoint.suspend(False)
    client = house.connect(reloads.address("a"), b"?")
    assert house.receive(client, 2) == reloads.ask("a", 1) == b"u?"
    service, datagrams, opened = (
        endpoint.host.service,
        endpoint.datagram_listeners[0].protocol,
        endpoint.listeners[0].opened,
    )
    endpoint.host.counters.refused["for a test"] += 1
    ended = running(endpoint.restart(WITHIN))
    assert endpoint.causes == {Cause.DRAINING}
    late = house.connect(reloads.address("a"), b"?")
    again = running(endpoint.restart(WITHIN))
    assert not again
    house.run_clock(lambda: ended)
    assert ended == again == [None]
    assert house.receive(late, 2) == reloads.ask("a", 1) == b"u?"
    assert house.receive(client, 1) == b""
    assert not service.running
    assert endpoint.host.service is not service
    assert not datagrams.running  # type: ignore[union-attr]
    assert endpoint.listeners[0].opened is opened
    assert endpoint.host.counters.refused["for a test"] == 1
    assert endpoint.listeners[0].counters.accepted == 2


def test_restart_tries_what_is_closed_and_resumes(house: House) -> None:
    """A service that was down is tried at once, as is a listener; it is suspended no more."""
    service = Service(*[lambda: 1 / 0] * 3)
    made = [service, Service()]
    endpoint = house.run(TCP, stream=Probes(), service=lambda host: made.pop(0))
    endpoint.suspend(True)
    assert endpoint.service.state is State.BACKING_OFF
    house.finish(endpoint.restart(WITHIN))
    assert endpoint.running
    assert not endpoint.causes
    assert connected(house, endpoint)


def test_restart_of_a_service_that_never_stops(house: House) -> None:
    """It has so long, then there is a new one."""
    service = Service()
    service.on_stop = lambda: Deferred(raising(ZeroDivisionError("a bug")))
    made = [service, Service()]
    endpoint = house.run(TCP, stream=Probes(), service=lambda host: made.pop(0))
    house.finish(endpoint.restart(WITHIN))
    assert house.loop.seconds() == pytest.approx(SERVICE_STOP_TIME, abs=0.2)
    assert not made
    assert connected(house, endpoint)


@pytest.mark.parametrize("place", ["drain", "stop"])
def test_endpoint_that_ends_while_it_restarts(place: str, house: House) -> None:
    """Nothing is started any more."""
    service = Service()
    stopping: Deferred[None] = Deferred()
    service.on_stop = lambda: stopping
    made = [service]
    endpoint = house.run(TCP, stream=Probes(), service=lambda host: made.pop(0))
    if place == "drain":
        connected(house, endpoint)
    ended = running(endpoint.restart(WITHIN))
    assert not ended
    house.finish(endpoint.drain())
    stopped = running(endpoint.stop())
    stopping.callback(None)
    house.run_clock(lambda: ended and stopped)
    assert (service.started, service.stopped) == (1, 1)
    assert endpoint.service.state is State.STOPPED


def test_restart_that_is_cancelled(house: House) -> None:
    """While connections finish: then everything goes on as before."""
    service = Service()
    endpoint = house.run(TCP, stream=Probes(), service=service)
    connected(house, endpoint)
    restarting = ensureDeferred(endpoint.restart(WITHIN))
    also = running(endpoint.restart(WITHIN))
    restarting.addErrback(lambda _: None)
    restarting.cancel()
    assert also == [None]
    assert not endpoint.causes
    assert service.stopped == 0
    assert connected(house, endpoint)


# -- beside a reload


def test_reload_during_a_restart(reloads: Reloads) -> None:
    """It is refused where it concerns that endpoint: there is no service to give the options to."""
    reloads.start(reloads.plan("a", "keen", TCP), reloads.plan("b", "plain", TCP))
    reloads.house.connect(reloads.address("a"), b"?")
    reloads.house.until(lambda: len(reloads["a"].connections))
    ended = running(reloads["a"].restart(WITHIN))
    new = reloads.plan("b", "plain", TCP, word="v")
    why = reloads.reload(reloads.plan("a", "keen", TCP, word="v"), new)
    assert why == "a: it is being restarted; reload when it has been"
    assert not reloads.reload(reloads["a"].plan, new)
    reloads.house.run_clock(lambda: ended)
    assert (reloads.ask("a"), reloads.ask("b")) == (b"u?", b"v?")


def test_restart_during_a_reload(reloads: Reloads) -> None:
    """It is restarted once more: the service that was started meanwhile has the old options."""
    reloads.start(reloads.plan("a", "keen", TCP))
    reconciliation = reloads.begin(reloads.plan("a", "keen", TCP, word="v"))
    assert not reloads.prepare(reconciliation)
    reloads.house.finish(reloads["a"].restart(WITHIN))
    reloads.commit(reconciliation)
    reloads.house.run_clock(lambda: reloads["a"].running and not reloads["a"].restarting)
    service = reloads["a"].host.service
    assert isinstance(service, Keen)
    assert service.word == "v"
    assert reloads.ask("a") == b"v?"
