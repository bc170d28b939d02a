"""What reaches a terminal, whoever wrote it: nothing that drives it, and an end without a traceback."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import click
import pytest

from sockd.base.text import UNSAFE
from sockd.cli import control, main
from sockd.control import client, language
from sockd.control.commands import COMMANDS
from sockd.control.language import Refused
from tests.answers import BUSY, changes, connection, source, status

# A title, a cleared screen in C0 and C1, text the other way round, a line that isn't ours.
HOSTILE = "\x1b]0;x\x07\x1b[2J\x9b2J\u202e\x7f\nforged"
ANSWERS: dict[str, Any] = {
    "status": status(
        *BUSY["endpoints"],
        reload={"at": "2026-11-20T05:00:00.000Z", "ok": True, "message": "1 updated"},
        disabled=[{"name": "off", "protocol": "echo", "addresses": ["tcp://*:1"]}],
        control={"refused": {"not allowed": 1}},
    ),
    "changes": changes(
        added=[{"name": "new", "details": ["tcp://*:1"]}], unchanged=["echo"], daemon=["drain: 10s -> 20s"]
    ),
    "connections": {"connections": [connection(1, name="ann", identity="anna.example")], "more": False},
    "sources": {"by": "bytes", "sources": [source(refused={"access": 3})], "known": 30, "forgotten": 2},
    "kick": {"kicked": [1], "unknown": [2, "eve"]},
    "drain": {"endpoint": "echo", "finished": 1, "closed": 0},
    "upgrade": {
        "version": "0.2.0", "seconds": 0.4, "pause": 0.1, "connections": 4, "drained": 3, "listeners": 1
    },
}  # fmt: skip
ANSWERS |= dict.fromkeys(("diff", "reload"), ANSWERS["changes"])
ANSWERS |= dict.fromkeys(("suspend", "resume", "restart"), ANSWERS["drain"])
# A way to ask for each command.
WORDS = [
    "status", "status --json", "status echo --exit-code", "status --watch", "diff", "diff --json", "reload",
    "reload --json", "suspend echo", "resume echo", "restart echo", "drain echo", "connections",
    "connections --json", "sources", "sources --json", "kick 1 2 eve", "upgrade",
]  # fmt: skip


def leave() -> None:
    """Ctrl-C comes after the first page of `--watch`."""
    raise KeyboardInterrupt


class Asked:
    """Runs the command with an answer, in this process: gives the status and what was printed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._captured = monkeypatch, captured
        monkeypatch.setattr("sockd.cli.status.wait_for_the_next", leave)

    def __call__(self, words: str, answer: Any) -> tuple[int, str, str]:
        def ask(*_: object, **__: object) -> Any:
            if isinstance(answer, BaseException):
                raise answer
            return answer() if callable(answer) else answer

        self._monkeypatch.setattr(client, "ask", ask)
        self._monkeypatch.setattr(sys, "argv", ["sockd", *words.split()])
        with pytest.raises(SystemExit) as caught:
            main.main()
        assert isinstance(caught.value.code, int)
        return caught.value.code, *self._captured.readouterr()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Asked:
    return Asked(monkeypatch, capsys)


def safe(text: str) -> bool:
    return not UNSAFE.search(text.replace("\n", ""))


def everywhere(value: Any, text: str) -> Any:
    """The value with every text in it, those of times excepted, replaced by this one."""
    if isinstance(value, dict):
        return {
            key: each if key in ("since", "at", "last") else everywhere(each, text)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [everywhere(each, text) for each in value]
    return text if isinstance(value, str) else value


def test_every_command_is_tried() -> None:
    """One that is new has to be added above."""
    assert {words.split()[0] for words in WORDS} == set(COMMANDS)


@pytest.mark.parametrize("words", WORDS)
def test_hostile_texts(words: str, asked: Asked) -> None:
    """Wherever an answer, or a refusal, has a text: it drives no terminal and forges no line."""
    words = words.replace(" echo --exit-code", "")
    code, out, err = asked(words, everywhere(ANSWERS[words.split()[0]], HOSTILE))
    assert code != os.EX_PROTOCOL
    assert safe(out + err)
    assert "\nforged" not in out + err
    code, out, err = asked(words, Refused(70, HOSTILE))
    assert (code, out) == (70, "")
    assert safe(err)
    assert len(err.splitlines()) == 1


def test_json_is_what_was_answered(asked: Asked) -> None:
    """Escaped as JSON has it, DEL and C1 too."""
    answer = everywhere(ANSWERS["status"], HOSTILE)
    out = asked("status --json", answer)[1]
    assert json.loads(out) == answer
    assert out.isascii()


def variations(value: Any) -> Iterator[Any]:
    """The value with each part of it, one after the other, replaced by what nobody expects."""
    odd: Any
    for odd in (None, "x\x1b", -1, [], {"\x1b": []}, 10**400, float("inf"), float("nan"), True, [[["x"]]]):
        yield odd
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        for odd in variations(value[key]):
            changed = value.copy()
            changed[key] = odd
            yield changed
        if isinstance(value, dict):
            yield {other: each for other, each in value.items() if other != key}


@pytest.mark.parametrize("words", [words for words in WORDS if "--" not in words])
def test_odd_answers(words: str, asked: Asked) -> None:
    """Of whatever form: an output that is safe, or one line and the status 76; never a traceback."""
    answer = deepcopy(ANSWERS[words.split(maxsplit=1)[0]])
    if "endpoints" in answer:
        answer["endpoints"] = answer["endpoints"][1:]
    for odd in variations(answer):
        code, out, err = asked(words, odd)
        assert code in (0, 64, 76), (code, odd)
        assert safe(out + err), odd
        assert "Traceback" not in err, odd
        if code == 76:
            assert len(err.splitlines()) == 1, odd


def test_odd_answers_to_check(asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`check` by root asks whose file it is; what isn't sockd is as good as nobody."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    file = tmp_path / "my.yaml"
    file.write_text("endpoints: {a: {listen: 'tcp://*:1', protocol: echo}}")
    odd: Any
    for odd in (None, [], "x", float("inf"), float("nan"), 10**400, -1, "\x1b"):
        for answer in (odd, {"pid": odd, "file": str(file)}, {"pid": os.getpid(), "file": odd}):
            code, out, err = asked(f"check {file}", answer)
            assert (code, err) == (0, ""), answer
            assert out.startswith("endpoint")


def test_what_never_ends(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that always has more connections is asked for so many; one that has the same again isn't."""
    monkeypatch.setattr(control, "MOST_LISTED", 3)
    monkeypatch.setattr(sys, "argv", ["sockd", "connections", "--json"])
    last = 0

    def ask(*_: object, **__: object) -> Any:
        nonlocal last
        last += 1
        return {"connections": [connection(last)], "more": True}

    monkeypatch.setattr(client, "ask", ask)
    with pytest.raises(SystemExit):
        main.main()
    assert last == 3
    code, _, err = asked("connections", {"connections": [connection(1)], "more": True})
    assert code == 76
    assert err == "sockd's answer can't be shown: ValueError: the ids of connections don't ascend\n"


def test_what_takes_for_ever(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that come in time one by one: the command waits no longer than it says, and keeps so many."""
    clock = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    last = 0

    def ask(*_: object, **__: object) -> Any:
        nonlocal last
        last += 1
        return {"connections": [connection(last, peer="x" * size)], "more": True}

    size = 10
    code, _, err = asked("connections --timeout 5s", ask)
    assert (code, last, err) == (69, 4, "sockd did not list its connections within 5s\n")
    monkeypatch.setattr(control, "MOST_KEPT", 100_000)
    size, last = 30_000, 0
    assert asked("connections --json", ask)[0] == 0
    assert last == 4


def test_too_many_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that would fill the memory isn't read, however few bytes it has."""
    line = b'{"version":1,"ok":true,"result":[' + b"[]," * (language.MAX_ANSWER_BYTES // 4) + b"[]]}"
    assert len(line) < language.MAX_ANSWER_BYTES
    with pytest.raises(Refused, match="is not sockd: it has too much to say"):
        client.result_of("/x", line)


def test_a_refusal_without_end() -> None:
    """So many of its lines are shown, and so much of each."""
    refused = client.refusal_of({"status": 70, "problems": ["x" * 5000] * 1002})
    assert refused.problems[-1] == "and 2 more"
    assert (len(refused.problems), len(refused.problems[0])) == (1001, 4000)


@pytest.mark.parametrize(
    "words",
    [
        [HOSTILE],
        ["status", HOSTILE],
        ["status", f"--{HOSTILE}"],
        ["status", "--control", f"/nowhere/{HOSTILE}"],
        ["suspend", "--timeout", HOSTILE, "x"],
        ["check", HOSTILE],
        ["check", "-c", f"/nowhere/{HOSTILE}"],
        ["kick", f"{HOSTILE}/8"],
    ],
)
def test_hostile_command_lines(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The names of files, sockets and whatever else a script passes on."""
    monkeypatch.setattr(sys, "argv", ["sockd", *words])
    with pytest.raises(SystemExit) as caught:
        main.main()
    out, err = capsys.readouterr()
    assert caught.value.code
    assert safe(out + err)
    assert err


def test_hostile_environment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Directories that systemd or a user names."""
    for name in ("RUNTIME_DIRECTORY", "LOGS_DIRECTORY"):
        monkeypatch.setenv(name, f"/tmp/{HOSTILE}")
    monkeypatch.delenv("SOCKD_CONTROL", raising=False)
    monkeypatch.setattr(sys, "argv", ["sockd", "status"])
    with pytest.raises(SystemExit):
        main.main()
    assert safe(capsys.readouterr().err)


def test_a_bug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Its traceback is shown, and what was raised drives no terminal either."""

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError(HOSTILE)

    monkeypatch.setattr(main.Commands, "invoke", fail)
    monkeypatch.setattr(sys, "argv", ["sockd", "protocols"])
    with pytest.raises(SystemExit) as caught:
        main.main()
    assert caught.value.code == os.EX_SOFTWARE
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert safe(err)


def test_what_the_shell_may_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that the shell would take for something else isn't offered."""
    names = ["ann", "a;reboot", "$(reboot)", "a b", "x\ny", "\x1b[2J", "~root", "-rf", "été"]
    answer = {"connections": [connection(number, name=name) for number, name in enumerate(names)], "more": 0}
    monkeypatch.setattr(client, "ask", lambda *_, **__: answer)
    kick = main.command.commands["kick"]
    (who,) = (each for each in kick.params if each.name == "who")
    offered = who.shell_complete(click.Context(kick), "")
    assert [one.value for one in offered if not one.value.isdecimal()] == ["ann"]


# -- as a program of its own


def program(*words: str, environ: dict[str, str] | None = None, **streams: Any) -> "subprocess.Popen[bytes]":
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    return subprocess.Popen(
        [sys.executable, "-m", "sockd", *words], env={**os.environ, **(environ or {})}, **options
    )


@pytest.mark.parametrize(
    ("words", "environ"),
    [
        ("reload", {}),
        ("connections", {}),
        ("status --watch", {}),
        ("", {"_SOCKD_COMPLETE": "bash_complete", "COMP_WORDS": "sockd suspend ", "COMP_CWORD": "2"}),
    ],
)
def test_interrupted(words: str, environ: dict[str, str], tmp_path: Path) -> None:
    """Ctrl-C while a daemon doesn't answer: not a word, and the shell's status for it."""
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        command = program(*words.split(), environ={"SOCKD_CONTROL": str(path), **environ})
        caller, _ = server.accept()
        with caller:
            assert caller.recv(1)
            command.send_signal(signal.SIGINT)
            out, err = command.communicate(timeout=60)
    assert (command.returncode, out, err) == (130, b"", b"")


@pytest.mark.parametrize("words", ["schema", "protocols", "--help"])
def test_output_that_is_full(words: str) -> None:
    """One line says so."""
    with Path("/dev/full").open("wb") as full:
        command = program(words, stdout=full)
        err = command.communicate(timeout=60)[1]
    why = os.strerror(errno.ENOSPC)
    assert err.decode() in (f"sockd: can't write to standard output: {why}\n", f"sockd: {why}\n")
    assert command.returncode == 74


def test_output_that_is_closed() -> None:
    """It is missed by a command that has something to say."""
    script = f"exec {sys.executable} -m sockd schema >&-"
    closed = subprocess.run(["/bin/sh", "-c", script], stderr=subprocess.PIPE, check=False, timeout=60)
    assert (closed.returncode, closed.stderr) == (
        74, b"sockd: can't write to standard output: it is closed\n"
    )  # fmt: skip


def test_what_takes_the_place_of_closed_streams() -> None:
    """/dev/null: nothing that is opened later may get what is meant for a terminal, such as the log."""
    code = (
        "import os, sys; from sockd.cli.main import main; sys.argv = ['sockd', '--version']\n"
        "try: main()\n"
        "finally: print(*(os.readlink(f'/proc/self/fd/{fd}') for fd in (0, 1)), file=sys.stderr)"
    )
    script = 'exec "$0" -c "$1" <&- >&-'
    words = ["/bin/sh", "-c", script, sys.executable, code]
    result = subprocess.run(words, stderr=subprocess.PIPE, check=False, timeout=60)
    assert (result.returncode, result.stderr) == (0, b"/dev/null /dev/null\n")


def test_a_reader_that_leaves() -> None:
    """As `head` does: not a word, and the shell's status for it."""
    reader, writer = os.pipe()
    os.close(reader)
    command = program("schema", stdout=writer)
    os.close(writer)
    assert command.communicate(timeout=60)[1] == b""
    assert command.returncode == 128 + signal.SIGPIPE
