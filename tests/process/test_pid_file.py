"""The pid file: taken, left behind, locked by one that lives, and never anything else than a pid file."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sockd.process import pid_file
from sockd.process.pid_file import PidFile, PidFileError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sockd.pid"


@contextmanager
def process(*argv: str) -> Iterator[int]:
    """One that lives on under this name."""
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()", *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as one:
        assert one.stdout is not None
        one.stdout.readline()
        yield one.pid
        one.communicate(b"\n")


def take(path: Path) -> None:
    """Take it and give it up again."""
    taken = PidFile.take(path, 0o644, None)
    taken.write()
    assert path.read_text() == str(os.getpid())
    taken.remove()
    assert not path.exists()


def test_taken_and_removed(path: Path) -> None:
    """It has the pid and its mode while there is a daemon."""
    taken = PidFile.take(path, 0o600, None)
    assert path.read_bytes() == b""
    taken.write()
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(
        PidFileError, match=rf"^a daemon runs already, as process {os.getpid()} \({path}\): stop"
    ):
        PidFile.take(path, 0o644, None)
    assert path.read_text() == str(os.getpid())
    taken.remove()
    take(path)


def test_another_one_of_that_name_stays(path: Path) -> None:
    """At the end only our own is removed."""
    taken = PidFile.take(path, 0o644, None)
    path.unlink()
    path.write_text("1")
    taken.remove()
    assert path.read_text() == "1"


@pytest.mark.parametrize("left", ["", " \n", "\0\0\0\0", "0", "4194305", "99999999999999999999\n"])
def test_left_behind_by_a_crash(left: str, path: Path) -> None:
    """An empty file, and the number of a process that is gone, or of none that there can be."""
    path.write_text(left)
    take(path)


def test_a_number_that_is_another_programs_by_now(path: Path) -> None:
    """Our own, as in a container; that of no daemon; that of a daemon younger than the file."""
    path.write_text(str(os.getpid()))
    take(path)
    with process("sleep") as pid:
        path.write_text(str(pid))
        take(path)
    with process("twistd") as pid:
        path.write_text(str(pid))
        os.utime(path, (time.time() - 1000, time.time() - 1000))
        take(path)


def test_a_daemon_that_locks_nothing(path: Path) -> None:
    """Another service of twistd's, which wrote its pid after it had begun, keeps its file."""
    with process("twistd") as pid:
        path.write_text(str(pid))
        with pytest.raises(PidFileError, match=f"as process {pid} "):
            PidFile.take(path, 0o644, None)
        assert path.read_text() == str(pid)


def test_without_proc(tmp_path: Path) -> None:
    """The number is all there is to go by: a process that lives is taken for the daemon."""
    with process("sleep") as pid:
        assert pid_file.runs(pid, time.time(), tmp_path)
    assert not pid_file.runs(pid, time.time(), tmp_path)


def test_what_is_no_pid_file_is_left_alone(path: Path) -> None:
    """Somebody's notes, a directory, a link, a FIFO: one line says what it is."""
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: path.write_text("remember the milk"), "holds something else than a pid: remove it, or name"),
        (lambda: path.write_text("1" * 40), "holds something else than a pid"),
        (path.mkdir, "can't be made: it is a directory, which sockd leaves alone"),
        (lambda: path.symlink_to("other"), "can't be made: it is a link, which sockd leaves alone"),
        (lambda: os.mkfifo(path), "holds something else than a pid"),
    ]
    for make, why in cases:
        make()
        with pytest.raises(PidFileError, match=f"^the pid file {path} {why}"):
            PidFile.take(path, 0o644, None)
        assert os.path.lexists(path)
        path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(PidFileError, match="can't be made: No such file or directory"):
        PidFile.take(path / "deeper", 0o644, None)


def test_one_that_may_only_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is replaced where the directory allows that; but not one that a daemon has locked."""
    taken = PidFile.take(path, 0o644, None)
    really = os.open

    def open_(name: object, flags: int, *more: int, **others: int) -> int:
        if flags & os.O_RDWR and not flags & os.O_CREAT:
            raise PermissionError(13, "Permission denied")
        return really(name, flags, *more, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", open_)
    with pytest.raises(PidFileError, match="a daemon runs already"):
        PidFile.take(path, 0o644, None)
    os.close(taken.fd)
    take(path)
