"""The course of an upgrade: what refuses it at each step, and that the daemon goes on as before then."""

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.protocol import Factory
from twisted.logger import LogLevel, formatEvent
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory

from sockd.base.addresses import Address, Kind
from sockd.base.errors import SockdError
from sockd.reload import MAX_LOGGED_PROBLEMS
from sockd.tree.endpoint import Endpoint
from sockd.upgrade.course import FREEZE_LIMIT
from sockd.upgrade.value import HandoverError, UpgradeRefusedError
from tests.daemons import DRAIN, Daemons, Running
from tests.transports.loop import Probe, echo
from tests.tree.house import House, Probes, Service, raising
from tests.upgrade.succession import PROCESS, Lastings, Upgrade

TCP = "tcp://127.0.0.1:0"

Begin = Callable[..., Upgrade]


class Freezing(Service):
    """A service whose state is what the test says."""

    def __init__(self, freeze: Callable[[], Any]) -> None:
        super().__init__()
        self.freeze = freeze

    def thaw(self, _state: Any) -> None:
        raise AssertionError("nothing is thawed here")


@pytest.fixture
def begin(run: Daemons, monkeypatch: pytest.MonkeyPatch) -> Iterator[Begin]:
    """Starts a daemon that can be upgraded as far as its last step."""
    begun: list[Upgrade] = []

    def make(*endpoints: Any, **more: Any) -> Upgrade:
        running = run(*endpoints, systemd=True, **more).start()
        running.systemd.words()
        begun.append(Upgrade(running, monkeypatch, PROCESS))
        return begun[-1]

    yield make
    for each in begun:
        each.close()


def goes_on(upgrade: Upgrade, client: socket.socket | None = None) -> None:
    """Clients that are there are served, and those that come; nothing is left of the attempt."""
    running = upgrade.running
    for endpoint in running.daemon.endpoints:
        assert not endpoint.causes
    if client is not None:
        client.send(b"still")
        assert running.house.receive(client, 5) == b"still"
    running.connect()
    assert running.told("status")["state"] == "running"


def last(upgrade: Upgrade) -> Any:
    """What the status says of the upgrade."""
    return upgrade.running.told("status")["upgrade"]


# -- to the end


def test_the_steps(house: House, begin: Begin) -> None:
    """Reload, rehearse, become the other program: what is handed over is what was rehearsed."""
    upgrade = begin(house.plan(TCP, stream=Lastings()))
    running = upgrade.running
    running.connect(b"hello")
    assert running.refused(running.ask("upgrade")) == (70, ("the new program can't be started",))
    assert upgrade.events == [
        "rehearsed with rehearse", "last words", "became run -c sockd.yaml",
    ]  # fmt: skip
    told = [event["event"] for event in running.log.events if event["log_level"] == LogLevel.info]
    assert told[-2:] == ["reloaded", "upgrading"]
    assert upgrade.handed is not None
    (rehearsed,) = upgrade.rehearsed
    assert rehearsed.endpoints == upgrade.handed.endpoints
    assert upgrade.handed.options == ("--syslog",)
    assert upgrade.handed.drained == 0
    connection = upgrade.handed.endpoints["lobby"].connections[0]
    assert connection.protocol == {"data": b"hello"}


def test_nothing_happens_between_state_and_exec(house: House, begin: Begin) -> None:
    """At the moment of the handover nobody accepts or reads."""
    upgrade = begin(house.plan(TCP, stream=Lastings()))
    client = upgrade.running.connect()
    (endpoint,) = upgrade.running.daemon.endpoints
    seen: list[Any] = []
    became = upgrade.replace

    def watched(*arguments: Any) -> None:
        seen.extend((endpoint.causes, set(house.loop.readers)))
        became(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sockd.upgrade.course.replace", watched)
        upgrade.running.told("upgrade")
    assert seen == [{"upgrading"}, set()]
    goes_on(upgrade, client)


# -- refused


def refusals(upgrade: Upgrade) -> tuple[int, tuple[str, ...]]:
    """Have it refused; the log and the status say so as well."""
    status, lines = upgrade.running.refused(upgrade.running.ask("upgrade"))
    # The reload has logged a wrong file already.
    what = upgrade.running.log.messages(LogLevel.error)[-1]
    assert what in (f"upgrade refused: {lines[-1]}", f"reload refused: {lines[-1]}")
    outcome = last(upgrade)
    assert not outcome["ok"]
    assert outcome["message"].startswith(lines[0])
    return status, lines


def test_a_wrong_file(house: House, begin: Begin) -> None:
    """The new program would read it: nothing more is tried."""
    upgrade = begin(house.plan(TCP, stream=Lastings()))
    client = upgrade.running.connect()
    upgrade.running.file = raising(SockdError("sockd.yaml:1:1: nonsense"))
    assert refusals(upgrade) == (78, ("sockd.yaml:1:1: nonsense",))
    assert upgrade.running.log.messages(LogLevel.error) == ["reload refused: sockd.yaml:1:1: nonsense"]
    assert not upgrade.events
    goes_on(upgrade, client)


def test_what_the_rehearsal_found(house: House, begin: Begin) -> None:
    """Every line of it, within bounds in the log."""
    upgrade = begin(house.plan(TCP, stream=Lastings()))
    client = upgrade.running.connect()
    lines = tuple(f"lobby: reason {number}" for number in range(MAX_LOGGED_PROBLEMS + 3))
    upgrade.rehearsal = lambda: fail(UpgradeRefusedError(*lines))
    assert upgrade.running.refused(upgrade.running.ask("upgrade")) == (70, lines)
    assert upgrade.running.log.messages(LogLevel.error) == [
        f"upgrade refused: {line}" for line in lines[:MAX_LOGGED_PROBLEMS]
    ]
    assert last(upgrade)["message"] == f"lobby: reason 0 (and {MAX_LOGGED_PROBLEMS + 2} more)"
    assert upgrade.events == ["rehearsed with rehearse"]
    goes_on(upgrade, client)


@pytest.mark.parametrize("error", [HandoverError("too much"), UpgradeRefusedError("no such program")])
def test_a_rehearsal_that_can_not_begin(error: Exception, house: House, begin: Begin) -> None:
    """There is no memory, or no process to be had."""
    upgrade = begin(house.plan(TCP, stream=Lastings()))
    upgrade.rehearsal = raising(error)
    assert refusals(upgrade) == (70, (str(error),))
    goes_on(upgrade)


def test_the_last_step_fails(house: House, begin: Begin) -> None:
    """systemd knew that another program begins: it hears that this one goes on."""
    upgrade = begin(house.plan(TCP, stream=Lastings()))
    client = upgrade.running.connect()
    reports = upgrade.running.daemon.reports
    upgrade.before_exec = reports.reloading
    assert refusals(upgrade) == (70, ("the new program can't be started",))
    assert upgrade.running.systemd.words() == ["RELOADING", "READY"] * 2  # the first is the reload
    goes_on(upgrade, client)


def test_a_bug_of_ours(house: House, begin: Begin) -> None:
    """The log has the traceback."""
    upgrade = begin(house.plan(TCP, stream=Lastings()))
    client = upgrade.running.connect()
    upgrade.exec = KeyError("a bug")
    status, (line,) = refusals(upgrade)
    assert status == 70
    assert line.startswith("the upgrade failed: KeyError: 'a bug' (")
    (event,) = [event for event in upgrade.running.log.events if "log_failure" in event]
    assert event["log_failure"].type is KeyError
    goes_on(upgrade, client)


class Wrapping(WrappingFactory):
    """Twisted's wrappers show what their transport has as if it were their own."""

    noisy = False


def no_state(state: Any) -> Any:
    """A protocol whose `freeze` returns this, or raises it."""
    probe: Any = Probe(echo)
    probe.freeze = raising(state) if isinstance(state, BaseException) else lambda: state
    probe.thaw = raising(AssertionError("nothing is thawed here"))
    return probe


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (lambda: no_state(ZeroDivisionError("a bug in freeze")), "ZeroDivisionError: a bug in freeze ("),
        (lambda: no_state(SystemExit(3)), "SystemExit: 3 ("),
        (lambda: no_state(Deferred()), "the state: a value of the type Deferred can't be handed over"),
        (lambda: no_state({"peer": object()}), "peer: a value of the type object can't be handed over"),
        (lambda: ProtocolWrapper(Wrapping(Factory()), Probe(echo)), "Probe has no freeze and thaw"),
        (lambda: None, None),
    ],
)
def test_a_connection_that_can_not_give_its_state(
    build: Any, why: str | None, house: House, begin: Begin
) -> None:
    """It finishes before the upgrade, with a line that says which it is and why; all others go on."""
    probes = Lastings()
    upgrade = begin(house.plan(TCP, stream=probes))
    running = upgrade.running
    running.connect()
    if (odd := build()) is not None:
        probes.buildProtocol = lambda addr: odd  # type: ignore[method-assign]
        running.connect()
        del probes.buildProtocol
    running.told("upgrade")
    assert upgrade.handed is not None
    assert len(upgrade.handed.endpoints["lobby"].connections) == 1
    lines = [formatEvent(event) for event in running.log.named("not handed over")]
    assert len(lines) == (why is not None)
    for line in lines:
        one = f"{running.address()}: the connection of 127.0.0.1:"
        several = f"{running.address()}: connections finish before the upgrade: "
        assert line.startswith((one, several))
        assert line.partition("before")[2].removeprefix(" the upgrade").startswith(f": {why}")


def test_a_state_that_fails_in_the_last_moment(house: House, begin: Begin) -> None:
    """Then there is no time to finish: the upgrade is refused for now."""
    probes = Lastings()
    upgrade = begin(house.plan(TCP, stream=probes))
    client = upgrade.running.connect()
    (probe,) = probes.made

    def rehearsed() -> Any:
        probe.faults = ("freeze",)
        return succeed("0.2.0")

    upgrade.rehearsal = rehearsed
    status, (line,) = refusals(upgrade)
    assert status == 75
    assert line.startswith("the protocol of a connection could not give its state any more")
    goes_on(upgrade, client)


# -- services


@pytest.mark.parametrize(
    "how", [raising(ZeroDivisionError("a bug")), lambda: fail(ZeroDivisionError("a bug"))]
)
def test_a_service_that_can_not_tell_its_state(how: Any, house: House, begin: Begin) -> None:
    """At once, or as its Deferred says."""
    upgrade = begin(house.plan(TCP, stream=Lastings(), service=Freezing(how)))
    client = upgrade.running.connect()
    status, (line,) = refusals(upgrade)
    assert status == 70
    assert line.startswith("lobby: the service can't give its state: ZeroDivisionError: a bug")
    goes_on(upgrade, client)


def test_a_service_that_fails_to_tell_its_state_later(house: House, begin: Begin) -> None:
    """Its reason is reported, and it is not asked again."""
    states: list[Deferred[Any]] = []

    def freeze() -> Deferred[Any]:
        states.append(Deferred())
        return states[-1]

    upgrade = begin(house.plan(TCP, stream=Lastings(), service=Freezing(freeze)))
    asked = upgrade.running.ask("upgrade")
    states[0].errback(SockdError("the disk is full"))
    assert upgrade.running.refused(asked) == (
        70, ("lobby: the service can't give its state: the disk is full",),
    )  # fmt: skip
    assert len(states) == 1
    goes_on(upgrade)


def test_a_service_that_never_tells_its_state(house: House, begin: Begin) -> None:
    """It is waited for within bounds, and it is named; others are not."""
    upgrade = begin(
        house.plan(TCP, stream=Lastings(), service=Freezing(Deferred), name="slow"),
        house.plan(TCP, stream=Lastings(), service=Freezing(dict), name="quick"),
    )
    client = upgrade.running.connect()
    began = house.loop.seconds()
    assert refusals(upgrade) == (70, ("slow: the service can't hand over what it has not finished",))
    assert house.loop.seconds() - began == pytest.approx(FREEZE_LIMIT, abs=0.2)
    goes_on(upgrade, client)


def test_a_service_that_takes_its_time(house: House, begin: Begin) -> None:
    """The states of all are of one moment: the others are asked again when the last one is ready."""
    writing: Deferred[None] = Deferred()
    counted: list[int] = []

    def slow() -> Any:
        if writing.called:
            return {"written": True}
        state: Deferred[Any] = Deferred()
        writing.addCallback(lambda _: state.callback({"written": False}))
        return state

    def quick() -> Any:
        counted.append(len(counted))
        return counted[-1]

    upgrade = begin(
        house.plan(TCP, stream=Lastings(), service=Freezing(slow), name="slow"),
        house.plan(TCP, stream=Lastings(), service=Freezing(quick), name="quick"),
    )
    asked = upgrade.running.ask("upgrade")
    assert not upgrade.rehearsed
    writing.callback(None)
    (rehearsed,) = upgrade.rehearsed
    assert rehearsed.endpoints["slow"].service == ({"written": True},)
    assert rehearsed.endpoints["quick"].service == (1,)
    upgrade.running.outcome(asked)


def test_services_that_are_never_ready_together(house: House, begin: Begin) -> None:
    """While connections go on, several files may be written all the time: the rehearsal does without."""
    turns: list[Deferred[Any]] = []
    resting: list[bool] = []

    def freeze() -> Any:
        if resting:
            return "now"
        turns.append(Deferred())
        house.loop.callLater(0.1 * len(turns), turns[-1].callback, len(turns))
        return turns[-1]

    upgrade = begin(
        house.plan(TCP, stream=Lastings(), service=Freezing(freeze), name="one"),
        house.plan(TCP, stream=Lastings(), service=Freezing(freeze), name="two"),
    )
    rehearsal: Deferred[str] = Deferred()
    upgrade.rehearsal = lambda: rehearsal
    asked = upgrade.running.ask("upgrade")
    house.run_clock(lambda: upgrade.rehearsed)
    states = [upgrade.rehearsed[0].endpoints[name].service for name in ("one", "two")]
    assert all(isinstance(state, int) for (state,) in states)
    resting.append(True)
    rehearsal.callback("0.2.0")
    upgrade.running.outcome(asked)
    assert upgrade.handed is not None
    assert [upgrade.handed.endpoints[name].service for name in ("one", "two")] == [("now",)] * 2
    house.run_clock(lambda: all(state.called for state in turns))


def test_a_service_whose_deferred_has_fired(house: House, begin: Begin) -> None:
    """That is as good as a state; and there may be None, or no state at all."""
    upgrade = begin(
        house.plan(TCP, stream=Lastings(), service=Freezing(lambda: succeed(7)), name="fired"),
        house.plan(TCP, stream=Lastings(), service=Freezing(lambda: None), name="none"),
        house.plan(TCP, stream=Lastings(), service=Service(), name="stateless"),
    )
    upgrade.running.told("upgrade")
    assert upgrade.handed is not None
    assert [upgrade.handed.endpoints[name].service for name in ("fired", "none", "stateless")] == [
        (7,), (None,), (),
    ]  # fmt: skip


# -- connections that can't go on


def stuck(running: Running, endpoint: int = 0) -> socket.socket:
    """A client whose connection doesn't finish by itself."""
    before = set(running.daemon.endpoints[endpoint].connections)
    client = running.connect(endpoint=endpoint)
    (connection,) = set(running.daemon.endpoints[endpoint].connections) - before
    connection.pauseProducing()
    return client


def test_connections_that_can_not_go_on_finish_first(house: House, begin: Begin) -> None:
    """Within `daemon.drain`; until then their endpoint accepts nobody, and newcomers are served after."""
    upgrade = begin(
        house.plan(TCP, stream=Probes(), name="old"), house.plan(TCP, stream=Lastings(), name="new")
    )
    running = upgrade.running
    clients = [running.connect(), stuck(running)]
    began = house.loop.seconds()
    asked = running.ask("upgrade")
    old, new = running.daemon.endpoints
    assert old.causes == {"draining"}
    assert not new.causes
    waiting = house.connect(running.address(), b"later")
    running.connect(endpoint=1)
    house.run_clock(lambda: len(old.connections) == 1)
    assert house.receive(clients[0], 1) == b""
    assert not asked.called
    running.outcome(asked)
    assert house.loop.seconds() - began == pytest.approx(DRAIN, abs=0.2)
    assert upgrade.handed is not None
    assert upgrade.handed.drained == 2
    assert not upgrade.handed.endpoints["old"].connections
    assert len(upgrade.handed.endpoints["new"].connections) == 1
    assert house.receive(waiting, 5) == b"later"
    assert sorted(event["end"] for event in running.log.named("connection ended")) == [
        "closed by sockd",
        "drained",
    ]
    goes_on(upgrade)


def test_who_is_draining_by_hand_finishes_first(house: House, begin: Begin) -> None:
    """They were to end anyway; they are waited for, and not counted as the upgrade's."""
    upgrade = begin(house.plan(TCP, stream=Lastings()))
    running = upgrade.running
    stuck(running)
    draining = running.ask("drain", endpoint="lobby")
    asked = running.ask("upgrade")
    assert not upgrade.handed
    running.outcome(asked)
    assert draining.called
    assert upgrade.handed is not None
    assert (upgrade.handed.drained, upgrade.handed.endpoints["lobby"].connections) == (0, ())
    assert upgrade.handed.endpoints["lobby"].suspended


def test_who_leaves_with_a_reload_finishes_first(house: House, begin: Begin) -> None:
    """Of an endpoint that is gone nothing can be handed over."""
    upgrade = begin(house.plan(TCP, stream=Lastings(), name="old"))
    running = upgrade.running
    stuck(running)
    running.now(house.plan(TCP, stream=Lastings(), name="new"))
    asked = running.ask("upgrade")
    assert running.daemon.leaving == 1
    running.outcome(asked)
    assert not running.daemon.gone
    assert upgrade.handed is not None
    assert list(upgrade.handed.endpoints) == ["new"]
    goes_on(upgrade)


# -- what comes between


def test_asked_twice(house: House, begin: Begin) -> None:
    """One is under way: the other is refused immediately, and changes nothing about the first."""
    upgrade = begin(house.plan(TCP, stream=Lastings()))
    running = upgrade.running
    rehearsal: Deferred[str] = Deferred()
    upgrade.rehearsal = lambda: rehearsal
    asked = running.ask("upgrade")
    assert running.told("status")["state"] == "upgrading"
    assert running.refused(running.ask("upgrade")) == (75, ("an upgrade is under way",))
    upgrade.course.by_signal()
    assert running.log.messages(LogLevel.error) == ["upgrade refused: an upgrade is under way"]
    assert len(upgrade.rehearsed) == 1
    rehearsal.callback("0.2.0")
    assert running.refused(asked) == (70, ("the new program can't be started",))
    upgrade.rehearsal = lambda: succeed("0.2.0")
    running.told("upgrade")
    assert len(upgrade.rehearsed) == 2
    goes_on(upgrade)


def test_by_signal(house: House, begin: Begin) -> None:
    """Why it was refused is in the log and in the status."""
    upgrade = begin(house.plan(TCP, stream=Lastings()))
    upgrade.course.by_signal()
    house.run_clock(lambda: upgrade.running.daemon.last_upgrade)
    assert upgrade.running.log.messages(LogLevel.error) == [
        "upgrade refused: the new program can't be started"
    ]
    assert last(upgrade)["message"] == "the new program can't be started"
    goes_on(upgrade)


@pytest.mark.parametrize("step", ["reload", "rehearsal", "service", "connections"])
def test_stopped_meanwhile(step: str, house: House, begin: Begin) -> None:
    """At whatever step it waits: no upgrade follows, the client hears why, and the stop has its course."""
    cancelled: list[Any] = []
    service = Freezing(Deferred if step == "service" else dict)
    upgrade = begin(
        house.plan(TCP, stream=Probes() if step == "connections" else Lastings(), service=service)
    )
    running = upgrade.running
    stuck(running)
    if step == "reload":
        running.file = Deferred
    rehearsals: list[Deferred[Any]] = []

    def rehearse() -> Deferred[Any]:
        rehearsals.append(Deferred(cancelled.append))
        return rehearsals[0]

    if step == "rehearsal":
        upgrade.rehearsal = rehearse
    asked = running.ask("upgrade")
    assert running.told("status")["state"] == "upgrading"
    if step == "rehearsal":
        house.until(lambda: rehearsals)  # connections are looked at before, for a slice of each turn
    upgrade.course.cancel()
    stopped = running.daemon.stopService()
    assert running.refused(asked) == (69, ("the daemon is stopping",))
    assert running.refused(running.ask("upgrade")) == (75, ("the daemon is stopping",))
    assert running.told("status")["state"] == "stopping"
    assert len(cancelled) == (step == "rehearsal")
    assert house.run_clock(lambda: stopped.called) == pytest.approx(DRAIN, abs=0.2)
    assert upgrade.handed is None
    upgrade.course.cancel()


def test_reloaded_meanwhile(house: House, begin: Begin) -> None:
    """What was rehearsed is not what would be handed over."""
    upgrade = begin(house.plan(TCP, stream=Probes(), name="old"))
    running = upgrade.running
    stuck(running)
    asked = running.ask("upgrade")
    running.now(*running.plan.endpoints, house.plan(TCP, stream=Lastings(), name="new"))
    running.told("reload")
    assert running.refused(asked) == (75, ("the file was reloaded during the upgrade: try again",))
    assert upgrade.handed is None
    goes_on(upgrade)


def test_reloaded_meanwhile_with_nothing_new(house: House, begin: Begin) -> None:
    """This happens after each turn of the logs, and doesn't get in the way."""
    upgrade = begin(house.plan(TCP, stream=Probes()))
    running = upgrade.running
    stuck(running)
    asked = running.ask("upgrade")
    running.told("reload")
    running.outcome(asked)
    assert upgrade.handed is not None


@pytest.mark.parametrize("wrong", [False, True])
def test_the_file_is_changed_meanwhile(wrong: bool, house: House, begin: Begin) -> None:
    """The new program would read it, though nobody has rehearsed that; it may be half of what is written."""
    upgrade = begin(house.plan(TCP, stream=Probes(), name="old"))
    running = upgrade.running
    stuck(running)
    asked = running.ask("upgrade")
    if wrong:
        running.file = raising(SockdError("no 'key: value'"))
    else:
        running.now(*running.plan.endpoints, house.plan(TCP, stream=Lastings(), name="new"))
    expected = (
        (78, "no 'key: value'") if wrong else (75, "the file was changed during the upgrade: try again")
    )
    assert running.refused(asked) == (expected[0], (expected[1],))
    assert upgrade.handed is None
    goes_on(upgrade)


def test_asked_to_finish_in_the_last_moment(house: House, begin: Begin) -> None:
    """A drain by hand that begins when all is held has its course: nobody is cut off by the upgrade."""
    states: list[Any] = [{}]
    written: Deferred[Any] = Deferred()

    def freeze() -> Any:
        return states.pop(0) if states else written

    upgrade = begin(
        house.plan(TCP, stream=Lastings(), service=Freezing(freeze)),
        house.plan(TCP, stream=Lastings(), name="other"),
    )
    running = upgrade.running
    client = running.connect()
    asked = running.ask("upgrade")
    house.until(lambda: "upgrading" in running.daemon.endpoints[0].causes)
    draining = running.ask("drain", endpoint="lobby")
    states.append({})
    written.callback({})
    assert running.refused(asked) == (75, ("connections were asked to finish during the upgrade: try again",))
    assert upgrade.handed is None
    assert running.outcome(draining) == {"endpoint": "lobby", "finished": 1, "closed": 0}
    assert house.receive(client, 1) == b""
    running.told("resume", endpoint="lobby")
    goes_on(upgrade)


def test_services_that_are_never_at_rest_together(house: House, begin: Begin) -> None:
    """Under load each is at times: that does for a rehearsal; the last step comes when nothing is read."""
    busy: list[Endpoint] = []
    numbers = count()

    def freeze() -> Any:
        if busy and "upgrading" in busy[0].causes:
            return "at rest"
        state: Deferred[Any] = Deferred()
        house.loop.callLater(0.5, state.callback, next(numbers))
        return state

    upgrade = begin(
        house.plan(TCP, stream=Lastings(), service=Freezing(freeze), name="busy"),
        house.plan(TCP, stream=Lastings(), service=Freezing(dict), name="other"),
    )
    busy.append(upgrade.running.daemon.endpoints[0])
    began = house.loop.seconds()
    upgrade.running.told("upgrade")
    assert house.loop.seconds() - began == pytest.approx(FREEZE_LIMIT, abs=0.6)
    (rehearsed,) = upgrade.rehearsed
    assert rehearsed.endpoints["busy"].service[0] in range(20)
    assert upgrade.handed is not None
    assert upgrade.handed.endpoints["busy"].service == ("at rest",)
    house.loop.advance(1.0)


def test_reloading_meanwhile(house: House, begin: Begin) -> None:
    """One that has not come to its end yet counts as well."""
    upgrade = begin(house.plan(TCP, stream=Probes()))
    running = upgrade.running
    stuck(running)
    asked = running.ask("upgrade")
    reading: Deferred[Any] = Deferred()
    running.file = lambda: reading
    reload = running.ask("reload")
    assert running.refused(asked)[0] == 75
    reading.callback(running.plan)
    running.outcome(reload)
    goes_on(upgrade)


def test_an_endpoint_removed_meanwhile(house: House, begin: Begin) -> None:
    """Whatever the upgrade had held is held no longer, wherever it is now."""
    states: list[Any] = [{}]

    def freeze() -> Any:
        return states.pop(0) if states else Deferred()

    upgrade = begin(house.plan(TCP, stream=Lastings(), service=Freezing(freeze), name="old"))
    running = upgrade.running
    client = running.connect()
    (old,) = running.daemon.endpoints
    asked = running.ask("upgrade")
    house.until(lambda: "upgrading" in old.causes)
    running.now(house.plan(TCP, stream=Lastings(), name="new"))
    running.told("reload")
    assert running.refused(asked)[0] in (70, 75)
    assert "upgrading" not in old.causes
    house.run_clock(lambda: not running.daemon.gone)
    assert house.receive(client, 1) == b""
    goes_on(upgrade)


def test_who_asked_is_pending(house: House, begin: Begin, tmp_path: Any) -> None:
    """The connection on which it was asked for is handed over, so that the new program answers."""
    control = Address(Kind.UNIX, path=f"{tmp_path}/control")
    upgrade = begin(house.plan(TCP, stream=Lastings()), control=control)
    client = house.connect(control, b'{"version": 1, "command": "upgrade"}\n{"version": 1')
    house.run_clock(lambda: upgrade.handed)
    assert upgrade.handed is not None
    (asker,) = upgrade.handed.control
    assert asker["state"] == {"rest": b'{"version": 1', "discarding": False}
    answer = b'{"version":1,"ok":false,"status":70,"problems":["the new program can\'t be started"]}\n'
    assert house.receive(client, len(answer)) == answer
    assert os.path.exists(control.path)


def test_the_state_is_of_now(house: House, begin: Begin) -> None:
    """What came between the rehearsal and the last step is handed over too."""
    upgrade = begin(house.plan(TCP, stream=Lastings()))
    running = upgrade.running
    client = running.connect(b"before")
    rehearsal: Deferred[str] = Deferred()
    upgrade.rehearsal = lambda: rehearsal
    asked = running.ask("upgrade")
    client.send(b" after")
    assert house.receive(client, 6) == b" after"
    running.connect(b"new")
    rehearsal.callback("0.2.0")
    running.outcome(asked)
    assert upgrade.handed is not None
    states = [connection.protocol["data"] for connection in upgrade.handed.endpoints["lobby"].connections]
    assert states == [b"before after", b"new"]


def test_cancelling_is_nothing_else(house: House, begin: Begin) -> None:
    """A third party's CancelledError alone is no stop, but it refuses the upgrade all the same."""
    upgrade = begin(house.plan(TCP, stream=Lastings()))
    upgrade.rehearsal = lambda: fail(CancelledError())
    assert refusals(upgrade)[0] == 69
    plan = upgrade.running.plan
    assert replace(plan) == upgrade.running.daemon.plan
    goes_on(upgrade)
