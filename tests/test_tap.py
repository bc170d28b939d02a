"""The door of twistd: its options, and a wrong file's one way out."""

import errno
import gc
import os
import pwd
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as installed
from twisted.python.usage import UsageError

import sockd
from sockd import program, tap
from sockd.base import descriptors
from sockd.base.account import acts_as_root
from sockd.base.reactor import Clock
from sockd.cli import main
from sockd.log import destination
from sockd.plan.plan import Plan
from sockd.process import only_reactor
from sockd.process.directories import Directories
from sockd.process.switches import OFF_LIMIT, Switches
from sockd.upgrade import passing
from sockd.upgrade.signals import resume_signals
from sockd.upgrade.value import Handover

FILE = """
endpoints:
  echo:
    listen: tcp://127.0.0.1:0
    protocol: echo
"""


SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@pytest.fixture(autouse=True)
def signals_and_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the door does to the process is undone."""
    reactor: Any = installed
    monkeypatch.setattr(reactor, "seconds", reactor.seconds)
    pool = reactor.getThreadPool()
    monkeypatch.setattr(pool, "threadFactory", pool.threadFactory)
    switches: list[Switches] = []

    class Kept(Switches):
        def __init__(self, clock: Clock) -> None:
            super().__init__(clock)
            switches.append(self)

    monkeypatch.setattr(tap, "Switches", Kept)
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    only_reactor.release()
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)
    resume_signals()
    for each in switches:
        each.stop()


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
    assert not gc.isenabled()
    limits = [call.getTime() - time.monotonic() for call in reactor.getDelayedCalls()]
    assert any(0 < limit <= OFF_LIMIT for limit in limits)  # by the clock that counts
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
    assert gc.isenabled()
    assert all(line.startswith(f"{file}:") for line in captured.err.splitlines())


def test_missing_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same for one that isn't there."""
    file.unlink()
    with pytest.raises(SystemExit) as caught:
        tap.makeService(options("-c", str(file)))
    assert caught.value.code == 78
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(errno.ENFILE, "Too many open files in system"), "Too many open files in system"),
        (MemoryError(), "there is too little memory"),
    ],
)
def test_nothing_can_be_opened(
    error: Exception,
    why: str,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever the system lacks while the file is read, one line says so: 71, as the file may be right."""

    def read(*_: object) -> Plan:
        raise error

    monkeypatch.setattr(program, "read", read)
    with pytest.raises(SystemExit) as caught:
        tap.makeService(options("-c", str(file)))
    assert caught.value.code == 71
    assert capsys.readouterr().err == f"{file}: the file can't be read: {why}\n"


def test_no_descriptor_for_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same where the file itself can't be opened for now: `sockd check` says 71 as well."""
    opened = os.open

    def refuse(path: str | Path, *rest: Any, **more: Any) -> int:  # Any: as os.open
        if str(path) == str(file):
            raise OSError(errno.ENFILE, "Too many open files in system")
        return opened(path, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(SystemExit) as caught:
        tap.makeService(options("-c", str(file)))
    assert caught.value.code == 71
    monkeypatch.setattr(sys, "argv", ["sockd", "check", str(file)])
    with pytest.raises(SystemExit) as caught:
        main.main()
    assert caught.value.code == 71
    assert capsys.readouterr().err == f"{file}: the file can't be read: Too many open files in system\n" * 2


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


@pytest.mark.skipif(not acts_as_root(), reason="only root has rights to lend")
@pytest.mark.parametrize("what", ["the log", "the pid file", "the directory"])
def test_what_the_user_to_come_has_prepared(
    what: str, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Root opens, makes and gives away nothing by a link in that user's directory."""
    nobody = pwd.getpwnam("nobody")
    monkeypatch.setattr(program, "refusal_as", lambda *_: ())
    file.parent.chmod(0o755)
    theirs = file.parent / "theirs"
    theirs.mkdir()
    os.chown(theirs, nobody.pw_uid, nobody.pw_gid)
    secret = file.parent / "secret"
    secret.mkdir(mode=0o700)
    (theirs / "way").symlink_to("../secret")
    (theirs / "made").symlink_to("../secret/made")
    prepared: dict[str, dict[str, Any]] = {
        "the log": {"logfile": str(theirs / "made")},
        "the pid file": {"pidfile": str(theirs / "way" / "sockd.pid"), "syslog": True},
        "the directory": {"syslog": True},
    }
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(theirs / "way" / "run"))
    chosen = options(
        "-c", str(file), uid=nobody.pw_uid, **{"syslog": "logfile" not in prepared[what], **prepared[what]}
    )
    if what == "the directory":
        tap.makeService(chosen)
    else:
        with pytest.raises(SystemExit) as caught:
            tap.makeService(chosen)
        said = f"{caught.value.code}{capsys.readouterr().err}"
        assert "Permission denied" in said
    assert not os.listdir(secret)


def test_the_pid_file_is_not_twistds(file: Path, tmp_path: Path) -> None:
    """twistd would open it as root, through any link, and take a number that is used again for a daemon."""
    path = tmp_path / "sockd.pid"
    parent = {"pidfile": str(path), "umask": 0o027}
    chosen = options("-c", str(file), **parent)
    assert chosen.parent is not None
    assert chosen.parent["pidfile"] == ""
    chosen.parent["syslog"] = True
    service = tap.makeService(chosen)
    assert path.stat().st_mode & 0o777 == 0o640
    with pytest.raises(SystemExit) as caught:
        tap.makeService(chosen)
    assert caught.value.code == 1
    assert service.name == "sockd"


@pytest.mark.usefixtures("gone_directory")
def test_a_working_directory_that_is_gone() -> None:
    """What is named relative to it is named in the line."""
    with pytest.raises(SystemExit, match=r"^--pidfile: twistd.pid is relative to the current directory"):
        options(pidfile="twistd.pid")
    with pytest.raises(SystemExit, match=r"^--logfile: twistd.log is relative to the current directory"):
        destination("twistd.log", False)


def test_too_few_descriptors_to_run(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line says how many are needed, and how many there are."""
    monkeypatch.setattr(descriptors, "limit", lambda: 20)
    with pytest.raises(SystemExit) as caught:
        tap.makeService(options("-c", str(file)))
    assert caught.value.code == 71
    assert capsys.readouterr().err == (
        "sockd needs 32 file descriptors or more, and the process may have 20 (ulimit -Hn, LimitNOFILE=)\n"
    )


def test_a_start_that_fails_leaves_no_pid_file(file: Path, tmp_path: Path) -> None:
    """Nor does one that can't open its log."""
    path = tmp_path / "sockd.pid"
    for more in ({"umask": None}, {"umask": None, "nodaemon": True}):
        with pytest.raises(SystemExit, match="can't open the log file"):
            tap.makeService(options("-c", str(file), pidfile=str(path), logfile=str(tmp_path), **more))
        assert not path.exists()


def test_too_few_descriptors(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That the plan may need more than there can be is a warning of the file's, at the start and later."""
    monkeypatch.setattr(descriptors, "limit", lambda: 1000)
    monkeypatch.setattr(descriptors, "reserve", lambda: None)
    daemon = tap.makeService(options("-c", str(file), syslog=True))
    (warning,) = daemon.plan.warnings
    assert "the process may have 1000 " in str(warning)
    again = program.read_file(file, Directories(file.parent, file.parent), {})
    assert again.warnings == (warning,)


@pytest.mark.parametrize("what", ["the file", "the handover"])
def test_what_the_new_program_can_not_use(
    what: str, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was right in the rehearsal: status 70, after which systemd starts sockd again, unlike after 78."""
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
