"""The door of twistd: its options, a wrong file's one way out, and what signals and giving up come to."""

import errno
import gc
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.application import app
from twisted.application.service import MultiService
from twisted.internet import reactor as installed
from twisted.internet.defer import succeed
from twisted.logger import ILogObserver, LogLevel, LogPublisher, formatEvent
from twisted.python.components import Componentized
from twisted.python.usage import UsageError
from twisted.scripts._twistd_unix import ServerOptions

import sockd
from sockd import program, tap
from sockd.base import descriptors
from sockd.base.errors import SockdError
from sockd.control.listener import Controls
from sockd.log import Destination
from sockd.plan.plan import LogPlan, Plan
from sockd.process.directories import Directories
from sockd.systemd.inherited import Inherited
from sockd.upgrade import passing
from sockd.upgrade.value import HandedEndpoint, Handover
from tests.tree.house import Events, House, Probes, Service

FILE = """
endpoints:
  echo:
    listen: tcp://127.0.0.1:0
    protocol: echo
"""


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


@pytest.fixture(autouse=True)
def signals_and_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the door does to the process is undone."""
    reactor: Any = installed
    monkeypatch.setattr(reactor, "seconds", reactor.seconds)
    pool = reactor.getThreadPool()
    monkeypatch.setattr(pool, "threadFactory", pool.threadFactory)
    monkeypatch.setattr(program, "deferToThread", lambda read: succeed(None).addCallback(lambda _: read()))
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.close()


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file to run, and directories of its own."""
    for name in ("RUNTIME_DIRECTORY", "LOGS_DIRECTORY"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.delenv("SOCKD_CONFIG", raising=False)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    path = tmp_path / "sockd.yaml"
    path.write_text(FILE)
    return path


def options(*arguments: str, **parent: Any) -> tap.Options:
    """Options as twistd parses them."""
    parsed: Any = tap.Options()
    parsed.parent = parent
    parsed.parseOptions(list(arguments))
    made: tap.Options = parsed
    return made


def made(
    house: House, *, handed: Handover | None = None, reads: Any = None, **parent: Any
) -> tuple[program.Top, Reactor, Service]:
    """A daemon made for these options of twistd's, its reactor and its service."""
    service = Service()
    plan = Plan(
        Path("sockd.yaml"), 5.0, LogPlan("info", "auto"),
        (house.plan("tcp://127.0.0.1:0", stream=Probes(), service=service, give_up_after=1.0),),
    )  # fmt: skip
    reactor = Reactor(house)
    directories = Directories(Path("/run/sockd"), Path("/var/log/sockd"))
    sockets = passing.adopt(handed) if handed else {}
    daemon = program.Top(plan, reactor, parent, reads or (lambda: plan), directories, handed, sockets)
    return daemon, reactor, service


# -- options


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """Ours, not Twisted's."""
    with pytest.raises(SystemExit) as caught:
        options("--version")
    assert not caught.value.code
    assert capsys.readouterr().out == f"sockd {sockd.__version__}\n"


def test_unknown_option() -> None:
    """As twistd reports them."""
    with pytest.raises(UsageError):
        options("--confg", "x")


def test_help_names_the_file() -> None:
    """Where the file is looked for, in this order."""
    text = " ".join(str(tap.Options()).split())
    assert "SOCKD_CONFIG" in text
    assert "sockd.yaml" in text


# -- the service


@pytest.mark.parametrize("how", ["option", "environment"])
def test_service_for_a_file(how: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is read and made, nothing opened; time is the clock that never steps."""
    raised: list[bool] = []
    monkeypatch.setattr(descriptors, "reserve", lambda: raised.append(True))
    if how == "environment":
        monkeypatch.setenv("SOCKD_CONFIG", str(file))
    daemon = tap.makeService(
        options(*(["-c", str(file)] if how == "option" else []), logfile=str(file) + ".log")
    )
    assert [endpoint.name for endpoint in daemon.endpoints] == ["echo"]
    assert not any(listener.descriptor for listener in daemon.endpoints[0].listeners)
    assert raised == [True]
    assert (file.parent / "runtime_directory").is_dir()
    assert (file.parent / "logs_directory").is_dir()
    reactor: Any = installed
    assert reactor.seconds is time.monotonic
    close(daemon)
    for number in SIGNALS:
        assert signal.getsignal(number) not in (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler)


def test_wrong_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every problem on stderr, status 78, no traceback."""
    file.write_text(FILE.replace("echo:", "Echo:").replace(":0", ":70070"))
    with pytest.raises(SystemExit) as caught:
        tap.makeService(options("-c", str(file)))
    assert caught.value.code == 78
    captured = capsys.readouterr()
    assert not captured.out
    assert len(captured.err.splitlines()) == 2
    assert all(line.startswith(f"{file}:") for line in captured.err.splitlines())


def test_missing_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same for one that isn't there."""
    file.unlink()
    with pytest.raises(SystemExit) as caught:
        tap.makeService(options("-c", str(file)))
    assert caught.value.code == 78
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_nothing_can_be_opened(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever of the system's is missing while the file is read, one line says so."""

    def read(*_: object) -> Plan:
        raise OSError(errno.ENFILE, "Too many open files in system")

    monkeypatch.setattr(program, "read", read)
    with pytest.raises(SystemExit) as caught:
        tap.makeService(options("-c", str(file)))
    assert caught.value.code == 78
    assert capsys.readouterr().err == f"{file}: the file can't be read: Too many open files in system\n"


def test_a_user_who_can_not_read_it(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before root is given up it is known whether a reload would be refused; then there is no start."""
    asked: list[Any] = []

    def refusal(uid: int | None, gid: int | None, euid: bool, read: Any) -> tuple[str, ...]:
        asked.append((uid, gid, euid, read().file))
        return ("one", "two")

    monkeypatch.setattr(program, "refusal_as", refusal)
    monkeypatch.chdir(file.parent)
    with pytest.raises(SystemExit) as caught:
        tap.makeService(options("-c", file.name, uid=7, euid=1))
    assert caught.value.code == 77
    assert capsys.readouterr().err == "one\ntwo\n"
    assert asked == [(7, None, True, file)]
    monkeypatch.setattr(program, "refusal_as", lambda *_: ())
    tap.makeService(options("-c", file.name, gid=7, syslog=True))


@pytest.mark.parametrize("root", [True, False])
def test_rights_that_are_left(root: bool, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root is warned of, and a control socket that could not be opened again; neither is told otherwise."""
    why = "" if root else "no right to write to /run"
    monkeypatch.setattr(program, "is_root", lambda: root)
    monkeypatch.setattr(Controls, "missing", lambda *_: why)
    daemon, _, _ = made(house, syslog=True)
    events = Events()
    daemon.log = events.log
    daemon.startService()
    (told,) = [event for event in events.events if event["log_level"] is LogLevel.warn]
    assert formatEvent(told).startswith("running as root: " if root else "control: ")
    assert root or formatEvent(told).endswith(why)
    ended(house, daemon)


def test_too_few_descriptors(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That the plan may need more than there can be is a warning of the file's, at the start and later."""
    monkeypatch.setattr(descriptors, "limit", lambda: 1000)
    monkeypatch.setattr(descriptors, "reserve", lambda: None)
    daemon = tap.makeService(options("-c", str(file), syslog=True))
    (warning,) = daemon.plan.warnings
    assert "the process may have 1000 " in str(warning)
    again = program.read_aside(file, Directories(file.parent, file.parent), {})
    assert again.warnings == (warning,)


# -- the log


def struck(house: House, number: signal.Signals) -> None:
    """A signal, handled."""
    os.kill(os.getpid(), number)
    house.loop.advance(0)


def ended(house: House, daemon: program.Top) -> None:
    """Stopped, to the end."""
    stopped = daemon.stopService()
    house.run_clock(lambda: stopped.called)


def close(daemon: program.Top) -> None:
    if daemon._destination is not None and daemon._destination.path is not None:
        os.close(daemon._destination._descriptor)


def test_log_is_ours(house: House, tmp_path: Path) -> None:
    """The application's log goes through our observer, to where twistd's options say."""
    daemon, _, _ = made(house, logfile=str(tmp_path / "a.log"))
    parent: Any = Parent()
    daemon.setServiceParent(parent)
    parent.getComponent(ILogObserver)({"log_time": 0.0, "log_format": "told", "log_namespace": "sockd"})
    assert json.loads((tmp_path / "a.log").read_text())["message"] == "told"
    close(daemon)


def test_log_follows_a_reload(house: House, tmp_path: Path) -> None:
    """SIGHUP reads the file anew; its level and format hold from the next line on."""
    said: list[Plan] = []
    daemon, _, _ = made(house, reads=lambda: said[-1], logfile=str(tmp_path / "a.log"), nodaemon=True)
    assert daemon._observer is not None
    daemon.take_signals()
    daemon.startService()

    def reloaded(log: LogPlan) -> list[str]:
        said.append(replace(daemon.plan, log=log))
        struck(house, signal.SIGHUP)
        house.run_clock(lambda: daemon.plan is said[-1] and not daemon.reloading.busy)
        (tmp_path / "a.log").write_text("")
        for level in (LogLevel.debug, LogLevel.info):
            event = {"log_time": 0.0, "log_format": "told", "log_namespace": "sockd", "log_level": level}
            daemon._observer(event)  # type: ignore[misc]
        return (tmp_path / "a.log").read_text().splitlines()

    assert [line[0] for line in reloaded(LogPlan("debug", "json"))] == ["{", "{"]
    assert not daemon._to_a_person
    (line,) = reloaded(LogPlan("info", "text"))
    assert line.endswith("told")
    assert daemon._to_a_person
    assert reloaded(LogPlan("info", "text")) == [line]
    ended(house, daemon)
    close(daemon)


@pytest.mark.parametrize("other", ["syslog", "logger"])
def test_log_that_twistd_was_asked_for(other: str, house: House) -> None:
    """--syslog and --logger are left to twistd."""
    parsed: dict[str, Any] = {other: LogPublisher}
    daemon, _, _ = made(house, **parsed)
    parent: Any = Parent()
    daemon.setServiceParent(parent)
    assert parent.getComponent(ILogObserver) is None
    daemon.reopen()
    daemon.changed_settings(daemon.plan, replace(daemon.plan, log=LogPlan("debug", "json")))


def test_log_belongs_to_whom_we_run_as(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who will have to reopen it."""
    given: list[Any] = []
    monkeypatch.setattr(Destination, "give_to", lambda _, uid, gid: given.append((uid, gid)))
    daemon, _, _ = made(house, logfile=str(tmp_path / "a.log"), uid=7, gid=8)
    assert given == [(7, 8)]
    close(daemon)


def test_reopening(house: House, tmp_path: Path) -> None:
    """SIGUSR1 opens the log anew too; where that fails it is told in the old one."""
    path = tmp_path / "a.log"
    daemon, _, _ = made(house, logfile=str(path))
    daemon.take_signals()
    path.rename(tmp_path / "a.log.1")
    struck(house, signal.SIGUSR1)
    assert path.exists()
    path.unlink()
    path.mkdir()
    struck(house, signal.SIGUSR1)
    close(daemon)


# -- signals and ends


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_stops_second_hurries(number: signal.Signals, house: House) -> None:
    """The reactor is stopped once; whoever asks again wants it now."""
    daemon, reactor, _ = made(house, syslog=True)
    daemon.take_signals()
    struck(house, number)
    assert reactor.stops == 1
    assert not daemon._hurried
    struck(house, number)
    assert reactor.stops == 1
    assert daemon._hurried


def test_giving_up_and_then_a_signal(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A required endpoint's giving up stops with 69; Ctrl-C during its drain cuts that short."""
    statuses: list[int] = []
    monkeypatch.setattr(program, "exit_with", statuses.append)
    daemon, reactor, service = made(house, syslog=True)
    daemon.take_signals()
    daemon._leave(69)
    daemon._leave(69)
    assert reactor.stops == 1
    assert set(statuses) == {69}
    struck(house, signal.SIGINT)
    assert reactor.stops == 1
    assert daemon._hurried
    assert not service.started


def test_reading_in_a_thread(file: Path) -> None:
    """What makes it lenient to the reactor is undone, also where the file is wrong."""
    before = (sys.getswitchinterval(), gc.isenabled())
    directories = Directories(file.parent, file.parent)
    plan = program.read_aside(file, directories, {"uid": 7, "gid": 8})
    assert plan.control_user == 7
    file.write_text("nonsense")
    with pytest.raises(SockdError):
        program.read_aside(file, directories, {})
    assert (sys.getswitchinterval(), gc.isenabled()) == before


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


def test_upgraded(house: House, tmp_path: Path) -> None:
    """The new program says from what to what, to the log, the status, and who asked; it ends as any other."""
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

    daemon.privilegedStartService()
    daemon.startService()
    daemon._askers.append(Asker)
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
    assert not daemon._welcome(daemon)  # a second time it is nothing special
    ended(house, daemon)
    assert not pid_file.exists()


def test_asked_to_upgrade(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGUSR2 does what the command does; the last words to systemd are that something else comes."""
    daemon, _, _ = made(house, syslog=True)
    asked: list[str] = []
    monkeypatch.setattr(daemon._course, "by_signal", lambda: asked.append("signal"))
    monkeypatch.setattr(daemon.reports, "reloading", lambda: asked.append("reloading"))
    monkeypatch.setattr(daemon._course, "cancel", lambda: asked.append("cancelled"))
    daemon.take_signals()
    struck(house, signal.SIGUSR2)
    daemon._last_words()
    ended(house, daemon)
    assert asked == ["signal", "reloading", "cancelled"]
    assert daemon.commands["upgrade"] == daemon._course.upgrade


@pytest.mark.parametrize("what", ["the file", "the handover"])
def test_what_the_new_program_can_not_use(
    what: str, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was right when it was rehearsed: 70, on which systemd starts anew what 78 would have ended."""
    handover = Handover(file=str(file), runtime=str(file.parent), logs=str(file.parent), started=1.0)
    descriptor = passing.write(handover)
    monkeypatch.setenv(passing.VARIABLE, str(descriptor))
    if what == "the file":
        file.write_text("nonsense")
    else:
        os.close(descriptor)
    with pytest.raises(SystemExit) as caught:
        tap.makeService(options("-c", str(file)))
    assert caught.value.code == 70
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_running_the_new_program(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """twistd gets the options again that the first program had; a handover that is none is told."""
    seen: list[list[str]] = []
    monkeypatch.setattr(sys, "argv", ["sockd"])
    monkeypatch.setattr(app, "run", lambda *_: seen.append(sys.argv[1:]))
    monkeypatch.setattr("sockd.process.reactor.install", lambda: seen.append(["our reactor"]))
    handover = Handover(file="", runtime="", logs="", started=1.0, options=("--syslog", "--prefix=web"))
    descriptor = passing.write(handover)
    monkeypatch.setenv(passing.VARIABLE, str(descriptor))
    tap.run(file)
    assert seen == [
        ["our reactor"],
        ["--nodaemon", "--pidfile=", "--syslog", "--prefix=web", "sockd", "--config", str(file)],
    ]
    os.close(descriptor)
    monkeypatch.setenv(passing.VARIABLE, "x")
    with pytest.raises(SystemExit) as caught:
        tap.run(file)
    assert caught.value.code == 70
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_rehearsing(file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Its version where all is well; else the reasons, and 70. Without a handover there is nothing to do."""
    with pytest.raises(SockdError, match="about to be upgraded"):
        tap.rehearse()
    handover = Handover(file=str(file), runtime=str(file.parent), logs=str(file.parent), started=1.0)
    monkeypatch.setenv(passing.VARIABLE, str(passing.write(handover)))
    with monkeypatch.context() as patch:
        patch.setattr(tap, "problems", lambda *_: sys.stdout.write("a third party's word\n") and ())
        tap.rehearse()
    assert capsys.readouterr().out == f"{sockd.__version__}\n"
    endpoints = {"gone": HandedEndpoint("echo", service=(1,)), "other": HandedEndpoint("echo", service=(1,))}
    monkeypatch.setenv(passing.VARIABLE, str(passing.write(replace(handover, endpoints=endpoints))))
    with pytest.raises(SystemExit) as caught:
        tap.rehearse()
    assert caught.value.code == 70
    assert [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()] == ["gone", "other"]


# -- what a person sees


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("foreground", [True, False])
def test_table_at_a_terminal(
    foreground: bool, terminal: bool, house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the foreground on a terminal a table says what listens; elsewhere the log does."""
    monkeypatch.setattr(Destination, "isatty", lambda _: terminal)
    path = tmp_path / "log"
    daemon, _, _ = made(house, nodaemon=foreground, logfile=str(path))
    told = daemon._serving(daemon)
    assert told == (foreground and terminal)
    assert ("lobby" in path.read_text()) == told
    close(daemon)


def test_running(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`sockd run` is twistd in the foreground, without a pid file and with our own reactor."""
    seen: list[list[str]] = []
    monkeypatch.setattr("sockd.process.reactor.install", lambda: seen.append(["our reactor"]))
    monkeypatch.setattr(sys, "argv", ["sockd"])
    monkeypatch.setattr(app, "run", lambda *_: seen.append(sys.argv[1:]))
    tap.run(tmp_path / "a.yaml")
    assert seen == [
        ["our reactor"],
        ["--nodaemon", "--pidfile=", "sockd", "--config", str(tmp_path / "a.yaml")],
    ]


def test_the_program_before_had_another_reactor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Which twistd was asked for by its name: that one is asked for again."""
    seen: list[list[str]] = []
    monkeypatch.setattr("sockd.process.reactor.install", lambda: seen.append(["our reactor"]))
    monkeypatch.setattr(sys, "argv", ["sockd"])
    monkeypatch.setattr(app, "run", lambda *_: seen.append(sys.argv[1:3]))
    handover = Handover(file="", runtime="", logs="", started=1.0, options=("--reactor=poll",))
    descriptor = passing.write(handover)
    monkeypatch.setenv(passing.VARIABLE, str(descriptor))
    tap.run(tmp_path / "a.yaml")
    os.close(descriptor)
    assert seen == [["--nodaemon", "--pidfile="]]


def test_running_looks_for_no_plugins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Loading all that Twisted and others have installed takes time and memory, and may fail."""
    monkeypatch.setattr(ServerOptions, "_getPlugins", None)
    twistd = tap.Twistd()
    twistd.parseOptions(["--nodaemon", "sockd", "--config", str(tmp_path)])
    plugin = twistd.loadedPlugins[twistd.subCommand]
    assert (plugin.options, plugin.makeService) == (tap.Options, tap.makeService)
    assert twistd.subOptions["config"] == str(tmp_path)
