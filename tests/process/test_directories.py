"""What is of the process: the directories that relative paths lead to, signals, exit status."""

import atexit
import errno
import io
import os
import pwd
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import platformdirs
import pytest
from twisted.python import util

from sockd.base.errors import FileWrongError, Place, Problem, SockdError
from sockd.process.directories import (
    Directories,
    directories,
    make_directories,
    runtime_directories,
)
from sockd.process.user import is_root, refusal_as, said_by_child
from sockd.program import exit_with, on_signal
from tests.tree.house import raising


def test_systemd_says_where() -> None:
    """Of several directories that systemd names, the first is ours, for root and for others."""
    environ = {"RUNTIME_DIRECTORY": "/run/a:/run/b", "LOGS_DIRECTORY": "/var/log/a"}
    for uid in (0, 1000):
        assert directories(environ, uid) == Directories(Path("/run/a"), Path("/var/log/a"))


def test_root_has_the_usual_places() -> None:
    """Without systemd's word (an empty one says nothing) root's files are where daemons have them."""
    assert directories({"RUNTIME_DIRECTORY": ""}, 0) == Directories(
        Path("/run/sockd"), Path("/var/log/sockd")
    )


def test_where_a_daemon_may_have_its_sockets() -> None:
    """As systemd says; else the system's daemon, and before a user's own one."""
    assert list(runtime_directories({"RUNTIME_DIRECTORY": "/run/a"}, 1000)) == [Path("/run/a")]
    assert list(runtime_directories({}, 0)) == [Path("/run/sockd")]
    own = directories({"LOGS_DIRECTORY": "/var/log/a"}, 1000).runtime
    assert list(runtime_directories({}, 1000)) == [Path("/run/sockd"), own]


def test_relative_directories_are_made_absolute() -> None:
    """A plan holds no path that changes with the working directory."""
    found = directories({"RUNTIME_DIRECTORY": "run", "LOGS_DIRECTORY": "log"}, 1000)
    assert found == Directories(Path.cwd() / "run", Path.cwd() / "log")


def test_users_have_their_own() -> None:
    """A user's directories end in our name and are absolute."""
    found = directories({}, 1000)
    assert found.runtime.is_absolute()
    assert found.runtime.name == "sockd"
    assert "sockd" in found.logs.parts


def test_unsafe_directory_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """When someone else holds the user's runtime directory, one line says what to do."""

    def refuse(*_: object, **__: object) -> Path:
        raise PermissionError("owned by another user")

    monkeypatch.setattr(platformdirs, "user_runtime_path", refuse)
    with pytest.raises(SockdError, match=r"^there is no safe directory.*set RUNTIME_DIRECTORY$"):
        directories({}, 1000)


def test_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without one, as in a container that only has a uid, is told what does without it."""

    def refuse(*_: object, **__: object) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr(platformdirs, "user_log_path", refuse)
    with pytest.raises(SockdError, match=r"^there is no safe directory.*home directory.*set LOGS_DIRECTORY$"):
        directories({"RUNTIME_DIRECTORY": "/run/x"}, 1000)


@pytest.mark.usefixtures("gone_directory")
def test_relative_to_a_directory_that_is_gone() -> None:
    """The line says which path that is."""
    with pytest.raises(SockdError, match=r"^run is relative to the current directory, which can't be found"):
        directories({"RUNTIME_DIRECTORY": "run"}, 0)


def test_directories_are_made(tmp_path: Path) -> None:
    """Missing ones are made, with all above them; others stay as they are."""
    here = tmp_path / "here"
    here.mkdir(mode=0o700)
    wanted = Directories(tmp_path / "run" / "deep", here)
    make_directories(wanted, None)
    assert wanted.runtime.is_dir()
    assert here.stat().st_mode & 0o777 == 0o700


def test_directories_that_cannot_be_made(tmp_path: Path) -> None:
    """The error comes later, with the name of the address or the file that needs them."""
    (tmp_path / "file").touch()
    wanted = Directories(tmp_path / "file" / "run", tmp_path / "log")
    make_directories(wanted, None)
    assert wanted.logs.is_dir()


# -- users


@pytest.mark.parametrize(
    ("uids", "mapped", "root"),
    [
        ((0, 0, 0), "         0          0 4294967295\n", True),
        ((7, 7, 7), "         0          0 4294967295\n", False),
        ((0, 7, 0), "         0          0 4294967295\n", True),
        ((0, 0, 0), "         0       1000          1\n", False),
        ((0, 0, 0), "", True),
    ],
)
def test_root(uids: tuple[int, int, int], mapped: str, root: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that can become root again is root; root of a user namespace is another user outside."""
    monkeypatch.setattr(os, "getresuid", lambda: uids)
    monkeypatch.setattr(Path, "read_text", lambda *_: mapped)
    assert is_root() == root


def refuse(error: Exception) -> Callable[[], None]:
    def read() -> None:
        raise error

    return read


def test_who_can_read() -> None:
    """The user that we are already can do what we can, in a child that leaves nothing behind."""
    ran: list[int] = []
    assert refusal_as(os.getuid(), None, False, lambda: ran.append(1)) == ()
    assert refusal_as(os.getuid(), os.getgid(), True, lambda: None) == ()
    assert refusal_as(None, os.getgid(), False, lambda: None) == ()
    assert ran == []


def test_who_can_not_read() -> None:
    """Every problem names the user; whatever else goes wrong there is reported as well."""
    name = pwd.getpwuid(os.getuid()).pw_name
    problems = [Problem(Place("a.yaml", 0), "", "can't be read"), Problem(Place("b.yaml", 7, 3), "x", "y")]
    assert refusal_as(os.getuid(), None, False, refuse(FileWrongError(tuple(problems)))) == (
        f"a.yaml: can't be read (as the user {name}, which sockd is to become)",
        f"b.yaml:7:3: x: y (as the user {name}, which sockd is to become)",
    )
    (told,) = refusal_as(os.getuid(), None, False, refuse(ZeroDivisionError("oops")))
    assert told == f"oops (as the user {name}, which sockd is to become)"
    assert refusal_as(os.getuid(), None, False, refuse(FileWrongError(()))) == ()


def test_long_refusals() -> None:
    """More than a pipe holds."""
    problems = tuple(Problem(Place("a.yaml", line), "", "x" * 100) for line in range(1, 2000))
    assert len(refusal_as(os.getuid(), None, False, refuse(FileWrongError(problems)))) == len(problems)


def test_users_that_can_not_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line names the user that it can't become."""

    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    free = next(uid for uid in range(40_000, 50_000) if uid not in {each.pw_uid for each in pwd.getpwall()})
    assert refusal_as(free, None, False, lambda: None) == (f"--uid={free}: there is no such user",)
    monkeypatch.setattr(util, "switchUID", refused)
    assert refusal_as(0, None, False, lambda: None) == (
        "this process can't become the user root (--uid, --gid): Operation not permitted",
    )
    assert refusal_as(None, 0, False, lambda: None) == (
        "this process can't become the group 0 (--uid, --gid): Operation not permitted",
    )


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_really_somebody_else(tmp_path: Path) -> None:
    """With that user's rights, and none of root's."""
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    nobody = pwd.getpwnam("nobody")

    def read() -> None:
        who = (os.getresuid(), os.getgid(), os.access(secret, os.R_OK))
        raise FileWrongError((Problem(Place(str(who), 0), "", ""),))

    (told,) = refusal_as(nobody.pw_uid, None, False, read)
    uid = nobody.pw_uid
    assert told.startswith(f"{((uid, uid, uid), nobody.pw_gid, False)}: ")


def test_a_child_that_is_forgotten() -> None:
    """Whoever started us may ignore SIGCHLD: then there is nothing to wait for, and its answer counts."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert refusal_as(os.getuid(), None, False, lambda: None) == ()
        assert refusal_as(os.getuid(), None, False, raising(OSError("oops")))[0].startswith(
            "oops (as the user"
        )
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_child_that_says_nothing() -> None:
    """One that is killed, or fails, isn't taken for one that has found nothing wrong."""
    assert said_by_child(lambda: ("one", "two")) == ("one", "two")
    assert said_by_child(raising(ZeroDivisionError("oops"))) == ("ZeroDivisionError: oops",)

    def die() -> tuple[str, ...]:
        os.kill(os.getpid(), signal.SIGKILL)
        return ()

    (told,) = said_by_child(die)
    assert told.endswith("has ended before it could say")


def test_no_child_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says so; nothing is left open."""
    open_before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(os, "fork", raising(OSError(errno.EAGAIN, "Resource temporarily unavailable")))
    (told,) = refusal_as(os.getuid(), None, False, lambda: None)
    assert told.endswith("may do: Resource temporarily unavailable")
    assert os.listdir("/proc/self/fd") == open_before


# -- signals, the end


def test_signals_are_handled_in_the_reactor() -> None:
    """Not where the signal happens to strike."""
    called: list[str] = []
    reactor: Any = Reactor()
    before = signal.getsignal(signal.SIGUSR2)
    try:
        on_signal(reactor, signal.SIGUSR2, lambda: called.append("handled"))
        os.kill(os.getpid(), signal.SIGUSR2)
        assert not called
        (handler,) = reactor.soon
        handler()
        assert called == ["handled"]
    finally:
        signal.signal(signal.SIGUSR2, before)


class Reactor:
    """Keeps what is to be called."""

    def __init__(self) -> None:
        self.soon: list[Any] = []

    def callFromThread(self, method: Any) -> None:
        self.soon.append(method)


def test_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is set at the very end, when everything was flushed; a closed stdout doesn't prevent it."""
    registered: list[Any] = []
    statuses: list[int] = []
    monkeypatch.setattr(atexit, "register", registered.append)
    monkeypatch.setattr(os, "_exit", statuses.append)
    exit_with(69, lambda: statuses.append(0))
    assert not statuses
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    (leave,) = registered
    leave()
    assert statuses == [0, 69]
