"""The commands that change a running daemon: what they ask, print, and end with."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sockd.cli import main
from sockd.cli.control import subcommand
from sockd.control.commands import COMMANDS, Argument, Command, Ids, Number, Text
from tests.answers import changes, connection
from tests.control.fakes import FakeDaemon, Reply, answer, refusal

Result = tuple[int, str, str]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the control socket is, as the environment says."""
    path = tmp_path / "control.sock"
    monkeypatch.setenv("SOCKD_CONTROL", str(path))
    return path


class Run:
    """Runs the command against a daemon that replies so."""

    def __init__(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[str]
    ) -> None:
        self._path, self._monkeypatch, self._captured = path, monkeypatch, captured
        self.asked: list[dict[str, Any]] = []

    def __call__(self, words: str, *replies: Reply) -> Result:
        self._monkeypatch.setattr(sys, "argv", ["sockd", *words.split()])
        with FakeDaemon(self._path, replies) as daemon, pytest.raises(SystemExit) as caught:
            main.main()
        self._path.unlink()
        self.asked = [
            {key: value for key, value in request.items() if key != "version"} for request in daemon.asked
        ]
        out, err = self._captured.readouterr()
        assert isinstance(caught.value.code, int | None)
        return caught.value.code or 0, out, err


@pytest.fixture
def run(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(path, monkeypatch, capsys)


def test_reload(run: Run) -> None:
    """It prints what changed; warnings go to stderr."""
    done = changes(added=[{"name": "new", "details": ["tcp://*:1"]}], unchanged=["echo"])
    done["warnings"] = ["sockd.yaml:1:1: warning: \x1b"]
    assert run("reload", answer(done)) == (
        0,
        "added      new\n             tcp://*:1\nunchanged  echo\n",
        "sockd.yaml:1:1: warning: \\x1b\n",
    )
    assert run.asked == [{"command": "reload"}]
    assert run("reload", answer(changes())) == (0, "nothing changed\n", "")


def test_diff(run: Run) -> None:
    """The same, before it is done."""
    assert run("diff", answer(changes())) == (0, "nothing would change\n", "")
    assert run.asked == [{"command": "diff"}]


@pytest.mark.parametrize(("status", "problem"), [(78, "sockd.yaml:3:1: wrong"), (75, "tcp://*:1: in use")])
def test_a_refused_reload(run: Run, status: int, problem: str) -> None:
    """The problems are lines on stderr, the status is the daemon's."""
    assert run("reload", refusal(status, problem, "and more")) == (status, "", f"{problem}\nand more\n")


@pytest.mark.parametrize("command", ["suspend", "resume", "restart"])
def test_endpoints_by_name(run: Run, command: str) -> None:
    """Each is asked for once, and has its line."""
    done = {"suspend": "suspended", "resume": "resumed", "restart": "restarted"}[command]
    assert run(f"{command} echo lobby echo", lambda asked: answer({"endpoint": asked["endpoint"]})) == (
        0,
        f"echo: {done}\nlobby: {done}\n",
        "",
    )
    assert run.asked == [{"command": command, "endpoint": name} for name in ("echo", "lobby")]


def test_drain(run: Run) -> None:
    """It says how many connections had the time to finish."""
    done = answer({"endpoint": "echo", "finished": 1, "closed": 2})
    assert run("drain echo", done) == (0, "echo: drained: 1 connection finished, 2 closed by sockd\n", "")


def test_an_endpoint_that_is_refused(run: Run) -> None:
    """The others have their turn all the same; the first refusal gives the status."""
    done = answer({"endpoint": "b"})
    replies = (refusal(64, "there is no endpoint 'a'"), done, refusal(75, "c: in use"))
    assert run("restart a b c", *replies) == (64, "b: restarted\n", "there is no endpoint 'a'\nc: in use\n")


def test_a_daemon_that_went_away(run: Run) -> None:
    """The other endpoints aren't asked for."""
    status, out, err = run("suspend a b", answer({"endpoint": "a"}), None)
    assert (status, out) == (69, "a: suspended\n")
    assert err.startswith("sockd closed the connection before it answered at ")
    assert len(err.splitlines()) == 1


def test_connections(run: Run) -> None:
    """All of them, asked for in portions."""
    replies = (
        answer({"connections": [connection(3), connection(5)], "more": True}),
        answer({"connections": [connection(8)], "more": False}),
    )
    status, out, err = run("connections echo", *replies)
    assert (status, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["id", "3", "5", "8"]
    assert run.asked == [
        {"command": "connections", "endpoint": "echo"},
        {"command": "connections", "endpoint": "echo", "after": 5},
    ]


def test_connections_as_json(run: Run) -> None:
    """For programs; a daemon that always has more is not asked for ever."""
    assert run("connections --json", answer({"connections": [], "more": True})) == (
        0,
        '{\n  "connections": [],\n  "more": false\n}\n',
        "",
    )
    assert run("connections", answer({"connections": [], "more": False})) == (0, "", "")


def test_kick(run: Run) -> None:
    """The ids that were closed, and those that don't exist."""
    assert run("kick 3 5 3", answer({"kicked": [3, 5], "unknown": []})) == (0, "kicked: 3 5\n", "")
    assert run.asked == [{"command": "kick", "connections": [3, 5]}]
    assert run("kick 9", answer({"kicked": [], "unknown": [9]})) == (64, "", "there is no connection 9\n")


def test_upgrade(run: Run) -> None:
    """It says what the new program took over."""
    done = {
        "version": "0.2.0", "seconds": 0.414, "pause": 0.3, "connections": 40, "drained": 3, "listeners": 1
    }  # fmt: skip
    assert run("upgrade", answer(done)) == (
        0,
        "upgraded to 0.2.0 in 0.41s, clients waited 0.30s: 1 listener and 40 connections kept, 3 drained\n",
        "",
    )


@pytest.mark.parametrize(
    ("arguments", "words", "asked", "printed"),
    [
        ((), [], {}, '{\n  "pong": 7\n}\n'),
        ((Argument("endpoint", Text(100), "ENDPOINT"),), ["echo"], {"endpoint": "echo"}, "echo: done\n"),
        ((Argument("most", Number(), required=False, default=7),), [], {}, '{\n  "pong": 7\n}\n'),
        ((Argument("connections", Ids(10), "ID"),), ["1"], {"connections": [1]}, '{\n  "pong": 7\n}\n'),
    ],
)
def test_a_new_command(
    arguments: tuple[Argument, ...],
    words: list[str],
    asked: dict[str, Any],
    printed: str,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that is only declared can be used: it prints the answer as JSON, or that it is done."""
    monkeypatch.setitem(COMMANDS, "ping", Command("ping", "Ask.", "Ask for an answer.", arguments))
    with FakeDaemon(path, [answer({"pong": 7})]) as daemon:
        result = CliRunner().invoke(subcommand("ping"), words)
    assert (result.exit_code, result.output) == (0, printed)
    assert daemon.asked == [{"version": 1, "command": "ping"} | asked]


WRONG_TIMES = ("5", "0s", "2d")


@pytest.mark.parametrize(
    "words",
    ["suspend", "kick", *(f"reload --timeout {time}" for time in WRONG_TIMES)],
)
def test_wrong_usage(run: Run, words: str) -> None:
    """It is click's status, and nothing is asked."""
    status, out, err = run(words, answer(None))
    assert (status, out, run.asked) == (2, "", [])
    assert "Error: " in err


@pytest.mark.parametrize(
    ("time", "written"), [("1w", "a whole number and ms, s, m, h or d"), ("24hours", "24h")]
)
def test_what_to_write_is_allowed(run: Run, time: str, written: str) -> None:
    """A hint never names a time-out that is refused as well."""
    assert f"'{time}' is not a duration: write {written}" in run(f"reload --timeout {time}", answer(None))[2]


@pytest.mark.parametrize(
    "result", [None, {}, [], {"changes": 7, "warnings": []}, {"changes": {}, "warnings": [1]}]
)
@pytest.mark.parametrize("command", ["status", "reload", "connections", "kick 1", "upgrade", "drain a"])
def test_answers_that_can_not_be_shown(run: Run, command: str, result: Any) -> None:
    """An answer of an odd form is one line, not a traceback."""
    status, out, err = run(command, answer(result))
    assert (status, out) == (76, "")
    assert err.startswith("sockd's answer can't be shown: ")
    assert len(err.splitlines()) == 1


def test_control_names_the_socket(run: Run, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option goes before the environment."""
    monkeypatch.setenv("SOCKD_CONTROL", "/nowhere")
    assert run(f"reload --control {path}", answer(changes()))[0] == 0


def test_where_the_socket_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Without a word it is in the runtime directory; what is missing is named."""
    monkeypatch.delenv("SOCKD_CONTROL", raising=False)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["sockd", "reload", "--timeout", "5s"])
    with FakeDaemon(tmp_path / "control.sock", [answer(changes())]), pytest.raises(SystemExit) as caught:
        main.main()
    assert caught.value.code is None or caught.value.code == 0
    os.unlink(tmp_path / "control.sock")
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main.main()
    assert caught.value.code == 69
    assert capsys.readouterr().err == (
        f"there is no control socket at {tmp_path}/control.sock: sockd isn't running, or its socket is"
        " elsewhere (--control, SOCKD_CONTROL)\n"
    )
