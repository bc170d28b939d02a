"""The sockd command and a running daemon, through the control socket."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.end_to_end.conftest import Serve
from tests.end_to_end.harness import Daemon, receive, receive_all
from tests.end_to_end.programs import BOUND, Process

FILE = """
daemon: {log: {format: json}, drain: 1s}
endpoints:
  echo: {listen: [tcp://127.0.0.1:0, udp://127.0.0.1:0], protocol: echo}
  lobby: {listen: unix://lobby.sock, protocol: chat}
"""
Answer = tuple[int, str, str]


class Sockd:
    """The `sockd` command, for one daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self._environ = {**os.environ, "RUNTIME_DIRECTORY": str(daemon.runtime)}
        self._environ.pop("SOCKD_CONTROL", None)

    def __call__(self, words: str) -> Answer:
        done = subprocess.run(
            [sys.executable, "-m", "sockd", *words.split()],
            env=self._environ, capture_output=True, text=True, check=False, timeout=BOUND,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def begin(self, words: str) -> "subprocess.Popen[str]":
        """Goes on in the background."""
        arguments = [sys.executable, "-m", "sockd", *words.split()]
        return subprocess.Popen(arguments, env=self._environ, stdout=subprocess.PIPE, text=True)

    def right(self, words: str) -> str:
        """What it prints, if that goes well."""
        status, out, err = self(words)
        assert (status, err) == (0, "")
        return out

    def endpoint(self, name: str) -> dict[str, Any]:
        """As the status has it."""
        status = json.loads(self.right("status --json"))
        found = [one for one in status["endpoints"] if one["name"] == name]
        assert len(found) == 1
        return dict(found[0])


def exchange(one: socket.socket, text: bytes) -> bytes:
    one.sendall(text)
    return receive(one, len(text))


def test_status(serve: Serve) -> None:
    """What runs is shown, to people and to programs, and counts what was served."""
    daemon = serve(FILE)
    sockd = Sockd(daemon)
    with daemon.connect("echo") as one, daemon.connect("echo", "udp") as other:
        exchange(one, b"hello")
        exchange(other, b"hello")
        out = sockd.right("status")
        tcp, udp = sockd.endpoint("echo")["listeners"]
    assert out.startswith(f"sockd 0.1.0, pid {daemon.pid}, up ")
    assert re.search(r"^echo +tcp://127\.0\.0\.1:\d+ +running +\d+s +1, 1 total +5B +5B$", out, re.MULTILINE)
    assert re.search(r"^echo +udp://.* +1 datagram, 1 sent +5B +5B$", out, re.MULTILINE)
    assert re.search(r"^lobby +unix://.*/lobby\.sock +running ", out, re.MULTILINE)
    assert (tcp["accepted"], tcp["bytes_in"], tcp["bytes_out"]) == (1, 5, 5)
    assert (udp["datagrams_in"], udp["datagrams_out"]) == (1, 1)


def test_diff_and_reload(serve: Serve) -> None:
    """What would change is what then changes; a wrong file and a busy address change nothing."""
    daemon = serve(FILE)
    sockd = Sockd(daemon)
    before = sockd.right("diff")
    assert before == "nothing would change\nunchanged  echo, lobby\n"
    with daemon.connect("echo") as one, socket.create_server(("127.0.0.1", 0)) as busy:
        exchange(one, b"before")
        daemon.file.write_text(FILE.replace("protocol: chat", "protocol: chat, options: {history: 5}"))
        changed = sockd.right("diff")
        assert changed.startswith("updated    lobby\n             options.history: 20 -> 5\n")
        assert sockd.right("reload") == changed
        assert sockd.right("diff") == before
        daemon.file.write_text(FILE.replace("drain: 1s", "drain: 1"))
        status, out, err = sockd("reload")
        assert (status, out) == (78, "")
        assert err.startswith(f"{daemon.file}:2:")
        taken = f"tcp://127.0.0.1:{busy.getsockname()[1]}"
        daemon.file.write_text(FILE.replace("unix://lobby.sock", f"[unix://lobby.sock, '{taken}']"))
        status, out, err = sockd("reload")
        assert (status, out) == (75, "")
        assert taken in err
        assert exchange(one, b"after") == b"after"
        assert len(sockd.endpoint("lobby")["listeners"]) == 1
    assert "refused: " in sockd.right("status")


def test_suspend_and_resume(serve: Serve) -> None:
    """Newcomers wait until it resumes; connections that are there already aren't disturbed."""
    daemon = serve(FILE)
    sockd = Sockd(daemon)
    with daemon.connect("echo") as one:
        exchange(one, b"x")
        assert sockd.right("suspend echo") == "echo: suspended\n"
        assert sockd.endpoint("echo")["causes"] == ["suspended"]
        with daemon.connect("echo") as newcomer:
            newcomer.sendall(b"y")
            assert exchange(one, b"x") == b"x"
            assert sockd.endpoint("echo")["connections"] == 1
            assert sockd.right("resume echo") == "echo: resumed\n"
            assert receive(newcomer, 1) == b"y"


def test_restart(serve: Serve) -> None:
    """Connections end, and the next ones are served by a protocol that has just started."""
    daemon = serve(FILE)
    sockd = Sockd(daemon)
    with daemon.connect("lobby", "unix") as one:
        receive(one, 2)
        assert sockd.right("restart lobby") == "lobby: restarted\n"
        receive_all(one)
    with daemon.connect("lobby", "unix") as one:
        assert receive(one, 2) == b"--"


def test_drain(serve: Serve) -> None:
    """It waits for the connections, and counts those that had to be cut."""
    daemon = serve(FILE)
    sockd = Sockd(daemon)
    with daemon.connect("echo") as one:
        exchange(one, b"x")
        draining = sockd.begin("drain echo")
        last = receive_all(one)
    told, _ = draining.communicate(timeout=BOUND)
    assert (last, told) == (b"", "echo: drained: 1 connection finished, 0 closed by sockd\n")
    assert sockd.endpoint("echo")["causes"] == ["suspended"]
    assert sockd.right("resume echo") == "echo: resumed\n"
    with daemon.connect("echo") as one:
        exchange(one, b"x")
        assert (
            sockd.right("drain echo") == "echo: drained: 0 connections finished, 1 closed by sockd\n"
        )  # it did not close


def test_connections_and_kick(serve: Serve) -> None:
    """Who is there is listed with an id, by which it can be cut."""
    daemon = serve(FILE)
    sockd = Sockd(daemon)
    assert sockd.right("connections") == ""
    with daemon.connect("echo") as one, daemon.connect("echo") as other:
        exchange(one, b"x")
        exchange(other, b"x")
        peer = f"127.0.0.1:{one.getsockname()[1]}"
        listed = json.loads(sockd.right("connections echo --json"))["connections"]
        (number,) = [each["id"] for each in listed if each["peer"] == peer]
        assert f"{peer} " in sockd.right("connections")
        assert sockd.right(f"kick {number}") == f"kicked: {number}\n"
        with pytest.raises(ConnectionResetError):
            one.recv(1)
        assert exchange(other, b"y") == b"y"
        assert sockd(f"kick {number}") == (64, "", f"there is no connection {number}\n")
    assert sockd("connections ecko") == (64, "", "there is no endpoint 'ecko', did you mean 'echo'?\n")


def test_not_running(serve: Serve) -> None:
    """After the daemon's stop, and after its crash."""
    daemon = serve(FILE)
    sockd, path = Sockd(daemon), daemon.runtime / "control.sock"
    assert daemon.stop() == 0
    assert sockd("status") == (
        69,
        "",
        (
            f"there is no control socket at {path}: sockd isn't running, or its socket is elsewhere"
            " (--control, SOCKD_CONTROL)\n"
        ),
    )
    crashed = serve(FILE)
    crashed.signal(signal.SIGKILL)
    crashed.wait()
    assert sockd("status") == (69, "", f"sockd is not running: nothing listens at {path}\n")
    assert serve(FILE).pid
    assert sockd("status")[0] == 0


# Asks as somebody else, having loaded what it needs before.
OTHER = """
import os, sys
from sockd.control.client import ask
from sockd.control.language import Refused
path, uid, groups = sys.argv[1], int(sys.argv[2]), [int(group) for group in sys.argv[3:]]
os.setgroups(groups)
os.setgid(uid)
os.setuid(uid)
try:
    print(ask(path, "status")["pid"])
except Refused as refused:
    print(refused)
    sys.exit(refused.status)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_who_may(serve: Serve) -> None:
    """Members of control_group may; others don't, even if the socket's file lets them."""
    daemon = serve(FILE.replace("drain: 1s", "drain: 1s, control_group: 4713"))
    path = daemon.runtime / "control.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o660

    def ask(*who: int) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-c", OTHER, str(path), *map(str, who)],
            capture_output=True, text=True, check=False, timeout=BOUND,
        )  # fmt: skip
        return done.returncode, done.stdout

    assert ask(4711, 4713) == (0, f"{daemon.pid}\n")
    status, out = ask(4711, 4714)
    assert status == 77
    assert (
        out == f"not allowed to use {path}: it is for root, the daemon's user and the daemon.control_group\n"
    )
    path.chmod(0o666)
    assert ask(4711, 4714) == (77, "uid 4711 is not allowed to use the control socket\n")
    assert daemon.event("control", level="warn")["uid"] == 4711


def test_any_program_may_talk_to_it(serve: Serve, program: Callable[..., Process]) -> None:
    """A line by socat is answered by a line."""
    path = serve(FILE).runtime / "control.sock"
    one = program("socat", "-t", str(BOUND), "-", f"UNIX-CONNECT:{path}")
    one.send('{"version": 1, "command": "suspend", "endpoint": "echo"}\nwhat?\n')
    one.close_input()
    assert one.wait() == 0
    lines = one.text.splitlines()
    assert json.loads(lines[0]) == {"version": 1, "ok": True, "result": {"endpoint": "echo"}}
    assert json.loads(lines[1])["status"] == 64


def test_watching_through_a_restart(serve: Serve) -> None:
    """It goes on when the daemon is back."""
    daemon = serve(FILE)
    path = daemon.runtime / "control.sock"
    watching = Process([sys.executable, "-m", "sockd", "status", "--watch", "--control", str(path)])
    try:
        watching.until(lambda output: f"pid {daemon.pid}".encode() in output, "the first daemon")
        daemon.stop()
        watching.until(lambda output: b"; trying again\n" in output, "its absence")
        second = serve(FILE)
        watching.until(lambda output: f"pid {second.pid}".encode() in output, "the second daemon")
        watching.signal(signal.SIGINT)
        assert watching.wait() == 130
    finally:
        watching.end()
