"""The daemon as a process: signals, its end, its log, and what it takes over from the program before."""

import gc
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import MultiService
from twisted.internet.defer import succeed
from twisted.logger import ILogObserver, LogLevel, LogPublisher, formatEvent
from twisted.python.components import Componentized

import sockd
from sockd import program
from sockd.base.errors import SockdError
from sockd.control.listener import ControlListener
from sockd.log import OwnLog, own_log
from sockd.plan.diff import diff
from sockd.plan.plan import LogPlan, Plan
from sockd.process.directories import Directories
from sockd.process.log_destination import Destination
from sockd.process.switches import Switches
from sockd.program import Program
from sockd.systemd.inherited import Inherited
from sockd.upgrade import passing, thawing
from sockd.upgrade.value import Handover
from tests.tree.house import Events, House, Probes, Service

BOUND = 60.0  # seconds for which a busy machine may take for what is done at once
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Parent(Componentized, MultiService):
    """An application, as far as a service sees it."""

    def __init__(self) -> None:
        Componentized.__init__(self)
        MultiService.__init__(self)


class Reactor:
    """A loop that can be stopped once, as Twisted's."""

    def __init__(self, house: House) -> None:
        self._loop = house.loop
        self.started: list[Any] = []
        self.stops = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def callWhenRunning(self, method: Any) -> None:
        self.started.append(method)

    def stop(self) -> None:
        self.stops += 1
        assert self.stops == 1, "Can't stop reactor that isn't running."


class HereAndNow:
    """A worker without a thread."""

    def __init__(self, reactor: Any, name: str) -> None:
        pass

    def run(self, job: Any) -> Any:
        return succeed(None).addCallback(lambda _: job())

    def end(self) -> None:
        pass


@pytest.fixture(autouse=True)
def signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Those that a test has taken are given back; a file is read here and now."""
    monkeypatch.setattr(program, "WorkerThread", HereAndNow)
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.close()


@pytest.fixture(autouse=True)
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[OwnLog]]:
    """A log lives as long as its process; a test's is closed. All that were made."""
    opened: list[OwnLog] = []
    make = own_log

    def remembered(*arguments: Any) -> OwnLog | None:
        one = make(*arguments)
        if one is not None:
            opened.append(one)
        return one

    monkeypatch.setattr(program, "own_log", remembered)
    yield opened
    for one in opened:
        one.close()


def made(
    house: House, *, handed: Handover | None = None, reads: Any = None, **parent: Any
) -> tuple[Program, Reactor, Service]:
    """A daemon made for these options of twistd's, its reactor and its service."""
    service = Service()
    plan = Plan(
        Path("sockd.yaml"), 5.0, LogPlan("info", "auto"),
        (house.plan("tcp://127.0.0.1:0", stream=Probes(), service=service, give_up_after=1.0),),
    )  # fmt: skip
    reactor = Reactor(house)
    made_of: Any = reactor
    directories = Directories(Path("/run/sockd"), Path("/var/log/sockd"))
    sockets = passing.adopt(handed) if handed else {}
    daemon = Program(
        plan, made_of, parent, reads or (lambda: plan), directories, Switches(house.loop), handed, sockets
    )
    return daemon, reactor, service


# -- the service


@pytest.mark.parametrize("root", [True, False])
def test_rights_that_are_left(root: bool, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning of root, or of a control socket that could not be opened again; else there is none."""
    why = "" if root else "no right to write to /run"
    monkeypatch.setattr(program, "is_root", lambda: root)
    monkeypatch.setattr(ControlListener, "missing", lambda *_: why)
    daemon, _, _ = made(house, syslog=True)
    events = Events()
    daemon.log = events.log
    daemon.startService()
    (told,) = [event for event in events.events if event["log_level"] is LogLevel.warn]
    assert formatEvent(told).startswith("running as root: " if root else "control: ")
    assert root or formatEvent(told).endswith(why)
    ended(house, daemon)


# -- the log


def struck(house: House, number: signal.Signals) -> None:
    """A signal, handled."""
    os.kill(os.getpid(), number)
    house.loop.advance(0)


def ended(house: House, daemon: Program) -> None:
    """Stopped, to the end."""
    stopped = daemon.stopService()
    house.run_clock(lambda: stopped.called)


def test_log_is_ours(house: House, tmp_path: Path) -> None:
    """The application's log goes through our observer, to where twistd's options say."""
    daemon, _, _ = made(house, logfile=str(tmp_path / "a.log"))
    parent: Any = Parent()
    daemon.setServiceParent(parent)
    event = {"log_time": 0.0, "log_format": "told", "log_namespace": "sockd", "event": "told"}
    parent.getComponent(ILogObserver)(event)
    assert json.loads((tmp_path / "a.log").read_text())["message"] == "told"


def test_log_follows_a_reload(house: House, tmp_path: Path, logs: list[OwnLog]) -> None:
    """SIGHUP reads the file again; its level and format hold from the next line on."""
    said: list[Plan] = []
    daemon, _, _ = made(house, reads=lambda: said[-1], logfile=str(tmp_path / "a.log"), nodaemon=True)
    parent: Any = Parent()
    daemon.setServiceParent(parent)
    daemon.take_signals()
    daemon.startService()

    def reloaded(log: LogPlan) -> list[str]:
        said.append(replace(daemon.plan, log=log))
        struck(house, signal.SIGHUP)
        house.run_clock(lambda: daemon.plan is said[-1] and not daemon.reloading.busy)
        assert logs[0].settle(BOUND)
        (tmp_path / "a.log").write_text("")
        for level in (LogLevel.debug, LogLevel.info):
            event = {"log_time": 0.0, "log_format": "told", "log_namespace": "sockd", "log_level": level}
            parent.getComponent(ILogObserver)(event)
        assert logs[0].settle(BOUND)
        return (tmp_path / "a.log").read_text().splitlines()

    assert [line[0] for line in reloaded(LogPlan("debug", "json"))] == ["{", "{"]
    (line,) = reloaded(LogPlan("info", "text"))
    assert line.endswith("told")
    assert reloaded(LogPlan("info", "text")) == [line]
    ended(house, daemon)


@pytest.mark.parametrize("other", ["syslog", "logger"])
def test_log_that_twistd_was_asked_for(other: str, house: House) -> None:
    """--syslog and --logger are left to twistd."""
    parsed: dict[str, Any] = {other: LogPublisher}
    daemon, _, _ = made(house, **parsed)
    parent: Any = Parent()
    daemon.setServiceParent(parent)
    assert parent.getComponent(ILogObserver) is None
    daemon.reopen()
    daemon.changed_settings(diff(daemon.plan, replace(daemon.plan, log=LogPlan("debug", "json"))))
    daemon.holds.stop()


def test_reopening(house: House, tmp_path: Path) -> None:
    """SIGUSR1 reopens the log too; where that fails, the old one says so."""
    path = tmp_path / "a.log"
    daemon, _, _ = made(house, logfile=str(path))
    daemon.take_signals()
    path.rename(tmp_path / "a.log.1")
    struck(house, signal.SIGUSR1)
    assert path.exists()
    path.unlink()
    path.mkdir()
    struck(house, signal.SIGUSR1)


# -- signals and ends


def hurries(daemon: Program, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """How often what is left was cut."""
    hurried: list[bool] = []
    monkeypatch.setattr(daemon, "hurry", lambda: hurried.append(True))
    return hurried


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_stops_second_hurries(
    number: signal.Signals, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reactor is stopped once; a second signal means now."""
    daemon, reactor, _ = made(house, syslog=True)
    hurried = hurries(daemon, monkeypatch)
    daemon.take_signals()
    struck(house, number)
    assert reactor.stops == 1
    assert not hurried
    struck(house, number)
    assert reactor.stops == 1
    assert hurried


def test_giving_up_and_then_a_signal(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A required endpoint's giving up stops with 69; Ctrl-C during its drain cuts that short."""
    statuses: list[int] = []
    monkeypatch.setattr(program, "exit_with", lambda status, _: statuses.append(status))
    daemon, reactor, service = made(house, syslog=True)
    hurried = hurries(daemon, monkeypatch)
    daemon.take_signals()
    for _ in range(2):
        daemon.around.gave_up(daemon.endpoints[0])
    assert reactor.stops == 1
    assert set(statuses) == {69}
    struck(house, signal.SIGINT)
    assert reactor.stops == 1
    assert hurried
    assert not service.started


@pytest.mark.parametrize("wrong", [False, True])
def test_reading_in_a_thread(wrong: bool, house: House) -> None:
    """What makes it lenient to the reactor is undone, also where the file is wrong."""
    before = sys.getswitchinterval()
    seen: list[Any] = []

    def read() -> Plan:
        seen.append((sys.getswitchinterval() < before, gc.isenabled()))
        if wrong:
            raise SockdError("nonsense")
        return daemon.plan

    daemon, _, _ = made(house, reads=read, syslog=True)
    daemon.take_signals()
    daemon.startService()
    struck(house, signal.SIGHUP)
    house.run_clock(lambda: daemon.reloading.last is not None)
    assert seen == [(True, False)]
    assert (sys.getswitchinterval(), gc.isenabled()) == (before, True)
    ended(house, daemon)


def test_the_file_for_another_user(tmp_path: Path) -> None:
    """The control socket is that user's, once root is given up."""
    file = tmp_path / "sockd.yaml"
    file.write_text("endpoints: {echo: {listen: 'tcp://127.0.0.1:0', protocol: echo}}\n")
    directories = Directories(file.parent, file.parent)
    assert program.read_file(file, directories, {"uid": 7, "gid": 8}).control_user == 7
    file.write_text("nonsense")
    with pytest.raises(SockdError):
        program.read_file(file, directories, {})


# -- systemd


def test_the_watchdog_and_the_end(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd hears from the process that serves, and nothing any more once it has stopped."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.setblocking(False)
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "3000000")
        daemon, reactor, _ = made(house, syslog=True)
        daemon.privilegedStartService()
        daemon.startService()
        for method in reactor.started:
            method()
        house.loop.pump([1.0] * 2)
        heard = []
        ended(house, daemon)
        with suppress(BlockingIOError):
            while True:
                heard.append(systemd.recv(4096).decode())
    assert [text.partition("=")[0] for text in heard if not text.startswith("STATUS")] == [
        "EXTEND_TIMEOUT_USEC", "WATCHDOG", "READY", "WATCHDOG", "WATCHDOG", "STOPPING",
    ]  # fmt: skip
    assert heard[3] == "READY=1\nSTATUS=1 endpoint, 1 listener, 0 connections"
    assert not house.loop.getDelayedCalls()


def test_sockets_that_systemd_passed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are for the listeners of their name."""
    with socket.create_server(("127.0.0.1", 0)) as web:
        given = Inherited(named={"web": [web]}, problems=["odd"])
        monkeypatch.setattr(program, "take", lambda *_: given)
        daemon, _, _ = made(house, syslog=True)
        assert daemon.around.sockets.how_many("web") == 1


# -- upgrades


def test_upgraded(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log, the status and the client that asked get both versions; the new program ends as any other."""
    pid_file = tmp_path / "a.pid"
    pid_file.write_text("1")
    handed = Handover(
        file="sockd.yaml", runtime="/run/sockd", logs="/var/log/sockd", started=-60.0, drained=2,
        begun=time.monotonic(), held=time.monotonic(), version="0.0.9", numbers=7, pid_file=str(pid_file),
    )  # fmt: skip
    daemon, reactor, _ = made(house, handed=handed, syslog=True)
    events = Events()
    daemon.log = events.log
    told: list[Any] = []

    class Asker:
        answer = told.append

    monkeypatch.setattr(thawing, "askers", lambda *_: [Asker])
    daemon.privilegedStartService()
    daemon.startService()
    for method in reactor.started:
        method()
    (result,) = told
    counts = {"connections": 0, "drained": 2, "listeners": 0}
    assert result | {"seconds": 0, "pause": 0} == {
        "version": sockd.__version__, "seconds": 0, "pause": 0, **counts
    }  # fmt: skip
    assert 0 <= result["pause"] <= result["seconds"] < 60
    assert daemon.last_upgrade is not None
    assert daemon.last_upgrade.ok
    assert re.fullmatch(
        rf"from 0\.0\.9 to {sockd.__version__} in [0-9.]+s, clients waited [0-9.]+s; 0 connections kept",
        daemon.last_upgrade.message,
    )
    assert f"upgraded {daemon.last_upgrade.message}" in events.messages()
    assert daemon.commands["status"]()["uptime"] == 60
    assert next(daemon.around.numbers) == 7
    ended(house, daemon)
    assert not pid_file.exists()


def test_asked_to_upgrade(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGUSR2 does what the command does; the last words to systemd are that something else comes."""
    asked: list[str] = []

    class Course:
        def __init__(self, daemon: Any, process: Any, environ: Any, before_exec: Callable[[], None]) -> None:
            self.by_signal = before_exec

        def upgrade(self) -> None:
            asked.append("command")

        def cancel(self) -> None:
            asked.append("cancelled")

    monkeypatch.setattr(program, "Course", Course)
    daemon, _, _ = made(house, syslog=True)
    monkeypatch.setattr(daemon.reports, "reloading", lambda: asked.append("reloading"))
    daemon.take_signals()
    struck(house, signal.SIGUSR2)
    daemon.commands["upgrade"]()
    ended(house, daemon)
    assert asked == ["reloading", "command", "cancelled"]


# -- what a person sees


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("foreground", [True, False])
def test_table_at_a_terminal(
    foreground: bool,
    terminal: bool,
    house: House,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    logs: list[OwnLog],
) -> None:
    """In the foreground on a terminal a table says what listens; elsewhere the log does."""
    monkeypatch.setattr(Destination, "isatty", lambda _: terminal)
    path = tmp_path / "log"
    daemon, reactor, _ = made(house, nodaemon=foreground, logfile=str(path))
    daemon.privilegedStartService()
    daemon.startService()
    for method in reactor.started:
        method()
    assert logs[0].settle(BOUND)
    assert (" try\n" in path.read_text()) == (foreground and terminal)
    ended(house, daemon)
