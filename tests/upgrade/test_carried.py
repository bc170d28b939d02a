"""What of twistd's options, directories and pid file the next program gets."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from twisted.scripts._twistd_unix import ServerOptions  # twistd's own options have no public name

from sockd.process.directories import Directories
from sockd.process.pid_file import PidFile, PidFileError
from sockd.upgrade.carried import Carried
from sockd.upgrade.value import Handover

LOGGER = "--logger=twisted.logger._observer.LogPublisher"
DIRECTORIES = Directories(Path("/run/sockd"), Path("/var/log/sockd"))


def parsed(*arguments: str) -> ServerOptions:
    """As twistd has parsed them, up to the plugin's name."""
    options = ServerOptions()
    options.parseOptions([*arguments, "ftp"])
    return options


def carried(*arguments: str) -> Carried:
    return Carried.of(parsed(*arguments), DIRECTORIES, None)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (("-n",), ()),
        (("-n", "-l", "-"), ("--logfile=-",)),
        (("-n", "-l", "/a/b.log"), ("--logfile=/a/b.log",)),
        (("-n", "--syslog", "--prefix=web"), ("--syslog", "--prefix=web")),
        (("-n", LOGGER), (LOGGER,)),
    ],
)  # fmt: skip
def test_options(given: tuple[str, ...], kept: tuple[str, ...]) -> None:
    """Where the log goes is the next program's too; the rest is the process' own by then."""
    defaults = set(carried("-n").options)
    assert {*kept} <= {*carried(*given).options}
    assert not {option for option in carried(*given).options if option not in kept} - defaults


def test_options_are_understood_again() -> None:
    """By twistd, to the same."""
    given = ("-n", "-l", "/a/b.log", "--syslog", "--prefix=web", LOGGER, "--uid=nobody", "--umask=7")
    again = carried("-n", *carried(*given).options)
    assert again.options == carried(*given).options
    assert not any("uid" in option or "umask" in option for option in again.options)


def test_the_log_is_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemonized twistd writes to twistd.log where it is then, whatever directory that is."""
    monkeypatch.chdir(tmp_path)
    assert f"--logfile={tmp_path}/twistd.log" in carried().options
    assert f"--logfile={tmp_path}/a.log" in carried("-l", "a.log").options


def test_the_reactor() -> None:
    """The one that was asked for; twistd installs it while it reads its options."""
    parent = dict(parsed("-n")) | {"reactor": "poll"}
    assert "--reactor=poll" in Carried.of(parent, DIRECTORIES, None).options


def test_a_logger_without_a_name() -> None:
    """It can't be named to the next program, which logs as if none was asked for."""
    parent = dict(parsed("-n")) | {"logger": object()}
    assert not any("logger" in option for option in Carried.of(parent, DIRECTORIES, None).options)


def test_from_program_to_program(tmp_path: Path) -> None:
    """What one carries the next one carries on, the lock of the pid file too."""
    path = tmp_path / "a.pid"
    first = Carried.of(parsed("-n", "-l", "/a/b.log"), DIRECTORIES, None, PidFile.take(path, 0o644, None))
    handed = Handover(file="sockd.yaml", started=1.0, **first.values())
    assert handed.pid_lock in list(handed.inherited())
    second = Carried.of(parsed("--pidfile=other.pid"), handed.directories, handed)
    assert second == first
    assert second.values() == first.values()
    assert second.pid_file is not None
    second.pid_file.remove()
    assert not path.exists()
    assert Carried.of(parsed(), DIRECTORIES, replace(handed, pid_lock=None)).pid_file is None


def test_from_a_program_without_a_lock(tmp_path: Path) -> None:
    """Its pid file is locked from now on."""
    path = tmp_path / "a.pid"
    path.write_text(str(os.getpid()))
    handed = Handover(file="sockd.yaml", started=1.0, pid_file=str(path), runtime="/run", logs="/log")
    taken = Carried.of({}, DIRECTORIES, handed).pid_file
    assert taken is not None
    with pytest.raises(PidFileError, match="a daemon runs already"):
        PidFile.take(path, 0o644, None)
    taken.remove()
