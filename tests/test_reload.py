"""A reload does all of a plan or nothing, and says so to its caller, the log, systemd and the status."""

import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel

from sockd.base.addresses import Address, Kind
from sockd.base.errors import FileWrongError, Place, Problem, SockdError, SystemLacksError
from sockd.daemon import SERVICE_GRACE
from sockd.plan.changes import Setting
from sockd.plan.plan import LogPlan, Plan
from sockd.reload import MAX_LOGGED_PROBLEMS, READ_TIMEOUT
from sockd.sinks.thread import ThreadError
from sockd.transports.sockets.opening import Opened
from sockd.tree import reconcile
from sockd.tree.sockets import Sockets
from tests.daemons import DRAIN, Daemons, Running
from tests.tree.house import House, Probes, Service, raising

TCP = "tcp://127.0.0.1:0"


class Keen(Service):
    """A service that takes other options while it runs; `takes` says how."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[Any] = []
        self.takes: Any = lambda: None

    def reload(self, options: Any) -> Any:
        self.taken.append(options)
        return self.takes()


def problems(count: int) -> FileWrongError:
    return FileWrongError(
        tuple(Problem(Place("sockd.yaml", line, 1), "", f"problem {line}") for line in range(1, count + 1))
    )


def other_options(running: Running) -> Plan:
    """The file says something else about the first endpoint's protocol."""

    class Others(type(running.plan.endpoints[0].options)):  # type: ignore[misc]
        more: int = 1

    return running.now(replace(running.plan.endpoints[0], options=Others()))


def slow_disk(running: Running) -> list[Deferred[Plan]]:
    """Each time that the file is read there is one more Deferred, which the test answers."""
    reads: list[Deferred[Plan]] = []

    def read() -> Deferred[Plan]:
        reads.append(Deferred())
        return reads[-1]

    running.file = read
    return reads


# -- done


def test_added_and_removed(house: House, run: Daemons) -> None:
    """The new plan runs, connections of the old one finish, and one line of the log sums it up."""
    running = run(house.plan(TCP, stream=Probes(), name="old"), systemd=True).start()
    client = running.connect()
    running.systemd.words()
    running.now(house.plan(TCP, stream=Probes(), name="new"), warnings=())
    result = running.told("reload")
    assert [each["name"] for each in result["changes"]["added"]] == ["new"]
    assert [each["name"] for each in result["changes"]["removed"]] == ["old"]
    assert running.systemd.words() == ["RELOADING", "READY"]
    assert running.log.messages()[-1] == "reloaded: 1 added, 1 removed"
    last = running.told("status")["reload"]
    assert (last["ok"], last["message"]) == (True, "1 added, 1 removed")
    running.connect()
    house.run_clock(lambda: not running.daemon.gone)
    assert client.recv(1) == b""
    assert not running.daemon.seeing_off


def test_another_protocol_on_an_open_socket_is_logged(house: House, run: Daemons) -> None:
    """Its address is `listening` for the new protocol; after an update alone it isn't logged again."""
    running = run(house.plan(TCP, stream=Probes())).start()
    address = running.address()
    before = len(running.log.named("listening"))
    other = replace(running.plan.endpoints[0], protocol="other")
    running.now(other)
    running.told("reload")
    events = running.log.named("listening")[before:]
    assert [(event["address"], event["protocol"]) for event in events] == [(str(address), "other")]
    running.now(replace(other, limits=replace(other.limits, connections=7)))
    running.told("reload")
    assert len(running.log.named("listening")) == before + 1


def test_warnings_are_told(house: House, run: Daemons) -> None:
    """The caller gets them, and so does the log."""
    running = run(house.plan(TCP, stream=Probes())).start()
    running.now(warnings=(Problem(Place("sockd.yaml", 2, 1), "endpoints", "warning: odd"),))
    for command in ("diff", "reload"):
        assert running.told(command)["warnings"] == ["sockd.yaml:2:1: endpoints: warning: odd"]
    assert running.log.messages(LogLevel.warn) == ["sockd.yaml:2:1: endpoints: odd"]


def test_a_diff_changes_nothing(house: House, run: Daemons) -> None:
    """It reports what a reload would do."""
    running = run(house.plan(TCP, stream=Probes(), name="old"), systemd=True).start()
    running.systemd.words()
    running.now(house.plan(TCP, stream=Probes(), name="new"), drain=20.0)
    result = running.told("diff")
    assert running.daemon.endpoints[0].name == "old"
    assert not running.systemd.heard
    assert running.told("status")["reload"] is None
    assert result == running.told("reload")
    assert result["changes"]["daemon"] == ["drain: 5s -> 20s"]


def test_the_drain_of_the_file_holds_at_once(house: House, run: Daemons) -> None:
    """It bounds the draining of an endpoint that the same file removes."""
    running = run(house.plan(TCP, stream=Probes(), name="old")).start()
    running.connect()
    (server,) = running.daemon.endpoints[0].connections
    server.pauseProducing()
    running.now(house.plan(TCP, stream=Probes(), name="new"), drain=2.0)
    running.told("reload")
    assert running.daemon.leaving == 1
    assert house.run_clock(lambda: not running.daemon.leaving) == pytest.approx(2.0, abs=0.2)


def test_the_process_follows(house: House, run: Daemons, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the process are handed to the program."""
    running = run(house.plan(TCP, stream=Probes())).start()
    seen: list[Any] = []
    monkeypatch.setattr(running.daemon, "changed_settings", seen.append)
    old = running.plan
    new = running.now(log=LogPlan("debug", "json"))
    running.told("reload")
    (changes,) = seen
    assert (changes.old, changes.new, changes.settings) == (old, new, {Setting.LOG})
    assert running.daemon.plan is new


def test_by_signal(house: House, run: Daemons) -> None:
    """Nobody waits for an answer: the outcome is in the log and in the status."""
    running = run(house.plan(TCP, stream=Probes())).start()
    running.daemon.reloading.by_signal()
    assert running.log.messages()[-1].startswith("reloaded: ")
    running.file = raising(SockdError("no such file"))
    running.daemon.reloading.by_signal()
    assert running.log.messages()[-1] == "reload refused: no such file"
    assert running.told("status")["reload"]["message"] == "no such file"


def test_a_socket_of_systemd_that_no_endpoint_has(house: House, run: Daemons) -> None:
    """The reload that leaves it says so, once."""
    with socket.create_server(("127.0.0.1", 0)) as passed:
        passed.setblocking(False)
        opened = Opened(passed, Address(Kind.TCP, *passed.getsockname()), ours=False)
        sockets = Sockets({"web": [opened]})
        running = run(house.plan("systemd://web", stream=Probes()), sockets=sockets).start()
        assert not running.log.messages(LogLevel.warn)
        running.now(house.plan(TCP, stream=Probes()))
        for _ in range(2):
            running.told("reload")
    (message,) = running.log.messages(LogLevel.warn)
    assert message == "systemd passed a socket named web, but no endpoint listens on systemd://web"


# -- refused


def test_a_wrong_file(house: House, run: Daemons) -> None:
    """The caller gets every problem, with status 78; the log and the status have a few of them."""
    running = run(house.plan(TCP, stream=Probes()), systemd=True).start()
    before = running.daemon.plan
    running.systemd.words()
    running.file = raising(problems(MAX_LOGGED_PROBLEMS + 5))
    assert running.refused(running.ask("diff"))[0] == 78
    status, lines = running.refused(running.ask("reload"))
    assert status == 78
    assert lines == tuple(
        f"sockd.yaml:{line}:1: problem {line}" for line in range(1, MAX_LOGGED_PROBLEMS + 6)
    )
    assert running.log.messages(LogLevel.error) == [
        f"reload refused: {line}" for line in lines[:MAX_LOGGED_PROBLEMS]
    ]
    last = running.told("status")["reload"]
    assert (last["ok"], last["message"]) == (False, f"{lines[0]} (and {MAX_LOGGED_PROBLEMS + 4} more)")
    assert running.systemd.words() == ["RELOADING", "READY"]
    assert running.daemon.plan is before
    running.connect()


def test_a_file_that_can_not_be_had(house: House, run: Daemons) -> None:
    """Any other error of reading it is 78 as well."""
    running = run(house.plan(TCP, stream=Probes())).start()
    running.file = raising(SockdError("sockd.yaml: Permission denied"))
    assert running.refused(running.ask("reload")) == (78, ("sockd.yaml: Permission denied",))


def test_no_thread_to_read_the_file_in(house: House, run: Daemons) -> None:
    """A refusal in words, to be tried again: the file may be right."""
    running = run(house.plan(TCP, stream=Probes())).start()
    running.file = raising(ThreadError("no thread can be started"))
    why = "the file can't be read: no thread can be started; try again later"
    assert running.refused(running.ask("reload")) == (os.EX_TEMPFAIL, (why,))


def test_too_little_to_read_the_file(house: House, run: Daemons) -> None:
    """The same where memory or descriptors are missing while it is read."""
    running = run(house.plan(TCP, stream=Probes())).start()
    why = "sockd.yaml: the file can't be read: there is too little memory"
    running.file = raising(SystemLacksError(why))
    assert running.refused(running.ask("reload")) == (os.EX_TEMPFAIL, (why,))


def test_an_address_that_is_in_use(house: House, run: Daemons) -> None:
    """The file is right, but something in it can't be had now: 75."""
    running = run(house.plan(TCP, stream=Probes())).start()
    with socket.create_server(("127.0.0.1", 0)) as other:
        busy = Address(Kind.TCP, "127.0.0.1", other.getsockname()[1])
        running.now(*running.plan.endpoints, house.plan(busy, stream=Probes(), name="new"))
        status, lines = running.refused(running.ask("reload"))
    assert status == 75
    assert lines == (f"new: {busy}: the address is in use by another program",)
    assert [endpoint.name for endpoint in running.daemon.endpoints] == ["lobby"]
    running.connect()


def test_a_control_socket_that_can_not_be_had(house: House, run: Daemons, tmp_path: Path) -> None:
    """What was opened by then is closed again, and the old plan goes on."""
    running = run(house.plan(TCP, stream=Probes())).start()
    (tmp_path / "control").mkdir()
    wanted = house.plan(f"unix://{tmp_path}/new.sock", stream=Probes(), name="new")
    running.now(*running.plan.endpoints, wanted, control=Address(Kind.UNIX, path=str(tmp_path / "control")))
    status, lines = running.refused(running.ask("reload"))
    assert status == 75
    assert "not a socket" in lines[0]
    assert os.listdir(tmp_path) == ["control"]
    assert running.daemon.plan.control is None
    running.connect()


def test_a_bug_of_ours(house: House, run: Daemons, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller gets its place, with status 70, and the log has the traceback."""
    running = run(house.plan(TCP, stream=Probes())).start()
    monkeypatch.setattr("sockd.reload.diff", raising(ZeroDivisionError("a bug")))
    status, (line,) = running.refused(running.ask("reload"))
    assert status == 70
    assert line.startswith("the reload failed: ZeroDivisionError: a bug (")
    (event,) = [event for event in running.log.events if "log_failure" in event]
    assert event["log_failure"].type is ZeroDivisionError
    running.told("status")


def test_options_that_a_service_refuses(house: House, run: Daemons) -> None:
    """The endpoint is named, and its service gets the old options back."""
    service = Keen()
    running = run(house.plan(TCP, stream=Probes(), service=service)).start()
    old = running.plan.endpoints[0].options
    new = other_options(running).endpoints[0].options
    service.takes = raising(SockdError("no such room"))
    assert running.refused(running.ask("reload")) == (75, ("lobby: no such room",))
    assert service.taken == [new, old]


# -- one at a time


def test_asked_during_a_reload(house: House, run: Daemons) -> None:
    """All who ask during a reload share the next one, which reads the file again; the state says so."""
    running = run(house.plan(TCP, stream=Probes()), systemd=True).start()
    running.systemd.words()
    reads = slow_disk(running)
    asked = [running.ask("reload") for _ in range(3)]
    assert running.told("status")["state"] == "reloading"
    assert len(reads) == 1
    reads[0].callback(running.plan)
    assert [each.called for each in asked] == [True, False, False]
    reads[1].errback(problems(1))
    assert [running.refused(each)[0] for each in asked[1:]] == [78, 78]
    assert running.told("status")["state"] == "running"
    assert running.systemd.words() == ["RELOADING", "READY"] * 2


def test_a_diff_during_a_reload(house: House, run: Daemons) -> None:
    """Neither refuses the other: the second reads the file again."""
    running = run(house.plan(TCP, stream=Probes(), name="old")).start()
    reads = slow_disk(running)
    first, second, third = running.ask("diff"), running.ask("reload"), running.ask("diff")
    reads[0].callback(running.plan)
    assert running.outcome(first)["changes"]["unchanged"] == ["old"]
    reads[1].callback(running.now(house.plan(TCP, stream=Probes(), name="new")))
    assert running.outcome(second)["changes"]["added"][0]["name"] == "new"
    assert running.outcome(third)["changes"]["unchanged"] == ["new"]
    assert len(reads) == 2


def test_a_disk_that_does_not_answer(house: House, run: Daemons) -> None:
    """A caller waits for a minute; once the disk answers, the next caller gets the file as it is then."""
    running = run(house.plan(TCP, stream=Probes(), name="old")).start()
    reads = slow_disk(running)
    began = house.loop.seconds()
    why = (75, ("reading the file takes longer than 60s, and goes on; try again later",))
    assert running.refused(running.ask("reload")) == why
    assert house.loop.seconds() - began == pytest.approx(READ_TIMEOUT, abs=0.2)
    assert running.refused(running.ask("diff")) == why
    assert len(reads) == 1
    asked = running.ask("diff")
    reads[0].errback(OSError("the disk is gone"))
    reads[1].callback(running.now(house.plan(TCP, stream=Probes(), name="new")))
    assert running.outcome(asked)["changes"]["added"][0]["name"] == "new"


# -- while it starts or stops


def test_before_it_is_ready(house: House, run: Daemons) -> None:
    """A reload doesn't make systemd believe that a required endpoint runs."""
    starting: Deferred[None] = Deferred()
    service = Service(lambda: starting)
    running = run(house.plan(TCP, stream=Probes(), service=service, give_up_after=99.0), systemd=True).start()
    running.told("reload")
    house.run_clock(lambda: running.served)
    running.told("reload")
    assert set(running.systemd.words()) == {"EXTEND_TIMEOUT_USEC", "STATUS"}
    starting.callback(None)
    assert running.systemd.words() == ["READY"]


def test_stopped_during_a_reload(house: House, run: Daemons) -> None:
    """What it had begun is undone, all callers get the reason, and systemd hears no READY any more."""
    service = Keen()
    running = run(house.plan(TCP, stream=Probes(), service=service), systemd=True).start()
    old = running.plan.endpoints[0].options
    new = other_options(running).endpoints[0].options
    service.takes = lambda: Deferred() if len(service.taken) == 1 else None
    asked = [running.ask("reload") for _ in range(2)]
    running.systemd.words()
    stopped = running.daemon.stopService()
    assert service.taken == [new, old]
    asked.append(running.ask("reload"))
    for each in asked:
        assert running.refused(each) == (69, ("the daemon is stopping",))
    house.run_clock(lambda: stopped.called)
    assert "READY" not in running.systemd.words()
    assert running.log.messages(LogLevel.error) == ["reload refused: the daemon is stopping"]


def test_stopped_while_what_it_began_does_not_end(house: House, run: Daemons) -> None:
    """The undo isn't waited for: connections have the drain's time, and no more."""
    service = Keen()
    running = run(house.plan(TCP, stream=Probes(), service=service)).start()
    other_options(running)
    service.takes = Deferred
    running.connect()
    (server,) = running.daemon.endpoints[0].connections
    server.pauseProducing()
    asked = running.ask("reload")
    assert running.stop() == pytest.approx(DRAIN, abs=0.2)
    assert running.refused(asked)[0] == 69
    house.loop.advance(reconcile.STEP_TIMEOUT)  # the undo's own time-out


def test_hurried_while_what_it_began_does_not_end(house: House, run: Daemons) -> None:
    """After a second request to stop neither the undo nor connections have any time."""
    service = Keen()
    running = run(house.plan(TCP, stream=Probes(), service=service), drain=100.0).start()
    other_options(running)
    service.takes = Deferred
    asked = running.ask("reload")
    stopped = running.daemon.stopService()
    running.daemon.hurry()
    assert house.run_clock(lambda: stopped.called) < SERVICE_GRACE
    assert running.refused(asked)[0] == 69
    house.loop.advance(reconcile.STEP_TIMEOUT)
