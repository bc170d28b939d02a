"""Where a command looks for the daemon: the socket that is named, the file's, the usual ones."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sockd.cli import finding, main
from sockd.cli.finding import Places, places
from tests.answers import changes, status
from tests.control.fakes import FakeDaemon, answer


@pytest.fixture
def usual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The system's directory and the user's, in which nothing is; there is no usual file."""
    found = [tmp_path / name for name in ("system", "user")]
    for place in found:
        place.mkdir()
    monkeypatch.setattr(finding, "runtime_directories", lambda environ, uid: iter(found))
    monkeypatch.setattr(finding, "DEFAULT_FILE", str(tmp_path / "default.yaml"))
    for name in ("SOCKD_CONTROL", "SOCKD_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return found


def written(path: Path, control: str) -> Path:
    path.write_text(f"daemon: {{control: {control}}}\nendpoints: {{nonsense}}\n")
    return path


def test_which_socket(usual: list[Path]) -> None:
    """Of the runtime directories, the first one with a socket; else the last one is named."""
    sockets = [str(place / "control.sock") for place in usual]
    assert places(None, None) == Places((sockets[1],))
    Path(sockets[1]).touch()
    assert places(None, None) == Places((sockets[1],))
    Path(sockets[0]).touch()
    assert places(None, None) == Places((sockets[0],))
    assert places("@any", None) == Places(("@any",))


def test_the_file_names_it(usual: list[Path], tmp_path: Path) -> None:
    """First where it is named itself; what is in the usual places may be that of the file before."""
    there = str(usual[0] / "control.sock")
    Path(there).touch()
    file = tmp_path / "my.yaml"
    assert places(None, written(file, "/run/my.sock")) == Places(("/run/my.sock", there))
    assert places(None, written(file, "'@sockd'")) == Places(("@sockd", there))
    assert places(None, written(file, "my.sock")).paths == (
        *(str(place / "my.sock") for place in usual), there
    )  # fmt: skip
    assert places(None, written(file, "off")) == Places((there,), f"daemon.control is off in {file}")
    assert places("/other", file) == Places(("/other",))


@pytest.mark.parametrize(
    "text", ["", "a: [", "7", "daemon: 7", "daemon: {control: [x]}", "daemon: {drain: 1s}"]
)
def test_a_file_that_names_none(text: str, usual: list[Path], tmp_path: Path) -> None:
    """Wrong, empty or silent about it: only the usual places are left."""
    file = tmp_path / "my.yaml"
    file.write_text(text)
    assert places(None, file) == Places((str(usual[1] / "control.sock"),))
    assert places(None, tmp_path / "missing.yaml") == Places((str(usual[1] / "control.sock"),))


def test_the_usual_file(usual: list[Path], tmp_path: Path) -> None:
    """It is looked at where nothing is in the usual places."""
    written(tmp_path / "default.yaml", "/run/my.sock")
    assert places(None, None) == Places(("/run/my.sock",))
    (usual[0] / "control.sock").touch()
    assert places(None, None) == Places((str(usual[0] / "control.sock"),))


def test_a_directory_that_one_may_not_look_into(usual: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not passed over: the answer is that it isn't allowed."""

    def forbidden(path: object, **_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", forbidden)
        found = places(None, None)
    assert found == Places((str(usual[0] / "control.sock"),))


# -- a reload as a unit asks for it


def reload(monkeypatch: pytest.MonkeyPatch, *words: str) -> object:
    monkeypatch.setattr(sys, "argv", ["sockd", "reload", *words])
    with pytest.raises(SystemExit) as caught:
        main.main()
    return caught.value.code


HANDLES = """
import signal, sys
signal.signal(signal.SIGHUP, lambda *_: sys.exit(7))
print(flush=True)
signal.pause()
"""


@pytest.fixture
def process() -> Iterator["subprocess.Popen[bytes]"]:
    """One that handles SIGHUP, as sockd does; it ends with 7 then."""
    command = [sys.executable, "-S", "-c", HANDLES]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as found:
        assert found.stdout is not None
        found.stdout.readline()
        yield found
        found.kill()


def test_without_a_socket(
    process: "subprocess.Popen[bytes]",
    usual: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`daemon.control: off`: the process gets SIGHUP, and the command says where to read the outcome."""
    file = str(written(tmp_path / "my.yaml", "off"))
    assert reload(monkeypatch, "-c", file, "--pid", str(process.pid)) == 0
    assert process.wait(60) == 7
    out, err = capsys.readouterr()
    assert err == ""
    assert out == (
        f"daemon.control is off in {file}: no command reaches sockd, but SIGHUP reloads and SIGUSR2 upgrades "
        f"it; sent SIGHUP to process {process.pid}, whose log says what was done\n"
    )
    assert reload(monkeypatch, "-c", file) == 69
    assert reload(monkeypatch, "-c", file, "--pid", str(process.pid)) == 69  # it has ended


def test_a_process_that_is_no_sockd(
    usual: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong number, or one that another program has by now: SIGHUP would end it, so it isn't sent."""
    file = str(written(tmp_path / "my.yaml", "off"))
    with subprocess.Popen(["sleep", "600"]) as other:
        try:
            assert reload(monkeypatch, "-c", file, "--pid", str(other.pid)) == 69
            assert other.poll() is None
        finally:
            other.kill()
        assert other.wait(60) == -signal.SIGKILL
    assert f"process {other.pid} isn't sent SIGHUP, which would end it: it is no sockd that runs" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("ours", [True, False])
def test_whose_socket_it_is(
    ours: bool,
    process: "subprocess.Popen[bytes]",
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Another sockd's is not told to reload; the process gets SIGHUP."""

    def reply(request: dict[str, Any]) -> bytes:
        pid = process.pid if ours else 1
        return answer(status(pid=pid) if request["command"] == "status" else changes())

    with FakeDaemon(tmp_path / "sock", [reply]) as daemon:
        assert reload(monkeypatch, "--control", daemon.path, "--pid", str(process.pid)) == 0
    asked = [request["command"] for request in daemon.asked]
    out = capsys.readouterr().out
    if ours:
        assert (asked, out) == (["status", "reload"], "nothing changed\n")
        assert process.poll() is None
    else:
        assert asked == ["status"]
        assert process.wait(60) == 7
