"""The root of the tree: bind, start, serve, drain within a deadline, stop whatever anybody does."""

import socket
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogLevel, formatEvent

from sockd.base.addresses import Address, Kind
from sockd.base.errors import Place, Problem, SockdError
from sockd.daemon import SERVICE_GRACE
from sockd.tree.endpoint import Endpoint
from sockd.tree.supervisor import SLOW_START
from tests.daemons import DRAIN, Daemons, Running
from tests.tree.house import Datagrams, House, Probes, Service, raising

TCP, UDP = "tcp://127.0.0.1:0", "udp://127.0.0.1:0"


def test_what_is_odd_in_the_file_is_told(run: Daemons) -> None:
    """It runs all the same; the log says what `sockd check` says, at its level."""
    running = run(warnings=(Problem(Place("sockd.yaml", 2, 1), "endpoints", "warning: nothing to run"),))
    running.start()
    assert running.log.messages(LogLevel.warn) == ["sockd.yaml:2:1: endpoints: nothing to run"]


def test_serving(house: House, run: Daemons) -> None:
    """Bound, then started; it says what listens and how many of how many are open."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        busy = Address(Kind.TCP, "127.0.0.1", other.getsockname()[1])
        running = run(
            house.plan(TCP, busy, stream=Probes(), name="one"),
            house.plan(UDP, datagram=Datagrams(), name="two"),
        )
        running.daemon.privilegedStartService()
        assert not running.served
        running.daemon.startService()
    assert running.served == [running.daemon]
    tcp, udp = (endpoint.listeners[0].address for endpoint in running.daemon.endpoints)
    assert running.log.messages() == [
        f"one: {busy}: the address is in use by another program; next try in 1.0s",
        f"one: listening on {tcp}",
        f"two: listening on {udp}",
        "serving: 2 endpoints, 2 of 3 listeners open",
    ]
    running.connect()


def test_serving_was_told_to_a_person(house: House, run: Daemons) -> None:
    """A person who reads the table needs no line for each listener."""
    running = run(house.plan(TCP, stream=Probes()))
    running.person = True
    running.start()
    assert running.log.messages() == ["serving: 1 endpoint, 1 of 1 listener open"]
    assert len(running.log.messages(LogLevel.debug)) == 2


def test_serving_waits_for_the_first_tries(house: House, run: Daemons) -> None:
    """Every service was tried once before it is said."""
    starting: Deferred[None] = Deferred()
    running = run(
        house.plan(TCP, stream=Probes()), house.plan(TCP, stream=Probes(), service=Service(lambda: starting))
    )
    running.start()
    running.connect()
    assert not running.served
    starting.errback(SockdError("not yet"))
    assert running.served


def test_serving_waits_for_nobody_for_ever(house: House, run: Daemons) -> None:
    """A service whose start doesn't end is logged; the others serve before it does."""
    starting: Deferred[None] = Deferred()
    running = run(
        house.plan(TCP, stream=Probes()),
        house.plan(TCP, stream=Probes(), service=Service(lambda: starting), name="slow"),
    )
    running.start()
    house.run_clock(lambda: running.served)
    assert house.loop.seconds() == pytest.approx(SLOW_START, abs=0.1)
    assert running.log.messages(LogLevel.warn) == [
        "slow: service has not started after 5s; still waiting for it"
    ]
    assert running.log.messages()[-1] == "serving: 2 endpoints, 2 of 2 listeners open, 1 held"
    slow = running.daemon.endpoints[1]
    client = house.connect(slow.listeners[0].address, b"y")
    running.connect()
    starting.callback(None)
    assert slow.running
    assert house.receive(client, 1) == b"y"


def test_stopped_while_a_start_hangs(house: House, run: Daemons) -> None:
    """Before SLOW_START is over or after it: no timer is left."""
    for waited in (SLOW_START / 2, SLOW_START * 2):
        running = run(house.plan(TCP, stream=Probes(), service=Service(Deferred)))
        running.start()
        house.loop.advance(waited)
        running.stop()
        assert not house.loop.getDelayedCalls()


def test_stopped_before_it_served(house: House, run: Daemons) -> None:
    """A daemon that is stopped while it starts never says that it serves."""
    service = Service(Deferred)
    running = run(house.plan(TCP, stream=Probes(), service=service))
    running.start()
    assert running.stop() < 1.0
    assert not running.served
    assert service.stopped == 1


def test_stop_order(house: House, run: Daemons) -> None:
    """Listeners, connections, then services: a service outlives the connections that need it."""
    order: list[str] = []
    service, probes = Service(), Probes()
    service.on_stop = lambda: order.append(f"service after {len(probes.made[0].lost)}")
    running = run(house.plan(TCP, stream=probes, service=service))
    running.start()
    client = running.connect()
    assert running.stop() < DRAIN
    assert order == ["service after 1"]
    assert client.recv(1) == b""
    assert running.log.messages()[-3:] == [
        "stopping: 1 connection has 5s to finish",
        running.log.messages()[-2],
        "stopped",
    ]


def test_what_a_stop_logs(house: House, run: Daemons) -> None:
    """The fields of the event are those that mean something by themselves."""
    running = run(house.plan(TCP, stream=Probes())).start()
    running.stop()
    (event,) = running.log.named("stopping")
    assert formatEvent(event) == "stopping: 0 connections have 5s to finish"
    fields = {key: value for key, value in event.items() if not key.startswith("log_")}
    assert fields == {"connections": 0, "drain": "5s", "event": "stopping"}


def test_stopping_twice_is_stopping_once(house: House, run: Daemons) -> None:
    """Both wait for the same end."""
    running = run(house.plan(TCP, stream=Probes()))
    running.start()
    assert running.daemon.stopService() is running.daemon.stopService()


def test_nothing_to_run(house: House, run: Daemons) -> None:
    """A daemon without endpoints starts and stops too."""
    running = run()
    running.start()
    assert running.log.messages() == ["serving: 0 endpoints, 0 of 0 listeners open"]
    assert running.stop() == 0


def unfinished(running: Running) -> socket.socket:
    """A client whose connection doesn't finish by itself."""
    client = running.connect()
    (connection,) = running.daemon.endpoints[0].connections
    connection.pauseProducing()
    return client


def test_deadline_of_connections(house: House, run: Daemons) -> None:
    """What didn't finish in time is cut; another endpoint's services stop then too."""
    service = Service()
    running = run(house.plan(TCP, stream=Probes()), house.plan(UDP, datagram=Datagrams(), service=service))
    running.start()
    unfinished(running)
    assert running.stop() == pytest.approx(DRAIN, abs=0.2)
    assert [event["end"] for event in running.log.named("connection ended")] == ["closed by sockd"]
    assert service.stopped == 1


def test_deadline_of_services(house: House, run: Daemons) -> None:
    """A service has what is left of the drain's time; then its stop is cancelled."""
    cancelled: list[Any] = []
    service = Service()
    service.on_stop = lambda: Deferred(cancelled.append)
    running = run(house.plan(TCP, stream=Probes(), service=service))
    running.start()
    assert running.stop() == pytest.approx(DRAIN, abs=0.2)
    assert len(cancelled) == 1
    assert running.log.messages()[-1] == "stopped"


def test_services_have_a_little_time_in_any_case(house: House, run: Daemons) -> None:
    """Connections that took all of it leave them SERVICE_GRACE."""
    service = Service()
    service.on_stop = Deferred
    running = run(house.plan(TCP, stream=Probes(), service=service))
    running.start()
    unfinished(running)
    assert running.stop() == pytest.approx(DRAIN + SERVICE_GRACE, abs=0.2)


def test_service_whose_stop_swallows_its_cancellation(house: House, run: Daemons) -> None:
    """Nobody keeps a daemon from ending."""

    async def stop() -> None:
        while True:
            try:
                await Deferred()
            except CancelledError:
                await kept

    kept: Deferred[None] = Deferred()
    service = Service()
    service.on_stop = lambda: Deferred.fromCoroutine(stop())
    running = run(house.plan(TCP, stream=Probes(), service=service))
    running.start()
    assert running.stop() == pytest.approx(DRAIN, abs=0.2)


def test_service_whose_stop_fails(house: House, run: Daemons) -> None:
    """Its failure is logged; the others are stopped."""
    services = [Service(), Service()]
    services[0].on_stop = lambda: 1 / 0
    running = run(*(house.plan(TCP, stream=Probes(), service=service) for service in services))
    running.start()
    assert running.stop() < 1.0
    assert [service.stopped for service in services] == [1, 1]
    (message,) = running.log.messages(LogLevel.error)
    assert message.startswith("lobby: service failed to stop: ZeroDivisionError")


def test_hurry_cuts_connections(house: House, run: Daemons) -> None:
    """Asked once more, nothing is waited for but a service's SERVICE_GRACE."""
    service = Service()
    service.on_stop = Deferred
    running = run(house.plan(TCP, stream=Probes(), service=service))
    running.start()
    unfinished(running)
    stopped = running.daemon.stopService()
    running.daemon.hurry()
    assert house.run_clock(lambda: stopped.called) == pytest.approx(SERVICE_GRACE, abs=0.2)


def test_hurry_cuts_services(house: House, run: Daemons) -> None:
    """Asked once more while only services are left, their stops are cancelled immediately."""
    service = Service()
    service.on_stop = Deferred
    running = run(house.plan(TCP, stream=Probes(), service=service))
    running.start()
    stopped = running.daemon.stopService()
    house.run_clock(lambda: service.stopped)
    assert not stopped.called
    running.daemon.hurry()
    assert stopped.called
    running.daemon.hurry()


def test_required_endpoint_gives_up(house: House, run: Daemons) -> None:
    """The daemon asks to leave with 69, and says for how long, and why."""

    def trouble() -> None:
        raise SockdError("the disk is full")

    running = run(house.plan(TCP, stream=Probes(), service=Service(*[trouble] * 9), give_up_after=2.0))
    running.start()
    house.run_clock(lambda: running.left)
    assert running.left == [69]
    assert running.log.messages(LogLevel.critical) == [
        "lobby: required, and not running for 2s: the disk is full"
    ]


def test_required_endpoint_that_still_starts(house: House, run: Daemons) -> None:
    """One that has not failed, but doesn't run either, gives up too."""
    running = run(house.plan(TCP, stream=Probes(), service=Service(Deferred), give_up_after=2.0))
    running.start()
    house.run_clock(lambda: running.left)
    assert running.log.messages(LogLevel.critical) == [
        "lobby: required, and not running for 2s: it is not running"
    ]


def test_reopening(house: House, run: Daemons) -> None:
    """Every endpoint's service is asked."""
    asked: list[Any] = []

    class WithFiles(Service):
        def reopen(self) -> None:
            asked.append(self)

    services = [WithFiles(), WithFiles()]
    running = run(*(house.plan(TCP, stream=Probes(), service=service) for service in services))
    running.start()
    running.daemon.reopen()
    assert asked == services


def test_refusals_are_told_now_and_then(house: House, run: Daemons) -> None:
    """Once a minute what is new, at the stop the rest."""
    running = run(house.plan(TCP, stream=Probes()))
    running.start()
    refused = running.daemon.endpoints[0].listeners[0].counters.refused
    refused["by the protocol"] += 2
    house.loop.pump([1.0] * 60)
    house.loop.pump([1.0] * 60)
    refused["by the protocol"] += 1
    running.stop()
    assert [event["refused"]["by the protocol"] for event in running.log.named("refused")] == [2, 1]


def test_refusals_are_told_by_a_stop_that_is_cut(house: House, run: Daemons) -> None:
    """Also where a service had to be cancelled."""
    service = Service()
    service.on_stop = Deferred
    running = run(house.plan(TCP, stream=Probes(), service=service))
    running.start()
    running.daemon.endpoints[0].host.counters.refused["source network"] += 3
    running.stop()
    assert running.log.messages()[-2:] == ["lobby: refused: 3 x source network", "stopped"]


def test_stopped_before_it_was_started(house: House, run: Daemons) -> None:
    """What was bound is closed again."""
    running = run(house.plan(TCP, stream=Probes()))
    running.daemon.privilegedStartService()
    assert running.stop() == 0
    assert not house.loop.getDelayedCalls()


# -- what systemd hears


def test_ready_when_what_is_required_runs(house: House, run: Daemons) -> None:
    """Every listener was tried, and the required endpoint is back; the others may take their time."""
    down: Deferred[None] = Deferred()
    running = run(
        house.plan(TCP, stream=Probes(), service=Service(lambda: down), give_up_after=9.0, name="one"),
        house.plan(TCP, stream=Probes(), service=Service(raising(SockdError("no"))), name="two"),
        systemd=True,
    ).start()  # fmt: skip
    assert running.systemd.words() == ["EXTEND_TIMEOUT_USEC", "STATUS"]
    down.errback(SockdError("not yet"))
    assert "READY" not in running.systemd.words()
    house.run_clock(lambda: running.daemon.by_name["one"].running)
    heard = running.systemd.words()
    assert heard[-1] == "READY"
    assert heard.count("READY") == 1
    house.loop.advance(1.0)
    assert "EXTEND_TIMEOUT_USEC" not in running.systemd.words()


def test_ready_is_said_once(house: House, run: Daemons) -> None:
    """What is required may fail later: it has its own time to come back."""
    service = Service()
    running = run(house.plan(TCP, stream=Probes(), service=service, give_up_after=60.0), systemd=True).start()
    assert running.systemd.words()[-1] == "READY"
    running.daemon.endpoints[0].host.fail(SockdError("the disk is full"))
    house.run_clock(lambda: running.daemon.endpoints[0].running)
    house.loop.pump([1.0])
    assert "READY" not in running.systemd.words()


def test_the_status_in_words(house: House, run: Daemons) -> None:
    """It follows what happens, endpoints that are gone included; the stop may take any time."""
    running = run(house.plan(TCP, stream=Probes(), name="old"), systemd=True).start()
    unfinished(running)
    house.loop.advance(1.0)
    assert running.systemd.last() == "1 endpoint, 1 listener, 1 connection"
    running.now(house.plan(TCP, stream=Probes(), name="new"))
    running.told("reload")
    running.daemon.by_name["new"].suspend(True)
    house.loop.advance(1.0)
    assert running.systemd.last() == "1 endpoint, 1 listener, 1 suspended, 1 connection"
    running.systemd.words()
    running.stop()
    heard = running.systemd.words()
    assert heard[0] == "STOPPING"
    assert heard.count("EXTEND_TIMEOUT_USEC") > 2
    assert "READY" not in heard


# -- endpoints that the file has no more


def seen_off(running: Running) -> Endpoint:
    """Its only endpoint is removed by a reload."""
    (endpoint,) = running.daemon.endpoints
    running.now(running.house.plan(TCP, stream=Probes(), name="new"))
    running.told("reload")
    return endpoint


def test_seen_off(house: House, run: Daemons) -> None:
    """Its connections finish, then its service stops; then nothing of it is left."""
    service = Service()
    running = run(house.plan(TCP, stream=Probes(), service=service, name="old")).start()
    client = running.connect()
    seen_off(running)
    assert service.stopped == 0
    assert house.run_clock(lambda: not running.daemon.gone) < DRAIN
    assert client.recv(1) == b""
    assert service.stopped == 1
    assert not running.daemon.seeing_off


def test_seen_off_within_a_time(house: House, run: Daemons) -> None:
    """What doesn't finish is cut, a service that doesn't stop is cancelled; each has the drain's time."""
    cancelled: list[Any] = []
    service = Service()
    service.on_stop = lambda: Deferred(cancelled.append)
    running = run(house.plan(TCP, stream=Probes(), service=service, name="old")).start()
    unfinished(running)
    endpoint = seen_off(running)
    began = house.loop.seconds()
    house.run_clock(lambda: not endpoint.connections)
    assert house.loop.seconds() - began == pytest.approx(DRAIN, abs=0.2)
    assert running.daemon.gone
    house.run_clock(lambda: not running.daemon.gone)
    assert house.loop.seconds() - began == pytest.approx(2 * DRAIN, abs=0.3)
    assert len(cancelled) == 1
    running.connect()


def test_stopped_while_one_is_seen_off(house: House, run: Daemons) -> None:
    """One deadline for all: it has what is left of its own time, or of the stop's, whichever is less."""
    running = run(house.plan(TCP, stream=Probes(), name="old")).start()
    unfinished(running)
    seen_off(running)
    house.loop.advance(DRAIN / 2)
    assert running.stop() == pytest.approx(DRAIN / 2, abs=0.2)
    assert not running.daemon.gone
    assert "stopping: 1 connection has 5s to finish" in running.log.messages()


def test_hurried_while_one_is_seen_off(house: House, run: Daemons) -> None:
    """Its connections are cut and its service is cancelled with the others'."""
    service = Service()
    service.on_stop = Deferred
    running = run(house.plan(TCP, stream=Probes(), service=service, name="old"), drain=100.0).start()
    unfinished(running)
    seen_off(running)
    stopped = running.daemon.stopService()
    running.daemon.hurry()
    assert house.run_clock(lambda: stopped.called or service.stopped) < 1.0
    running.daemon.hurry()
    assert house.run_clock(lambda: stopped.called) < 1.0


def test_reopening_of_what_leaves(house: House, run: Daemons) -> None:
    """An endpoint that drains still writes its files."""
    asked: list[Any] = []

    class WithFiles(Service):
        def reopen(self) -> None:
            asked.append(self)

    running = run(house.plan(TCP, stream=Probes(), service=WithFiles(), name="old")).start()
    unfinished(running)
    seen_off(running)
    running.daemon.reopen()
    assert len(asked) == 1
