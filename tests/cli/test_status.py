"""`sockd status`: on a terminal, piped, as JSON, and again and again."""

import io
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sockd.cli import main
from sockd.cli.pages import Page, plain
from sockd.cli.status import watch
from sockd.control.language import Refused
from tests.answers import BUSY, NOW, endpoint, listener, status
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
        path.unlink()
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


def test_one_of_many(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    """Those that are named; one that isn't there is refused, and the nearest is offered."""
    assert run("applog", answer(BUSY)) == 0
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines() if "running" in line]
    assert rows == ["sockd", "applog"]
    assert run("echo applo", answer(BUSY)) == 64
    out, err = capsys.readouterr()
    assert (out, err) == ("", "there is no endpoint 'applo', did you mean 'applog'?\n")
    assert run("echo --json", answer(BUSY)) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["endpoints"]] == ["echo"]


def test_what_is_disabled(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    """It is the last row, and can be named."""
    off = {"name": "off", "protocol": "echo", "addresses": ["tcp://*:1"]}
    assert run("off --exit-code", answer(status(*BUSY["endpoints"], disabled=[off]))) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["off", "(echo)", "disabled"]


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([endpoint("a", listener("tcp://*:1"))], 0),
        ([], 0),
        ([endpoint("a", listener("tcp://*:1"), causes=["at its limit"])], 0),
        ([endpoint("a", listener("tcp://*:1"), causes=["upgrading"])], 0),
        ([endpoint("a", listener("tcp://*:1", state="backing off"))], 1),
        ([endpoint("a", listener("tcp://*:1"), state="starting")], 1),
        ([endpoint("a", listener("tcp://*:1", causes=["held"]))], 1),
        ([endpoint("b"), endpoint("a", listener("tcp://*:1"), causes=["suspended"])], 1),
    ],
)
def test_as_a_status(parts: list[Any], code: int, run: Callable[..., int]) -> None:
    """1 where something serves nobody new, for monitoring; the table, or the JSON, is there all the same."""
    assert run("--exit-code", answer(status(*parts))) == code
    assert run("--exit-code --json", answer(status(*parts))) == code
    assert run("", answer(status(*parts))) == 0


def test_as_a_status_of_one(run: Callable[..., int]) -> None:
    """Only those that are named count; a daemon that isn't there has its own status."""
    down = endpoint("a", listener("tcp://*:1", state="backing off"))
    both = status(down, endpoint("b"))
    assert run("b --exit-code", answer(both)) == 0
    assert run("a b --exit-code", answer(both)) == 1
    assert run("--exit-code", None) == 69
    assert run("--exit-code --watch", answer(both)) == 2


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
    """The screen is taken over, redrawn, and restored by Ctrl-C, which says nothing."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    interrupted(monkeypatch, after=2)
    assert run("--watch", answer(BUSY), answer(status(uptime=7200))) == 130
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
    assert run("--watch", answer(status()), *[None] * 3, answer(status(uptime=7200))) == 130
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
    assert run("--watch", answer(status())) == 130
    assert pauses == [1.0]
