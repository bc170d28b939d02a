"""The README's first command, on a copy of the checkout as somebody gets it."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end import example
from tests.end_to_end.harness import ROOT, receive
from tests.end_to_end.programs import BOUND, Process, run

INSTALLING = 300.0  # seconds that the first start may take: pip fetches what the daemon needs
PORTS = example.free_ports()
FRESH = dict.fromkeys(("MAKEFLAGS", "MAKELEVEL", "MFLAGS"))  # none of a make that runs the tests
STARTING = 10.0  # seconds that a second start may take on a busy machine; less than one on an idle one
SETTING_UP = [
    "Setting up .venv, once; it takes a minute or so:",
    "  1 of 4: the environment ... N s",
    "  2 of 4: the packages that sockd needs ... N s",
    "  3 of 4: sockd itself ... N s",
    "  4 of 4: the plugins that twistd finds ... N s",
]
# Takes the place of Python: the environments that it makes have a python and a twistd that do nothing. An
# installation waits until there is python.go; an argument FAILS makes it fail.
FAKE_PYTHON = """#!/bin/sh
case "$*" in
"-m venv .venv") mkdir -p .venv/bin; for name in python twistd; do cp "$0" .venv/bin/$name; done ;;
*FAILS*) echo "pip says why" >&2; exit 3 ;;
*" install "*) until [ -f "$0.go" ]; do sleep 0.01; done ;;
esac
"""


@pytest.fixture(scope="module")
def checkout() -> Iterator[Path]:
    """What git would check out, in a new place with a short path, next to an empty home."""
    place = Path("/tmp") / f"sockd-make-{os.getpid()}"
    target = place / "checkout"
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout: which files belong to it is not known")
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    for name in ("README.md", "config/sockd.yaml"):
        (target / name).write_text(example.moved((ROOT / name).read_text(), PORTS))
    (place / "home").mkdir()
    yield target
    shutil.rmtree(place)


def make_run(checkout: Path) -> Process:
    """`make run` at a terminal, by somebody whose home is empty."""
    environment = {
        **FRESH,
        "COVERAGE_PROCESS_CONFIG": None,
        "HOME": str(checkout.parent / "home"),
        "PATH": "/usr/bin:/bin",
    }
    return Process(["make", f"PYTHON={sys.executable}", "run"], environment, checkout, terminal=True)


def rows(make: Process) -> dict[tuple[str, str], str]:
    """The command to try, by endpoint and kind of address, of each row of the table that it shows."""
    make.expect(r"^applog .* unixgram://.*hello")
    found = re.findall(r"^(\w+) +[\w-]+ +(\w+)://\S+ +(\S.*?)\r?$", make.text, re.MULTILINE)
    return {(endpoint, kind): command for endpoint, kind, command in found}


def masked(screen: str) -> list[str]:
    """The lines of a screen, with every time of day the same; root is warned of being root."""
    screen = re.sub(r"^\S+ warn .*root.*\r?\n", "", screen, flags=re.MULTILINE)
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "TIME", screen)
    return [line.rstrip() for line in text.strip().splitlines()]


def screen_of_the_readme(checkout: Path) -> str:
    """What the README shows below `make run`."""
    (shown,) = re.findall(
        r"^    \$ make run\n((?:    .*\n|\n)+)", (checkout / "README.md").read_text(), re.MULTILINE
    )
    return textwrap.dedent(shown)


@pytest.mark.slow
@pytest.mark.timeout(INSTALLING * 2)
def test_make_run(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It sets itself up, shows what the README shows, serves, and Ctrl-C stops it without a complaint."""
    took = []
    for bound in (INSTALLING, STARTING):
        began = time.monotonic()
        make = make_run(checkout)
        try:
            make.expect(r" serving: .*\n", bound)
            took.append(time.monotonic() - began)
            assert len(rows(make)) == 12
            said = masked(make.text)
            if bound == INSTALLING:
                assert [re.sub(r"\d+ s$", "N s", line) for line in said[: len(SETTING_UP)]] == SETTING_UP
                said = masked("\n".join(said[len(SETTING_UP) :]))
            assert said == masked(screen_of_the_readme(checkout))
            with socket.create_connection(("127.0.0.1", PORTS["echo"]), BOUND) as one:
                one.sendall(b"hello")
                assert receive(one, 5) == b"hello"
            make.send("\x03")
            assert make.wait() in (0, -signal.SIGINT)  # make itself ends by the signal, quietly
        finally:
            make.end()
        for complaint in ("***", "Traceback", "rror", "arning"):
            assert complaint not in make.text
        assert make.text.count(" warn ") == (os.getuid() == 0), make.text
    assert list((checkout.parent / "home").iterdir()) == []
    with capsys.disabled():
        sys.stdout.write(f"\nmake run served after {took[0]:.1f} s, again after {took[1]:.1f} s\n")


@pytest.mark.slow
@pytest.mark.timeout(INSTALLING * 2)
def test_the_suggested_commands_work(checkout: Path, program: Callable[..., Process]) -> None:
    """Each command of the table, typed as it stands, reaches its listener."""
    log = checkout / ".sockd" / "log" / "app.log"
    before = log.read_text() if log.exists() else ""
    make = make_run(checkout)
    try:
        make.expect(r"^applog .* unixgram://.*hello", INSTALLING)
        for (endpoint, kind), command in rows(make).items():
            if shutil.which(command.split()[0]) is None:
                pytest.skip(f"{command.split()[0]} is not installed (see .ci/run)")
            client = program("sh", "-c", f"exec {command}", cwd=checkout)
            if not command.startswith("logger"):
                client.send("hello\n")
            if endpoint == "applog":
                client.close_input()
                assert client.wait() == 0, client.text
            else:
                answers = {"echo": "^hello$", "lobby": "prove" if kind == "udp" else "guest"}
                client.expect(answers[endpoint])
        make.send("\x03")
        make.wait()
    finally:
        make.end()
    after = log.read_text()
    assert after.startswith(before)
    lines = after.removeprefix(before).splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == ["hello"] * 4


def test_make_alone_prints_the_targets(checkout: Path) -> None:
    """One line for each, with what it does."""
    one = subprocess.run(["make"], cwd=checkout, capture_output=True, text=True, timeout=BOUND, check=True)
    targets = re.findall(r"^  make (\w+)\s+\S", one.stdout, re.MULTILINE)
    assert {"run", "test", "lint"} <= set(targets)


@pytest.mark.parametrize("terminal", [True, False])
def test_each_step_is_said_before_it_is_taken(terminal: bool, tmp_path: Path) -> None:
    """What takes long on a fresh machine is not silent, at a terminal and without one."""
    python = fresh_machine(tmp_path)
    make = Process(["make", f"PYTHON={python}", ".venv/.ready-to-run"], FRESH, tmp_path, terminal=terminal)
    try:
        make.expect("\\.\\.\\. \\d+ s\r?\n.*the packages that sockd needs \\.\\.\\. $")
        (tmp_path / ".venv" / "bin" / "python.go").touch()
        assert make.wait() == 0
        assert [re.sub(r"\d+ s$", "N s", line) for line in masked(make.text)] == SETTING_UP
    finally:
        make.end()


def test_a_step_that_fails_ends_it(tmp_path: Path) -> None:
    """With pip's own words; the next time it begins again."""
    python = fresh_machine(tmp_path)
    one = run(["make", f"PYTHON={python}", "LOCKED=FAILS", ".venv/.ready-to-run"], FRESH, cwd=tmp_path)
    assert one.returncode == 2
    assert one.stdout.endswith("  2 of 4: the packages that sockd needs ... ")
    assert one.stderr.startswith("pip says why\n")
    assert not (tmp_path / ".venv" / ".ready-to-run").exists()


def fresh_machine(directory: Path) -> Path:
    """The Makefile and what it looks at, without a .venv; the Python to run it with."""
    (directory / ".ci").mkdir()
    for name in ("Makefile", "pyproject.toml", ".ci/requirements.txt"):
        shutil.copy(ROOT / name, directory / name)
    python = directory / "python"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    return python


def test_an_old_python_is_refused_in_one_line(checkout: Path) -> None:
    """The message says what is needed and how to name another Python."""
    old = checkout.parent / "old-python"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.9.2\nexit 1\n')
    old.chmod(0o755)
    (checkout / ".venv" / ".ready-to-run").unlink(missing_ok=True)
    one = subprocess.run(
        ["make", "run", f"PYTHON={old}"],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert one.returncode == 2
    line, complaint = one.stderr.splitlines()
    assert line == f"sockd needs Python 3.11 or newer: {old} is Python 3.9.2 (make PYTHON=…)"
    assert "***" in complaint
