"""Where a command looks for the daemon, and what it offers to a shell."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from sockd.cli import main
from tests.answers import connection, endpoint, status
from tests.control.fakes import FakeDaemon, answer


def completed(*words: str) -> list[tuple[str, str | None]]:
    """What the shell is offered for the last word."""
    found = ShellComplete(main.command, {}, "sockd", "_SOCKD_COMPLETE").get_completions(
        list(words[:-1]), words[-1]
    )
    return [(one.value, one.help) for one in found]


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    """One with two endpoints and two connections."""

    def reply(request: dict[str, object]) -> bytes:
        if request["command"] == "status":
            return answer(status(endpoint("echo"), endpoint("lobby", protocol="chat")))
        return answer({"connections": [connection(12), connection(13, peer="uid=0,pid=7")], "more": False})

    monkeypatch.delenv("SOCKD_CONTROL", raising=False)
    with FakeDaemon(tmp_path / "sock", [reply]) as fake:
        yield fake


def test_endpoints_are_completed(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what was typed of them, wherever the socket was named."""
    assert completed("suspend", "--control", daemon.path, "l") == [("lobby", "chat")]
    monkeypatch.setenv("SOCKD_CONTROL", daemon.path)
    for command in ("suspend", "resume", "restart", "drain", "connections"):
        assert completed(command, "") == [("echo", "echo"), ("lobby", "chat")]


def test_connections_are_completed(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """By their ids, each with its peer."""
    monkeypatch.setenv("SOCKD_CONTROL", daemon.path)
    assert [value for value, _ in completed("kick", "1")] == ["12", "13"]
    assert completed("kick", "13") == [("13", "uid=0,pid=7 on tcp://127.0.0.1:7007")]


def test_nothing_to_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a daemon, or with an odd one, nothing is offered, nor said."""
    monkeypatch.setenv("SOCKD_CONTROL", str(tmp_path / "sock"))
    assert completed("suspend", "") == []
    with FakeDaemon(tmp_path / "sock", [answer([])]):
        assert completed("suspend", "") == []
    (tmp_path / "sock").unlink()
    with FakeDaemon(tmp_path / "sock", [answer({"endpoints": [1], "connections": 7})]):
        assert completed("suspend", "") == []
        assert completed("kick", "") == []


def test_the_options_are_shown() -> None:
    """Every command that asks tells how it finds the daemon."""
    for name in ("status", "diff", "reload", "suspend", "connections", "kick", "upgrade"):
        one = main.command.commands[name]
        with click.Context(one, info_name=name) as context:
            text = one.get_help(context)
        assert "--control PATH" in text
        assert "SOCKD_CONTROL" in text
        assert "--timeout DURATION" in text
