"""`sockd run` and the rehearsal of an upgrade: twistd without its plugins."""

import errno
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from twisted.application import app
from twisted.scripts._twistd_unix import ServerOptions  # twistd's own options have no public name

import sockd
from sockd import tap
from sockd.base.errors import SockdError
from sockd.cli import twistd
from sockd.upgrade import passing
from sockd.upgrade.value import HandedEndpoint, Handover
from tests.tree.house import raising

FILE = "endpoints: {echo: {listen: 'tcp://127.0.0.1:0', protocol: echo}}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file to run."""
    path = tmp_path / "sockd.yaml"
    path.write_text(FILE)
    return path


def test_running_the_new_program(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """twistd gets the options again that the first program had; a wrong handover is one line on stderr."""
    seen: list[list[str]] = []
    monkeypatch.setattr(sys, "argv", ["sockd"])
    monkeypatch.setattr(app, "run", lambda *_: seen.append(sys.argv[1:]))
    monkeypatch.setattr("sockd.process.reactor.install", lambda: seen.append(["our reactor"]))
    handover = Handover(file="", runtime="", logs="", started=1.0, options=("--syslog", "--prefix=web"))
    descriptor = passing.write(handover)
    monkeypatch.setenv(passing.VARIABLE, str(descriptor))
    twistd.run(file)
    assert seen == [
        ["our reactor"],
        ["--nodaemon", "--pidfile=", "--syslog", "--prefix=web", "sockd", "--config", str(file)],
    ]
    os.close(descriptor)
    monkeypatch.setenv(passing.VARIABLE, "x")
    with pytest.raises(SystemExit) as caught:
        twistd.run(file)
    assert caught.value.code == 70
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_directory_that_this_user_may_not_enter(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root's home, in which root started it: the new program goes to / then, and so does the rehearsal."""
    seen: list[object] = []
    monkeypatch.setattr(sys, "argv", ["sockd"])
    monkeypatch.setattr(app, "run", lambda *_: seen.extend(sys.argv[3:4]))
    monkeypatch.setattr("sockd.process.reactor.install", lambda: None)
    handover = Handover(file=str(file), runtime=str(file.parent), logs=str(file.parent), started=1.0)

    def chdir(path: object) -> None:
        if path != "/":
            raise PermissionError(errno.EACCES, "Permission denied")
        seen.append(path)

    monkeypatch.setattr(os, "chdir", chdir)
    for rehearses in (False, True):
        descriptor = passing.write(handover)
        monkeypatch.setenv(passing.VARIABLE, str(descriptor))
        if rehearses:
            monkeypatch.setattr("sockd.upgrade.rehearsal.problems", lambda *_: ())
            twistd.rehearse()
        else:
            twistd.run(file)
            os.close(descriptor)
    assert seen == ["--rundir=/", "/"]
    monkeypatch.setattr(os, "chdir", raising(FileNotFoundError(errno.ENOENT, "No such file or directory")))
    monkeypatch.setenv(passing.VARIABLE, str(passing.write(handover)))
    with pytest.raises(SockdError, match=r"^the new program can't go to its directory: No such file"):
        twistd.rehearse()


def test_rehearsing(file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Its version where all is well; else the reasons, and 70. Without a handover there is nothing to do."""
    with pytest.raises(SockdError, match="about to be upgraded"):
        twistd.rehearse()
    handover = Handover(file=str(file), runtime=str(file.parent), logs=str(file.parent), started=1.0)
    monkeypatch.setenv(passing.VARIABLE, str(passing.write(handover)))
    with monkeypatch.context() as patch:
        said = "a third party's word\n"
        patch.setattr("sockd.upgrade.rehearsal.problems", lambda *_: sys.stdout.write(said) and ())
        twistd.rehearse()
    assert capsys.readouterr().out == f"{sockd.__version__}\n"
    endpoints = {"gone": HandedEndpoint("echo", service=(1,)), "other": HandedEndpoint("echo", service=(1,))}
    monkeypatch.setenv(passing.VARIABLE, str(passing.write(replace(handover, endpoints=endpoints))))
    with pytest.raises(SystemExit) as caught:
        twistd.rehearse()
    assert caught.value.code == 70
    assert [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()] == ["gone", "other"]


def test_running(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`sockd run` is twistd in the foreground, without a pid file and with our own reactor."""
    seen: list[list[str]] = []
    monkeypatch.setattr("sockd.process.reactor.install", lambda: seen.append(["our reactor"]))
    monkeypatch.setattr(sys, "argv", ["sockd"])
    monkeypatch.setattr(app, "run", lambda *_: seen.append(sys.argv[1:]))
    twistd.run(tmp_path / "a.yaml")
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
    twistd.run(tmp_path / "a.yaml")
    os.close(descriptor)
    assert seen == [["--nodaemon", "--pidfile="]]


def test_running_looks_for_no_plugins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Loading all that Twisted and others have installed takes time and memory, and may fail."""
    monkeypatch.setattr(ServerOptions, "_getPlugins", None)
    options = twistd.Twistd()
    options.parseOptions(["--nodaemon", "sockd", "--config", str(tmp_path)])
    plugin = options.loadedPlugins[options.subCommand]
    assert (plugin.options, plugin.makeService) == (tap.Options, tap.makeService)
    assert options.subOptions["config"] == str(tmp_path)
