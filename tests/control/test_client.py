"""The asking end: what it takes for an answer, and what it says where there is none."""

import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sockd import __version__
from sockd.control import client as module
from sockd.control.client import ask
from sockd.control.language import MAX_REQUEST_BYTES, Refused
from tests.control.fakes import FakeDaemon, Reply, answer, refusal

NO_SOCKET = (
    "there is no control socket at {}: sockd isn't running, or its socket is elsewhere"
    " (--control, SOCKD_CONTROL)"
)


def refused(path: object, command: str = "status", **arguments: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        ask(str(path), command, **arguments)
    return caught.value


def refused_by(tmp_path: Path, reply: Reply) -> Refused:
    with FakeDaemon(tmp_path / "sock", [reply]) as daemon:
        error = refused(daemon.path)
    # The name of the directory is long and new each time.
    error.problems = tuple(problem.replace(str(tmp_path), "DIR") for problem in error.problems)
    return error


def test_an_answer(tmp_path: Path) -> None:
    """The request is one line, the result is the answer's."""
    with FakeDaemon(tmp_path / "sock", [answer({"kicked": [1]}, news="of a later daemon")]) as daemon:
        assert ask(daemon.path, "kick", connections=[1]) == {"kicked": [1]}
        assert daemon.asked == [{"version": 1, "command": "kick", "connections": [1]}]


def test_a_large_answer(tmp_path: Path) -> None:
    """It comes in many pieces."""
    with FakeDaemon(tmp_path / "sock", [answer("x" * 3_000_000)]) as daemon:
        assert ask(daemon.path, "status") == "x" * 3_000_000


def test_an_abstract_socket() -> None:
    """`@name` is the abstract namespace, as in the file."""
    name = f"sockd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"\0{name}")
        error = refused(f"@{name}")  # bound, but it doesn't listen
    assert (error.status, str(error)) == (69, f"sockd is not running: nothing listens at @{name}")


def test_not_running(tmp_path: Path) -> None:
    """No socket, a directory that isn't there, a socket that a crash left behind."""
    for path in (tmp_path / "sock", tmp_path / "no" / "sock"):
        error = refused(path)
        assert (error.status, str(error)) == (69, NO_SOCKET.format(path))
    left = tmp_path / "left"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(left))
    error = refused(left)
    assert (error.status, str(error)) == (69, f"sockd is not running: nothing listens at {left}")


def test_not_a_socket(tmp_path: Path) -> None:
    """A regular file and a directory, which the kernel doesn't tell from a socket that nothing listens at."""
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file"):
        error = refused(path)
        assert (error.status, str(error)) == (
            69,
            f"{path}: that is not a socket: name sockd's control socket (--control, SOCKD_CONTROL)",
        )


def test_paths_that_can_not_be() -> None:
    """A path that no socket can have is a line too, and safe to look at."""
    long = "/" + "x" * 200
    assert str(refused(long)) == f"{long} can't be used: AF_UNIX path too long"
    assert str(refused("a\nb")) == NO_SOCKET.format("a\\x0ab")


def test_not_a_stream_socket(tmp_path: Path) -> None:
    """A socket of another kind is none of ours."""
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        error = refused(path)
    assert (error.status, str(error)) == (69, f"{path} can't be used: Protocol wrong type for socket")


def test_not_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that one may not open has a status of its own."""

    def connect(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", connect)
    error = refused("/run/sock")
    assert error.status == 77
    assert (
        str(error)
        == "not allowed to use /run/sock: it is for root, the daemon's user and the daemon.control_group"
    )


def test_a_full_backlog(tmp_path: Path) -> None:
    """Room in it is waited for, as long as for an answer."""
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as sock, socket.socket(socket.AF_UNIX) as first:
        sock.bind(path)
        sock.listen(0)
        first.connect(path)
        error = refused(path, timeout=0.01)
    assert (error.status, str(error)) == (69, f"sockd did not answer within 10ms at {path}")


def test_no_answer_in_time(tmp_path: Path) -> None:
    """A daemon that says nothing is waited for no longer than was said."""
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()
        error = refused(path, timeout=0.01)
    assert (error.status, str(error)) == (69, f"sockd did not answer within 10ms at {path}")


def test_no_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time that passed while connecting counts."""
    now = [100.0]

    def connect(*_: object) -> None:
        now[0] += 60.0

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    assert str(refused("/x")) == "sockd did not answer within 1m at /x"


def test_each_command_has_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What may drain is waited for longer, unless one says how long."""
    seen: list[tuple[int, ...]] = []

    def connect(sock: socket.socket, path: str) -> None:
        option = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16)
        seen.append(struct.unpack("@ll", option))
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    for command, timeout in (("status", None), ("drain", None), ("drain", 2.5)):
        refused("/x", command, timeout=timeout)
    assert [seconds + microseconds / 1e6 for seconds, microseconds in seen] == pytest.approx(
        [60, 600, 2.5], abs=0.01
    )


@pytest.mark.parametrize("reply", [None, b"", b'{"version": 1, "ok": tr'])
def test_a_daemon_that_goes_away(tmp_path: Path, reply: Reply) -> None:
    """Before it read the request, before it answered, in the middle of it."""
    error = refused_by(tmp_path, reply)
    assert (error.status, error.problems) == (
        69,
        ("sockd closed the connection before it answered at DIR/sock",),
    )


@pytest.mark.parametrize("reply", [None, b"", b'{"version": 1, "ok": tr'])
def test_a_question_is_asked_again(tmp_path: Path, reply: Reply) -> None:
    """A daemon that is upgraded while it is asked answers as the new program."""
    with FakeDaemon(tmp_path / "sock", [reply, reply, answer("here")]) as daemon:
        assert ask(daemon.path, "status") == "here"


def test_what_changes_something_is_asked_for_once(tmp_path: Path) -> None:
    """It may have been done before the daemon went away."""
    with FakeDaemon(tmp_path / "sock", [b"", answer("again")]) as daemon:
        error = refused(daemon.path, "reload")
        assert len(daemon.asked) == 1
    assert str(error).startswith("sockd closed the connection before it answered")


def test_an_answer_before_the_request_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that may not use the socket learns it, though its request can't be sent any more."""
    path = str(tmp_path / "sock")
    really_connect = socket.socket.connect

    def connect(sock: socket.socket, path: str) -> None:
        really_connect(sock, path)
        accepted, _ = listening.accept()
        with accepted:
            accepted.sendall(refusal(77, "no"))

    monkeypatch.setattr(socket.socket, "connect", connect)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        error = refused(path)
    assert (error.status, error.problems) == (77, ("no",))


def test_refusals(tmp_path: Path) -> None:
    """They come with their status, line by line, and nothing in them drives a terminal."""
    error = refused_by(tmp_path, refusal(78, "a.yaml:1:1: wrong\x1b[2J", "a.yaml:2:1: too"))
    assert (error.status, str(error)) == (78, "a.yaml:1:1: wrong\\x1b[2J\na.yaml:2:1: too")


@pytest.mark.parametrize(
    ("reply", "status", "problems"),
    [
        (refusal("78", "a"), 70, ("a",)),
        (refusal(True, "a"), 70, ("a",)),
        (refusal(0, "a"), 70, ("a",)),
        (refusal(256, "a"), 70, ("a",)),
        (refusal(75), 75, ("sockd refused the request without a reason",)),
        (refusal(75, {"a": 1}), 75, ("{'a': 1}",)),
        (
            b'{"version": 1, "ok": false, "problems": "text"}\n',
            70,
            ("sockd refused the request without a reason",),
        ),
        (refusal(76, "versions don't match: …", version=2), 76, ("versions don't match: …",)),
    ],
)
def test_odd_refusals(tmp_path: Path, reply: bytes, status: int, problems: tuple[str, ...]) -> None:
    """A refusal is understood as far as it goes, of any version."""
    error = refused_by(tmp_path, reply)
    assert (error.status, error.problems) == (status, problems)


def test_another_version(tmp_path: Path) -> None:
    """An answer of another version isn't guessed at."""
    error = refused_by(tmp_path, b'{"version": 2, "ok": true, "result": {}}\n')
    assert error.status == 76
    assert str(error) == (
        "versions don't match: the daemon speaks version 2 of the control protocol, "
        f"this is sockd {__version__}, which speaks version 1"
    )


@pytest.mark.parametrize(
    "reply",
    [
        b"220 mail.example ESMTP\n",
        b"\xff\xfe\n",
        b"[]\n",
        b"7\n",
        b"{}\n",
        b"[" * 100_000 + b"\n",
        b'{"version": 1}\n',
        b'{"version": 1, "ok": true}\n',
        b'{"version": 1, "ok": 1, "result": 2}\n',
    ],
    ids=lambda reply: reply[:12].decode("ascii", "replace"),
)
def test_what_is_no_answer(tmp_path: Path, reply: bytes) -> None:
    """Somebody else may listen there."""
    error = refused_by(tmp_path, reply)
    assert (error.status, error.problems) == (76, ("what answers at DIR/sock is not sockd",))


def test_an_answer_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It isn't kept beyond a bound."""
    monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 1000)
    error = refused_by(tmp_path, b"x" * 1001)
    assert (error.status, str(error)) == (76, "sockd's answer is longer than 1000 bytes")


def test_a_request_that_is_too_long() -> None:
    """What the daemon wouldn't read isn't sent."""
    text = "x" * MAX_REQUEST_BYTES
    error = refused("/nowhere", "suspend", endpoint=text)
    assert (error.status, str(error)) == (
        64,
        "the request is too long: 65589 bytes, and at most 65536 are read",
    )


def test_it_needs_neither_reactor_nor_models() -> None:
    """A command that asks starts quickly."""
    code = "import sys, sockd.control.client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    loaded = set(done.stdout.decode().split())
    assert not loaded & {"twisted.internet.reactor", "twisted.internet.defer", "pydantic", "yaml", "rich"}
