"""The door of twistd: its options, a wrong file's one way out, and what signals and giving up come to."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import MultiService
from twisted.internet import reactor as installed
from twisted.logger import ILogObserver
from twisted.python.components import Componentized
from twisted.python.usage import UsageError

import sockd
from sockd import process, tap
from sockd.logs import Destination
from sockd.plan import LogPlan, Plan
from tests.services.house import House, Probes, Service

FILE = """
endpoints:
  echo:
    listen: tcp://127.0.0.1:0
    protocol: echo
"""


SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


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


def made(house: House, **parent: Any) -> tuple[tap.Top, Reactor, Service]:
    """A daemon made for these options of twistd's, its reactor and its service."""
    service = Service()
    plan = Plan(
        Path("sockd.yaml"), 5.0, LogPlan("info", "auto"),
        (house.plan("tcp://127.0.0.1:0", stream=Probes(), service=service, give_up_after=1.0),),
    )  # fmt: skip
    reactor = Reactor(house)
    return tap.Top(plan, reactor, parent, lambda: plan), reactor, service


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
    monkeypatch.setattr(process, "raise_descriptor_limit", lambda: raised.append(True))
    if how == "environment":
        monkeypatch.setenv("SOCKD_CONFIG", str(file))
    daemon = tap.makeService(
        options(*(["-c", str(file)] if how == "option" else []), logfile=str(file) + ".log")
    )
    assert [endpoint.name for endpoint in daemon.endpoints] == ["echo"]
    assert not any(listener._acceptor for listener in daemon.endpoints[0].listeners)
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


# -- the log


def struck(house: House, number: signal.Signals) -> None:
    """A signal, handled."""
    os.kill(os.getpid(), number)
    house.loop.advance(0)


def close(daemon: tap.Top) -> None:
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


@pytest.mark.parametrize("other", ["syslog", "logger"])
def test_log_that_twistd_was_asked_for(other: str, house: House) -> None:
    """--syslog and --logger are left to twistd."""
    daemon, _, _ = made(house, **{other: "given"})
    parent: Any = Parent()
    daemon.setServiceParent(parent)
    assert parent.getComponent(ILogObserver) is None
    daemon.reopen()


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
    monkeypatch.setattr(process, "exit_with", statuses.append)
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
    """`sockd run` is twistd in the foreground, without a pid file."""
    from twisted.scripts import twistd  # noqa: PLC0415

    seen: list[list[str]] = []
    monkeypatch.setattr(sys, "argv", ["sockd"])
    monkeypatch.setattr(twistd, "run", lambda: seen.append(sys.argv[1:]))
    tap.run(tmp_path / "a.yaml")
    assert seen == [["--nodaemon", "--pidfile=", "sockd", "--config", str(tmp_path / "a.yaml")]]
