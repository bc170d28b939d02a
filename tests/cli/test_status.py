"""`sockd status`: on a terminal, piped, as JSON, and again and again."""

import io
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sockd.cli import main
from sockd.cli.status import watch
from sockd.cli.tables import Page, plain
from sockd.control.language import Refused
from tests.answers import BUSY, NOW, status
from tests.control.fakes import FakeDaemon, Reply, answer, refusal

CONTROLS = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hour, and what the terminal is."""
    monkeypatch.setattr(time, "time", lambda: NOW)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs the command against a daemon that replies so; gives the status."""

    def run(words: str, *replies: Reply) -> int:
        path = tmp_path / "sock"
        monkeypatch.setattr(sys, "argv", ["sockd", "status", "--control", str(path), *words.split()])
        with FakeDaemon(path, replies), pytest.raises(SystemExit) as caught:
            main.main()
        assert isinstance(caught.value.code, int | None)
        return caught.value.code or 0

    return run


def test_piped(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    """Plain text, whole values."""
    assert run("", answer(BUSY)) == 0
    out = capsys.readouterr().out
    assert out.startswith("sockd 0.1.0, pid 4711, up 3m 20s, running\nfile: /etc/sockd/sockd.yaml\n")
    assert "\x1b" not in out
    assert "systemd://log         running, held, suspended" in out


def test_on_a_terminal(run: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    """In colours."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert run("", answer(BUSY)) == 0
    assert "\x1b[32mrunning" in terminal.getvalue()


def test_without_colours(run: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    """$NO_COLOR is respected (no-color.org)."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    assert run("", answer(BUSY)) == 0
    assert "\x1b[32m" not in terminal.getvalue()


def test_as_json(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    """The daemon's answer, as it is, in ASCII."""
    result = status(file="/etc/sockd/\x1b\u202esöckd.yaml")
    assert run("--json", answer(result)) == 0
    out = capsys.readouterr().out
    assert json.loads(out) == result
    assert out.isascii()
    assert "\x1b" not in out


def test_a_refusal(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    """One line, and the status."""
    assert run("", refusal(77, "uid 1000 is not allowed to use the control socket")) == 77
    assert capsys.readouterr().err == "uid 1000 is not allowed to use the control socket\n"


def test_one_or_the_other(run: Callable[..., int]) -> None:
    """JSON again and again is no JSON."""
    assert run("--json --watch", answer(BUSY)) == 2


def interrupted(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Ctrl-C comes instead of the pause of this number."""
    pauses = iter(range(1, after + 1))

    def pause(seconds: float) -> None:
        if next(pauses) == after:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", pause)


def test_watching_on_a_terminal(run: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The screen is taken over, redrawn, and restored; Ctrl-C is not a failure."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    interrupted(monkeypatch, after=2)
    assert run("--watch", answer(BUSY), answer(status(uptime=7200))) == 0
    sent = terminal.getvalue()
    assert sent.startswith("\x1b[?1049h")
    assert "\x1b[?1049l" in sent
    text = CONTROLS.sub("", sent)
    assert "up 3m 20s" in text
    assert "up 2h 0m" in text


def test_watching_through_a_pipe(
    run: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One text after the other, an empty line between them; a daemon that went away is waited for."""
    interrupted(monkeypatch, after=3)
    assert run("--watch", answer(status()), None, answer(status(uptime=7200))) == 0
    first, second, third = capsys.readouterr().out.removesuffix("\n\n").split("\n\n")
    assert first.startswith("sockd 0.1.0, pid 4711, up 3m 20s, running\n")
    told, *before = second.splitlines()
    assert told.startswith("sockd closed the connection before it answered at ")
    assert told.endswith("; trying again")
    assert before == first.splitlines()
    assert third.startswith("sockd 0.1.0, pid 4711, up 2h 0m, running\n")


def test_watching_what_was_never_there() -> None:
    """It is waited for from the beginning on."""
    shown: list[str] = []

    def look() -> Page:
        raise Refused(69, "there is no control socket at /x")

    def wait() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch(look, lambda page: shown.append(plain(page)), wait)
    assert shown == ["there is no control socket at /x; trying again"]


def test_watching_what_one_may_not_see(run: Callable[..., int]) -> None:
    """What waiting doesn't change ends it."""
    assert run("--watch", refusal(77, "not allowed")) == 77


def test_the_pause(run: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A second lies between two looks."""
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    assert run("--watch", answer(status())) == 0
    assert pauses == [1.0]
